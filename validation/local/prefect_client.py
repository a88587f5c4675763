"""Client of Prefect's command line and API for processes that do not import Prefect, and a check for Docker."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from validation.doctor.prefect_server import (
    CHECK_ADDRESS,
    SERVICE,
    PrefectRefused,
    hide_password,
    make_ssl_context,
    read_address,
    read_headers,
)
from validation.errors import BadInput, Permanent, Unreachable
from validation.exit_codes import ExitCode

COMMAND = ("docker", "buildx", "version")


class DockerMissing(BadInput):
    """Docker or its buildx plugin is missing, so this machine cannot build the image of the boxes."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"no image was built, because `{' '.join(COMMAND)}` fails ({reason}): install Docker with its buildx "
            "plugin, or build the image on another machine. The deployments that need no image are up to date; "
            "`vfleet bootstrap` without --image deploys all of them without building"
        )


def check_docker() -> None:
    """Check that Docker and its buildx plugin are installed.

    Raises:
        DockerMissing: Docker or the plugin is not installed.
    """
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True, check=False)
    except OSError as error:
        raise DockerMissing(f"docker: {error.strerror}") from None
    if done.returncode:
        raise DockerMissing((done.stderr or done.stdout).strip().partition("\n")[0] or f"exit code {done.returncode}")


def require_docker() -> dict[str, str]:
    """Exit with one sentence and exit code 2 if Docker is missing. prefect.yaml runs this as its first build step."""
    try:
        check_docker()
    except DockerMissing as error:
        sys.stderr.write(f"prefect deploy: {error}\n")
        raise SystemExit(int(ExitCode.BAD_INPUT)) from None
    return {}


PROJECT = Path(__file__).resolve().parents[2]
"""The project folder, with prefect.yaml and the flows."""

RETIRED_SCHEDULES = {
    "dispatch-chunks": {"every-minute"},
    "sweep-stale-claims": {"every-20-seconds", "orphans-hourly"},
    "reconcile-fleet": {"every-two-minutes"},
    "report-progress": {"every-ten-minutes"},
}
"""Schedules of earlier versions, by deployment. `operate-fleet` replaces them. `deploy_all` deletes them, because
Prefect keeps schedules that prefect.yaml no longer has."""

BLOCK_TYPES = "blocks.types"
"""The module of this project's block types."""


class PrefectCommandFailed(Permanent):
    """A `prefect` command ended with an error."""

    keeps_lines = True

    def __init__(self, command: str, output: str) -> None:
        self.command, self.output = command, output
        super().__init__(f"`{command}` failed:\n{output.strip()}")


class PrefectClient:
    """One Prefect server, used through its command line and its API."""

    def __init__(self, environment: Mapping[str, str], *, home: str = str(PROJECT)) -> None:
        self._environment = {**os.environ, **environment, "VFLEET_HOME": home}
        self._api_url, self._headers = read_address(self._environment), read_headers(self._environment)
        self._authorities = make_ssl_context(self._environment)

    def run(self, *arguments: str) -> str:
        """Run `prefect <arguments>` in the project's folder and return its output.

        The command prints symbols that are not ASCII, so it writes UTF-8 in any locale.

        Raises:
            PrefectCommandFailed: the command failed; the error has the command and its output.
        """
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
            cwd=PROJECT,
            env=self._environment | {"PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            raise PrefectCommandFailed(f"prefect {' '.join(arguments)}", done.stdout + done.stderr)
        return done.stdout

    def bootstrap(self, *, image: str | None = None) -> None:
        """Set up a server: everything that `deploy_all` creates, and this project's block types.

        Args:
            image: ``registry/name:tag`` of the boxes' image, which is built and pushed last; None builds no image.

        Raises:
            DockerMissing: an image is wanted, and Docker or buildx is missing; all other steps are done.
        """
        self.deploy_all()
        self.run("block", "register", "--module", BLOCK_TYPES)
        if image is not None:
            check_docker()
            with self._restore_pauses():
                self._build(image)

    def deploy_all(self) -> None:
        """Create or update work pools, deployments and automations. A repeated call changes nothing.

        An automation that names a missing block is left out. ``RETIRED_SCHEDULES`` and duplicates of automations are
        deleted.

        Raises:
            PrefectRefused, Unreachable: the server refuses the credentials, or does not answer.
            BadInput: a work pool of the same name has another type.
            PrefectCommandFailed: a command failed, as in ``run``.
        """
        if found := self._make_pool("vast-gpu", "vast-gpu"):
            self._renew_template(found)
        self._make_pool("control", "process")
        with self._restore_pauses(), without_image(PROJECT / "prefect.yaml") as plain:
            self.run("deploy", "--all", "--prefect-file", str(plain))
        self._delete_retired_schedules()
        for wanted in yaml.safe_load((PROJECT / "automations.yaml").read_text(encoding="utf-8"))["automations"]:
            if (complete := self._fill_in_blocks(wanted)) is not None:
                self._automate(complete)

    def _fill_in_blocks(self, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
        """Replace the block names in an automation's actions by block ids; None if a block is missing."""
        actions = []
        for action in wanted["actions"]:
            if (name := action.get("block_document")) is None:
                actions.append(action)
                continue
            found = self._call("POST", "/block_documents/filter", block_documents={"name": {"any_": [name]}})
            if not found:
                return None
            given = {key: value for key, value in action.items() if key != "block_document"}
            actions.append(given | {"block_document_id": found[0]["id"]})
        return {**wanted, "actions": actions}

    @contextmanager
    def _restore_pauses(self) -> Iterator[None]:
        """Pause the paused deployments again after the block, because `prefect deploy` resumes every deployment."""
        paused = [one["id"] for one in self._call("POST", "/deployments/filter") if one["paused"]]
        try:
            yield
        finally:
            for deployment in paused:
                self._call("POST", f"/deployments/{deployment}/pause_deployment")

    def _build(self, image: str) -> None:
        """Build and push the boxes' image, and deploy the flow that runs in it."""
        name, _, tag = image.rpartition(":")
        self._environment |= {"VFLEET_IMAGE": name, "VFLEET_IMAGE_TAG": tag}
        self.run("deploy", "--name", "validate-chunk")

    def _delete_retired_schedules(self) -> None:
        """Delete the schedules of ``RETIRED_SCHEDULES`` that the server still has."""
        for deployment in self._call("POST", "/deployments/filter"):
            retired = RETIRED_SCHEDULES.get(deployment["name"], set())
            for schedule in deployment["schedules"]:
                if schedule.get("slug") in retired:
                    self._call("DELETE", f"/deployments/{deployment['id']}/schedules/{schedule['id']}")

    def _make_pool(self, name: str, kind: str) -> dict[str, Any] | None:
        """Create a work pool and return None, or return the existing pool, which keeps the operator's settings.

        Raises:
            BadInput: a work pool of this name has another type.
        """
        named = self._call("POST", "/work_pools/filter", work_pools={"name": {"any_": [name]}})
        found: dict[str, Any] | None = next(iter(named), None)
        if found is None:
            self.run("work-pool", "create", name, "--type", kind)
        elif found["type"] != kind:
            raise BadInput(f"work pool {name} is for workers of the type {found['type']}, not {kind}: delete it first")
        return found

    def _renew_template(self, pool: Mapping[str, Any]) -> None:
        """Replace the base job template of a work pool if it differs from the template of this version."""
        wanted = json.loads(self.run("work-pool", "get-default-base-job-template", "--type", pool["type"]))
        if pool["base_job_template"] != wanted:
            self._call("PATCH", f"/work_pools/{pool['name']}", base_job_template=wanted)

    def _automate(self, wanted: Mapping[str, Any]) -> None:
        """Create an automation, or update the one of the same name if it differs. Delete duplicates of the name."""
        existing = self._call("POST", "/automations/filter", limit=200)
        found, *duplicates = [one for one in existing if one["name"] == wanted["name"]] or [None]
        if found is None:
            self._call("POST", "/automations/", **wanted)
        elif not is_superset(found, wanted):
            self._call("PUT", f"/automations/{found['id']}", **wanted)
        for duplicate in duplicates:
            self._call("DELETE", f"/automations/{duplicate['id']}")

    def reschedule(self, deployment: str, *, every_s: int) -> None:
        """Set the period of every schedule of a deployment."""
        for schedule in self._deployment(deployment)["schedules"]:
            rule = schedule["schedule"] | {"interval": every_s}
            self._call("PATCH", f"/deployments/{schedule['deployment_id']}/schedules/{schedule['id']}", schedule=rule)

    def set_parameters(self, deployment: str, **parameters: Any) -> None:
        """Set the default parameters of a deployment."""
        self._call("PATCH", f"/deployments/{self._deployment(deployment)['id']}", parameters=parameters)

    def flow_runs(self, **filters: Any) -> list[dict[str, Any]]:
        """Return up to 200 flow runs, newest first. The filters are those of the API's `/flow_runs/filter`."""
        return list(self._call("POST", "/flow_runs/filter", sort="EXPECTED_START_TIME_DESC", **filters))

    def task_runs(self, name: str) -> list[dict[str, Any]]:
        """Return up to 200 task runs whose name contains ``name``."""
        return list(self._call("POST", "/task_runs/filter", task_runs={"name": {"like_": name}}))

    def count_states(self) -> Counter[str]:
        """Return the number of the newest 200 `validate-chunk` flow runs per state name."""
        chunks = self.flow_runs(deployments={"name": {"any_": ["validate-chunk"]}})
        return Counter(run["state_name"] for run in chunks)

    def _deployment(self, name: str) -> dict[str, Any]:
        return dict(self._call("GET", f"/deployments/name/{name}/{name}"))

    def _call(self, method: str, path: str, **body: Any) -> Any:
        """Send a request to the API and return the answer; None for an empty answer.

        Raises:
            PrefectRefused, Unreachable, BadInput: as ``validation.doctor.prefect_server.ask_prefect``, but status 404
                is Unreachable.
        """
        transport, address = RetryingTransport(verify=self._authorities), hide_password(self._api_url)
        try:
            with httpx.Client(transport=transport, base_url=self._api_url, headers=self._headers, timeout=30) as http:
                reply = http.request(method, path, json=body or None)
            if reply.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
                raise PrefectRefused(address, reply.status_code)
            if not reply.is_success:
                raise Unreachable(SERVICE, address, "look at its log", f"{method} {path}: status {reply.status_code}")
            return reply.json() if reply.content else None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise Unreachable(SERVICE, address, CHECK_ADDRESS, error) from None
        except ValueError:  # the response comes from another program
            raise BadInput(f"{address} is not the API of a Prefect server: {CHECK_ADDRESS}") from None


class RetryingTransport(httpx.HTTPTransport):
    """A transport that retries after status 503, which a Prefect server on SQLite sends while the database is busy."""

    MAX_TRIES = 30

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request up to ``MAX_TRIES`` times until its status is not 503; return the last response."""
        for _ in range(self.MAX_TRIES - 1):
            reply = super().handle_request(request)
            if reply.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return reply
            reply.close()
            time.sleep(1)
        return super().handle_request(request)


@contextmanager
def without_image(prefect_file: Path) -> Iterator[Path]:
    """Yield the path of a temporary copy of prefect.yaml without build and push steps, so that no Docker is needed."""
    described = yaml.safe_load(prefect_file.read_text(encoding="utf-8"))
    for deployment in described["deployments"]:
        deployment.pop("build", None)
        deployment.pop("push", None)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".yaml") as plain:
        yaml.safe_dump(described, plain)
        plain.flush()
        yield Path(plain.name)


def is_superset(found: Any, wanted: Any) -> bool:
    """Return whether a server's object has every wanted value. It may have more values, such as ids and defaults."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(is_superset(found.get(key), wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        if not isinstance(found, list) or len(found) != len(wanted):
            return False
        return all(
            any(is_superset(one, other) for one in found) for other in wanted
        )  # the server does not keep the order
    return bool(found == wanted)

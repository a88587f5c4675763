"""The Prefect commands and questions of an operator, for processes that may not import prefect."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from validation.errors import Permanent

PROJECT = Path(__file__).resolve().parents[2]
"""Where prefect.yaml and the flows are."""

AUTOMATION = "crash-silent-runs"
"""The one of automations.yaml: Prefect has no command that replaces one by name."""


class PrefectCommandFailed(Permanent):
    """A `prefect` command ended with an error."""

    def __init__(self, command: str, output: str) -> None:
        self.command, self.output = command, output
        super().__init__(f"`{command}` failed:\n{output.strip()}")


class PrefectClient:
    """One Prefect server, spoken to as an operator does: by its command line, and by its API for counts."""

    def __init__(self, environment: Mapping[str, str], *, home: str = str(PROJECT)) -> None:
        self._environment = {**os.environ, **environment, "VFLEET_HOME": home}
        self._api_url = environment["PREFECT_API_URL"]

    def run(self, *arguments: str) -> str:
        """Run `prefect <arguments>` in the project's folder and return what it printed.

        Raises:
            PrefectCommandFailed: with the command and all that it printed.
        """
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
            cwd=PROJECT,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise PrefectCommandFailed(f"prefect {' '.join(arguments)}", done.stdout + done.stderr)
        return done.stdout

    def deploy_all(self) -> None:
        """Bring pools, deployments and automations to what this project says. Repeating it changes nothing."""
        self.run("work-pool", "create", "vast-gpu", "--type", "vast-gpu", "--overwrite")
        self.run("work-pool", "create", "control", "--type", "process", "--overwrite")
        self.run("deploy", "--all")
        with suppress(PrefectCommandFailed):  # there is none yet
            self.run("automation", "delete", AUTOMATION)
        self.run("automation", "create", "--from-file", "automations.yaml")

    def reschedule(self, deployment: str, *, every_s: int) -> None:
        """Give every schedule of a deployment another period."""
        for schedule in self._deployment(deployment)["schedules"]:
            rule = schedule["schedule"] | {"interval": every_s}
            self._call("PATCH", f"/deployments/{schedule['deployment_id']}/schedules/{schedule['id']}", schedule=rule)

    def set_parameters(self, deployment: str, **parameters: Any) -> None:
        """Give a deployment other default parameters."""
        self._call("PATCH", f"/deployments/{self._deployment(deployment)['id']}", parameters=parameters)

    def flow_runs(self, **filters: Any) -> list[dict[str, Any]]:
        """Read flow runs, newest first; filters as in the API's `/flow_runs/filter`."""
        return list(self._call("POST", "/flow_runs/filter", sort="EXPECTED_START_TIME_DESC", **filters))

    def task_runs(self, name: str) -> list[dict[str, Any]]:
        """Read task runs whose name contains this, up to 200."""
        return list(self._call("POST", "/task_runs/filter", task_runs={"name": {"like_": name}}))

    def count_states(self) -> Counter[str]:
        """Count the runs of chunks by the name of their state."""
        chunks = self.flow_runs(deployments={"name": {"any_": ["validate-chunk"]}})
        return Counter(run["state_name"] for run in chunks)

    def _deployment(self, name: str) -> dict[str, Any]:
        return dict(self._call("GET", f"/deployments/name/{name}/{name}"))

    def _call(self, method: str, path: str, **body: Any) -> Any:
        reply = httpx.request(method, f"{self._api_url}{path}", json=body or None, timeout=30)
        return reply.raise_for_status().json() if reply.content else reply.raise_for_status()

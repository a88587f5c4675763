"""Without Docker everything but the image is made, and one sentence says so. `prefect` runs in any locale."""

import os
import subprocess
import sys

import pytest

from validation.cli.main import main
from validation.errors import BadInput, Unreachable
from validation.local.prefect_client import DockerMissing, PrefectClient, check_docker

ADDRESS = "http://127.0.0.1:9/api"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (None, "docker: No such file or directory"),
        ('echo "docker: unknown command: docker buildx" >&2; exit 1', "unknown command: docker buildx"),
        ("exit 125", "exit code 125"),
    ],
)
def test_missing_docker_and_missing_buildx_are_named(tmp_path, monkeypatch, script, says):
    """The sentence quotes the first line of what Docker says, and names the way without Docker."""
    if script:
        (tmp_path / "docker").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DockerMissing, match=says) as missing:
        check_docker()
    assert "without --image deploys all of them without building" in str(missing.value)


def test_all_deployments_are_made_before_docker_is_missed(tmp_path, monkeypatch):
    """`vfleet bootstrap --image` deploys everything without building first."""
    done = []
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(PrefectClient, "deploy_all", lambda _: done.append("deploy_all"))
    monkeypatch.setattr(PrefectClient, "run", lambda _, *words: done.append(" ".join(words[:2])))
    with pytest.raises(DockerMissing):
        PrefectClient({"PREFECT_API_URL": ADDRESS}).bootstrap(image="registry/vfleet:1")
    assert done == ["deploy_all", "block register"]


def test_bootstrap_without_a_server_is_one_sentence(monkeypatch, capsys):
    """Exit 3: the same command may work when the server is up. The address is shown without its password."""
    monkeypatch.setenv("PREFECT_API_URL", "http://me:secret@127.0.0.1:9/api")
    assert main(["bootstrap"]) == 3
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"the Prefect server at {ADDRESS} is unreachable: check PREFECT_API_URL" in line


def test_another_program_at_the_address_is_no_prefect_server(monkeypatch):
    """A page of a proxy is not taken for an answer of the API."""

    class Page:
        status_code, is_success, content = 200, True, b"<html>"

        def json(self):
            raise ValueError("no JSON")

    monkeypatch.setattr("httpx.Client.request", lambda *_, **__: Page())
    with pytest.raises(BadInput, match="is not the API of a Prefect server"):
        PrefectClient({"PREFECT_API_URL": ADDRESS})._call("GET", "/health")
    Page.is_success, Page.status_code = False, 502
    with pytest.raises(Unreachable, match="status 502"):
        PrefectClient({"PREFECT_API_URL": ADDRESS})._call("GET", "/health")


def test_output_of_prefect_is_read_in_an_ascii_locale(tmp_path):
    """The borders of a table arrive, though neither process has a locale that can encode them."""
    ascii_locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    environment = os.environ | ascii_locale | {"PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": ADDRESS}
    script = "from validation.local.prefect_client import PrefectClient as C; print(ascii(C({}).run('profile', 'ls')))"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"\\u2500" in done.stdout

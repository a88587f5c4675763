"""The embedded Prefect server: one process with a Prefect home of its own and without telemetry."""

import os
import shlex
import sys
from pathlib import Path
from typing import ClassVar

from validation.domain import Seconds
from validation.local.loopback import HOST, ask_http
from validation.local.process import Program
from validation.local.service import EmbeddedService

SETTINGS_FILE = Path(__file__).resolve().parents[2] / "deploy/prefect-server.env"
"""The settings of a production server, with their reasons; the embedded server uses them too."""


class EmbeddedPrefect(EmbeddedService):
    """`prefect server start` on SQLite in `base_dir`, or on a Postgres database."""

    name: ClassVar[str] = "Prefect server"
    check: ClassVar[str] = "check that prefect and fastapi have the versions of constraints.lock"
    ready_timeout_s: ClassVar[Seconds] = 180.0  # its first start migrates a new database: 30 s on two busy cores

    def __init__(
        self,
        base_dir: Path,
        *,
        port: int | None = None,
        database_url: str | None = None,
        auth_string: str | None = None,
    ) -> None:
        super().__init__(base_dir, port=port)
        self._database_url, self._auth_string = database_url, auth_string

    @property
    def ui_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def api_url(self) -> str:
        return f"{self.ui_url}/api"

    def client_environment(self) -> dict[str, str]:
        password = {"PREFECT_API_AUTH_STRING": self._auth_string} if self._auth_string else {}
        return {"PREFECT_API_URL": self.api_url, **password, **self._privacy_settings()}

    def program(self) -> Program:
        """The command, in an environment without the settings of any other Prefect."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        password = {"PREFECT_SERVER_API_AUTH_STRING": self._auth_string} if self._auth_string else {}
        own = self._privacy_settings() | self._address() | self._database() | password
        settings = read_settings_file(SETTINGS_FILE) | own
        return Program([sys.executable, "-m", "prefect", "server", "start"], inherited | settings)

    def why_not_ready(self) -> str | None:
        return ask_http(self.port, "GET", "/api/health")

    def _privacy_settings(self) -> dict[str, str]:
        return {
            "PREFECT_HOME": str(self.base_dir),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            "DO_NOT_TRACK": "1",
        }

    def _address(self) -> dict[str, str]:
        """Settings instead of command options, because the UI pages read the API's address from the settings only."""
        return {"PREFECT_SERVER_API_HOST": HOST, "PREFECT_SERVER_API_PORT": str(self.port)}

    def _database(self) -> dict[str, str]:
        if self._database_url is None:
            return {}
        authority = self._database_url.partition("://")[2]
        # Prefect connects to Postgres through asyncpg only, so the URL's driver is replaced.
        return {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{authority}"}


def read_settings_file(path: Path) -> dict[str, str]:
    """Read one assignment per line with shell quoting and comments."""
    words = shlex.split(path.read_text(), comments=True)
    return dict(word.split("=", 1) for word in words)

"""The embedded Prefect server: one process, in a Prefect home of its own, that tells nobody about itself."""

import os
import sys
from pathlib import Path
from typing import ClassVar

from validation.domain import Seconds
from validation.local.loopback import HOST, ask_http
from validation.local.process import Program
from validation.local.service import EmbeddedService

_BATCHES = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TRIGGERS_READ_BATCH_SIZE": "200",
}
"""Prefect records task runs and events one by one unless told otherwise. In batches a task run costs the
server 10 ms of CPU instead of 40, and 50 a second leave no backlog, where one by one it grows without end."""

_LIMITS = {
    "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": "30",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}
"""How long a flow run whose process died keeps its deployment's only place; one that lives renews it. By default five
minutes, in which no control flow runs after the control worker was killed; and in memory, so that with the server the
lease is forgotten and the place, which the database remembers, is taken for ever."""


class EmbeddedPrefect(EmbeddedService):
    """`prefect server start` on SQLite in `base_dir`, or on the Postgres database whose URL it is given."""

    name: ClassVar[str] = "Prefect server"
    check: ClassVar[str] = "check that prefect and fastapi have the versions of constraints.lock"
    ready_within_s: ClassVar[Seconds] = 180.0  # its first start migrates a new database: 30 s on two busy cores

    def __init__(self, base_dir: Path, *, port: int | None = None, database_url: str | None = None) -> None:
        super().__init__(base_dir, port=port)
        self._database_url = database_url

    @property
    def ui_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def api_url(self) -> str:
        return f"{self.ui_url}/api"

    def client_environment(self) -> dict[str, str]:
        return {"PREFECT_API_URL": self.api_url, **self._discretion()}

    def program(self) -> Program:
        """The command, in an environment without the settings of any other Prefect."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        settings = self._discretion() | self._address() | self._database() | _BATCHES | _LIMITS
        return Program([sys.executable, "-m", "prefect", "server", "start"], inherited | settings)

    def why_not_ready(self) -> str | None:
        return ask_http(self.port, "GET", "/api/health")

    def _discretion(self) -> dict[str, str]:
        return {
            "PREFECT_HOME": str(self.base_dir),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            "DO_NOT_TRACK": "1",
        }

    def _address(self) -> dict[str, str]:
        """Settings rather than options of the command: the pages learn the API's address from these alone."""
        return {"PREFECT_SERVER_API_HOST": HOST, "PREFECT_SERVER_API_PORT": str(self.port)}

    def _database(self) -> dict[str, str]:
        if self._database_url is None:
            return {}
        authority = self._database_url.partition("://")[2]
        # Prefect speaks to Postgres through asyncpg alone, whatever driver the URL names.
        return {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{authority}"}

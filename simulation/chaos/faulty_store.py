"""The faulty line as a server of the embedded stack."""

import os
import sys
from pathlib import Path
from typing import ClassVar

from simulation.chaos.network_faults import NONE, FaultProfile, write_profile
from validation.domain import Seconds
from validation.local.loopback import HOST, ask_http
from validation.local.objectstore import EmbeddedObjectStore
from validation.local.process import Program
from validation.local.service import EmbeddedService


class FaultyStore(EmbeddedService):
    """The way to the object store that the fleet knows. The run itself takes the direct one."""

    name: ClassVar[str] = "Faulty line"
    check: ClassVar[str] = "check that the object store runs"
    ready_within_s: ClassVar[Seconds] = 30.0

    def __init__(
        self, base_dir: Path, store: EmbeddedObjectStore, *, poison_path: str, mark: str, latency_s: Seconds = 0.0
    ) -> None:
        super().__init__(base_dir)
        self._store, self._poison_path, self._mark, self._latency_s = store, poison_path, mark, latency_s

    def client_environment(self) -> dict[str, str]:
        return self._store.client_environment() | {"R2_ENDPOINT_URL": f"http://{HOST}:{self.port}"}

    def set_profile(self, weather: FaultProfile) -> None:
        write_profile(self._weather_file, weather)

    def prepare(self) -> None:
        super().prepare()
        self.set_profile(NONE)

    def program(self) -> Program:
        words = [self.port, self._store.port, self._latency_s, self._weather_file, self._poison_path, self._mark]
        command = [sys.executable, "-m", "simulation.chaos.proxy", *map(str, words)]
        return Program(command, os.environ)

    def why_not_ready(self) -> str | None:
        return ask_http(self.port, "GET", "/moto-api/")

    @property
    def _weather_file(self) -> Path:
        return self.base_dir / "weather.json"

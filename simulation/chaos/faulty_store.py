"""Run the proxy with network faults as a server of the embedded stack."""

import os
import sys
from pathlib import Path
from typing import ClassVar

from simulation.chaos.network_faults import NONE, FaultProfile, write_profile
from validation.domain import Seconds
from validation.local.process import Program
from validation.local.service import HOST, EmbeddedService, try_http
from validation.local.stack import EmbeddedObjectStore


class FaultyStore(EmbeddedService):
    """The proxy through which the fleet reaches the object store. The checks of a run use the store directly."""

    name: ClassVar[str] = "Faulty store"
    check: ClassVar[str] = "check that the object store runs"
    ready_timeout_s: ClassVar[Seconds] = 30.0

    def __init__(
        self, base_dir: Path, store: EmbeddedObjectStore, *, poison_path: str, mark: str, latency_s: Seconds = 0.0
    ) -> None:
        super().__init__(base_dir)
        self._store, self._poison_path, self._mark, self._latency_s = store, poison_path, mark, latency_s

    def client_environment(self) -> dict[str, str]:
        return self._store.client_environment() | {"R2_ENDPOINT_URL": f"http://{HOST}:{self.port}"}

    def set_profile(self, profile: FaultProfile) -> None:
        write_profile(self._profile_file, profile)

    def prepare(self) -> None:
        super().prepare()
        self.set_profile(NONE)

    def program(self) -> Program:
        arguments = [self.port, self._store.port, self._latency_s, self._profile_file, self._poison_path, self._mark]
        command = [sys.executable, "-m", "simulation.chaos.proxy", *map(str, arguments)]
        return Program(command, os.environ)

    def why_not_ready(self) -> str | None:
        return try_http(self.port, "GET", "/moto-api/")

    @property
    def _profile_file(self) -> Path:
        return self.base_dir / "profile.json"

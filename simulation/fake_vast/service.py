"""Run the fake of Vast.ai as a server process of the embedded stack."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import httpx

from simulation.fake_vast.cloud import ACCOUNT_KEY
from validation.domain import Seconds
from validation.local.process import Program
from validation.local.service import HOST, EmbeddedService, try_http


class EmbeddedVast(EmbeddedService):
    """A fake of Vast.ai on loopback, with a market, an account with credit, and rentals in virtual time."""

    name: ClassVar[str] = "Fake Vast"
    check: ClassVar[str] = "read its log"
    ready_timeout_s: ClassVar[Seconds] = 30.0

    def __init__(self, base_dir: Path, *, seed: int = 0, port: int | None = None) -> None:
        super().__init__(base_dir, port=port)
        self._seed = seed

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def client_environment(self) -> dict[str, str]:
        return {"VAST_URL": self.url, "VAST_API_KEY": ACCOUNT_KEY}

    def program(self) -> Program:
        module = "simulation.fake_vast.server"
        return Program([sys.executable, "-m", module, str(self.port), str(self._seed)], os.environ)

    def why_not_ready(self) -> str | None:
        return try_http(self.port, "GET", "/__fake/state")

    def state(self) -> dict[str, Any]:
        """Return the internal state of the fake, as ``server.describe`` defines it."""
        return dict(self._control("GET", "state", {}))

    def advance(self, seconds: Seconds) -> None:
        """Advance the virtual time."""
        self._control("POST", "advance", {"seconds": seconds})

    def play(self, **scenario: Any) -> None:
        """Change the state of the fake. ``server.play_scenario`` defines the keys."""
        self._control("POST", "scenario", scenario)

    def _control(self, method: str, what: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        answer = httpx.request(method, f"{self.url}/__fake/{what}", json=dict(body), trust_env=False)
        answer.raise_for_status()
        return dict(answer.json())

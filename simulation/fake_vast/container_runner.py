"""Real processes on the fake's machines: what a container's start and its end at the vendor's come to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGKILL
from types import TracebackType
from typing import Any, Self

from simulation.fake_vast.service import EmbeddedVast
from validation.local.process import Child, Program


class ContainerRunner:
    """Runs the image's entrypoint on every machine that the fake says is running, and kills it when it no longer is.

    A container knows what the image sets, what the order told it, and what the vendor adds: its id, a key that opens
    this one rental, and here also where the API is.
    """

    def __init__(self, vast: EmbeddedVast, entrypoint: Sequence[str], image: Mapping[str, str], folder: Path) -> None:
        self._vast, self._entrypoint, self._image, self._folder = vast, entrypoint, image, folder
        self._boxes: dict[int, Child] = {}

    def sync(self) -> None:
        """Start what runs and does not yet; end, without a farewell, what does not run any more."""
        running = {machine["id"]: machine for machine in self._vast.state()["living"] if machine["status"] == "running"}
        for number in self._boxes.keys() - running.keys():
            self._boxes.pop(number).end(SIGKILL, grace_s=0)
        for number in running.keys() - self._boxes.keys():
            self._boxes[number] = self._start(running[number])

    def has_ended(self, number: int) -> bool:
        """Whether a machine's entrypoint has ended by itself, though the machine runs."""
        return self._boxes[number].exit_status() is not None

    def log_tail(self) -> str:
        """The last words of every box."""
        return "\n".join(box.log_tail(40) for box in self._boxes.values())

    def _start(self, machine: Mapping[str, Any]) -> Child:
        told = {"CONTAINER_ID": str(machine["id"]), "CONTAINER_API_KEY": machine["key"], "VAST_URL": self._vast.url}
        box = Child(f"box-{machine['id']}", self._folder)
        box.launch(Program(self._entrypoint, {**self._image, **machine["env"], **told}), orphan_signal=SIGKILL)
        return box

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for box in self._boxes.values():
            box.end(SIGKILL, grace_s=0)

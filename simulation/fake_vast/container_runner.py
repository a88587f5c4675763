"""Run the containers of the fake's instances as processes on this machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGKILL
from types import TracebackType
from typing import Any, Self

from simulation.fake_vast.service import EmbeddedVast
from validation.local.process import Child, Program


class ContainerRunner:
    """Runs the image's entrypoint for every instance that the fake reports as running, and kills it afterwards.

    The environment of a process has the variables of the image, of the create request, and of the vendor. The vendor's
    variables are the instance's id, an API key for this instance only, and the address of the fake API.
    """

    def __init__(self, vast: EmbeddedVast, entrypoint: Sequence[str], image: Mapping[str, str], folder: Path) -> None:
        self._vast, self._entrypoint, self._image, self._folder = vast, entrypoint, image, folder
        self._boxes: dict[int, Child] = {}

    def sync(self) -> None:
        """Start a process for each running instance without one. Kill the processes of instances that no longer run."""
        running = {
            instance["id"]: instance for instance in self._vast.state()["living"] if instance["status"] == "running"
        }
        for number in self._boxes.keys() - running.keys():
            self._boxes.pop(number).end(SIGKILL, grace_s=0)
        for number in running.keys() - self._boxes.keys():
            self._boxes[number] = self._start(running[number])

    def has_ended(self, number: int) -> bool:
        """Return whether the entrypoint of an instance has exited without being killed by the runner."""
        return self._boxes[number].exit_status() is not None

    def log_tail(self) -> str:
        """Return the last 40 lines of every process's log."""
        return "\n".join(box.log_tail(40) for box in self._boxes.values())

    def _start(self, instance: Mapping[str, Any]) -> Child:
        vendor_environment = {
            "CONTAINER_ID": str(instance["id"]),
            "CONTAINER_API_KEY": instance["key"],
            "VAST_URL": self._vast.url,
        }
        box = Child(f"box-{instance['id']}", self._folder)
        box.launch(
            Program(self._entrypoint, {**self._image, **instance["env"], **vendor_environment}), orphan_signal=SIGKILL
        )
        return box

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for box in self._boxes.values():
            box.end(SIGKILL, grace_s=0)

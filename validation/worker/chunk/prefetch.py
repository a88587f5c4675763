"""How far downloads may run ahead of scoring: bounded in videos and in bytes, without ever standing still."""

import threading


class Stopped(Exception):
    """The chunk ended while a fetcher waited for room."""


class PrefetchLimiter:
    """Room for decoded videos that wait to be scored.

    A fetcher waits for room before each video, so the bounds may be overshot by one video a fetcher. The group that
    is scored next always has room: otherwise its last videos could wait for room that only its scoring can free.
    """

    def __init__(self, *, max_videos: int, max_bytes: int) -> None:
        self.max_videos, self.max_bytes = max_videos, max_bytes
        self.peak_bytes = 0
        self._videos = self._bytes = self._head = 0
        self._stopped = False
        self._changed = threading.Condition()

    def enter(self, group: int) -> None:
        """Wait for room for one video of ``group``, then take it.

        Raises:
            Stopped: the chunk ended meanwhile.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or group <= self._head or self._has_room())
            if self._stopped:
                raise Stopped
            self._videos += 1

    def fill(self, size_bytes: int) -> None:
        """Account for the decoded audio of a video that has entered."""
        with self._changed:
            self._bytes += size_bytes
            self.peak_bytes = max(self.peak_bytes, self._bytes)

    def leave(self, size_bytes: int) -> None:
        """Give the room of one video back."""
        with self._changed:
            self._videos -= 1
            self._bytes -= size_bytes
            self._changed.notify_all()

    def advance(self, group: int) -> None:
        """Tell which group is scored next."""
        with self._changed:
            self._head = group
            self._changed.notify_all()

    def stop(self) -> None:
        """Turn away every fetcher that waits or comes later."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._videos < self.max_videos and self._bytes < self.max_bytes

"""Limit how far downloads run ahead of scoring, in videos and in bytes of decoded audio."""

import threading


class ChunkStopped(Exception):
    """The chunk ended while a fetcher waited in ``PrefetchLimiter.acquire``."""


class PrefetchLimiter:
    """A limit on the decoded videos that wait to be scored, by a number of places and by bytes.

    A fetcher acquires a place before it fetches a video, when the size of the audio is unknown. So each fetcher may
    exceed the byte limit by one video. The head group, which is scored next, always gets a place, even above both
    limits. Otherwise its last videos could wait for places that only the scoring of this group frees: a deadlock.
    """

    def __init__(self, *, max_videos: int, max_bytes: int) -> None:
        self.max_videos, self.max_bytes = max_videos, max_bytes
        self._videos = self._bytes = self._head = 0
        self._stopped = False
        self._changed = threading.Condition()

    @property
    def held_bytes(self) -> int:
        """Bytes of decoded audio that are counted now."""
        with self._changed:
            return self._bytes

    def acquire(self, group: int) -> None:
        """Wait until a video of the group with this number may be fetched, and occupy one place for it.

        Raises:
            ChunkStopped: the chunk has ended.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or group <= self._head or self._has_room())
            if self._stopped:
                raise ChunkStopped
            self._videos += 1

    def add_bytes(self, size_bytes: int) -> None:
        """Count the bytes of the decoded audio of a video that has a place."""
        with self._changed:
            self._bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """Free the place of one video, and subtract the bytes that ``add_bytes`` counted for it."""
        with self._changed:
            self._videos -= 1
            self._bytes -= size_bytes
            self._changed.notify_all()

    def set_head(self, group: int) -> None:
        """Set the number of the head group."""
        with self._changed:
            self._head = group
            self._changed.notify_all()

    def stop(self) -> None:
        """Raise ``ChunkStopped`` in every fetcher that waits now or acquires later."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _has_room(self) -> bool:
        """Return whether another video fits both limits; the caller holds the lock."""
        return self._videos < self.max_videos and self._bytes < self.max_bytes

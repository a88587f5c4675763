"""The embedded object store: an S3-compatible server that keeps objects while it runs."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from validation.domain import Seconds
from validation.local.loopback import HOST, ask_http
from validation.local.process import Program
from validation.local.service import EmbeddedService

_SPOOL_BYTES = 65_536
"""Objects above this size are kept in unlinked temporary files. In memory, 1 GB of uploads came to 4.7 GB."""


class EmbeddedObjectStore(EmbeddedService):
    """The S3 server of moto, with conditional writes, ranges and multipart uploads like R2; it accepts any credentials.

    Objects are lost when the server stops; the buckets are created again at each start.
    """

    name: ClassVar[str] = "Object store"
    check: ClassVar[str] = "check that moto[server] is installed (the extra `local` has it)"
    ready_timeout_s: ClassVar[Seconds] = 60.0
    access_key_id: ClassVar[str] = "local"
    secret_access_key: ClassVar[str] = "local"  # noqa: S105 - the server accepts any

    def __init__(self, base_dir: Path, *, buckets: Sequence[str] = (), port: int | None = None) -> None:
        super().__init__(base_dir, port=port)
        self._buckets = list(buckets)

    @property
    def endpoint_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def client_environment(self) -> dict[str, str]:
        return {
            "R2_ENDPOINT_URL": self.endpoint_url,
            "R2_ACCESS_KEY_ID": self.access_key_id,
            "R2_SECRET_ACCESS_KEY": self.secret_access_key,
        }

    def create_bucket(self, name: str) -> None:
        """Create a bucket, now and at each restart. An existing bucket is kept.

        Raises:
            LocalServiceFailed: the server refused.
        """
        if (reason := ask_http(self.port, "PUT", f"/{name}")) is not None:
            raise self.failure(reason)
        self._buckets.append(name)

    def prepare(self) -> None:
        self._spool.mkdir(parents=True, exist_ok=True)

    def program(self) -> Program:
        spooling = {"MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(_SPOOL_BYTES), "TMPDIR": str(self._spool)}
        return Program(
            [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(self.port)],
            {**os.environ, **spooling},
        )

    def why_not_ready(self) -> str | None:
        """The server is ready when its buckets exist."""
        asked = (ask_http(self.port, "PUT", f"/{bucket}") for bucket in self._buckets)
        return ask_http(self.port, "GET", "/moto-api/") or next(filter(None, asked), None)

    @property
    def _spool(self) -> Path:
        return self.base_dir / "spool"

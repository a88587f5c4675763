"""The base class of the clients of vendors' HTTP APIs, with bearer token, time-outs and the error ``Unreachable``."""

from types import TracebackType
from typing import Self

import httpx
from pydantic import SecretStr

from validation.errors import Unreachable

TIMEOUT = httpx.Timeout(30.0, connect=10.0)
"""10 s to connect, and 30 s without progress of a request."""


class VendorApi:
    """A client of one vendor's HTTP API, with one token. As a context manager it closes its connections."""

    def __init__(
        self,
        vendor: str,
        base_url: str,
        token: SecretStr,
        *,
        follow_redirects: bool = False,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._vendor, self._base_url = vendor, base_url
        self._http = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {token.get_secret_value()}"},
            timeout=TIMEOUT,
            follow_redirects=follow_redirects,
            transport=transport,
        )

    def _unreachable(self, cause: object) -> Unreachable:
        check = f"check the network and the status page of {self._vendor}"
        return Unreachable(self._vendor, self._base_url, check, cause)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

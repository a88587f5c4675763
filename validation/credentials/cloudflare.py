"""Temporary credentials of the object store, made by Cloudflare: for one bucket, one prefix and some hours.

``POST /client/v4/accounts/{account}/r2/temp-access-credentials``, as Cloudflare's API reference describes it. What it
makes cannot be taken back before it ends, but with its parent token: so it is made to end soon.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import httpx
from pydantic import SecretStr

from validation.domain import Seconds, StoreCredential
from validation.errors import BadInput, Permanent, Transient, Unreachable

LONGEST_S: Seconds = 604_800
"""Cloudflare's own limit: a week."""
TIMEOUT = httpx.Timeout(30.0, connect=10.0)


class CloudflareRefused(BadInput):
    """Cloudflare does not know the token, or the token may not lend this."""

    def __init__(self, bucket: str, reason: str) -> None:
        self.bucket, self.reason = bucket, reason
        super().__init__(
            f"Cloudflare lends nothing of bucket {bucket} ({reason}): CLOUDFLARE_API_TOKEN and R2_ACCESS_KEY_ID must "
            "be of one R2 token with object read and write on the bucket, in account CLOUDFLARE_ACCOUNT_ID"
        )


class CloudflareThrottled(Transient):
    """Asked too often."""

    def __init__(self) -> None:
        super().__init__("Cloudflare throttles this account: 1,200 requests in five minutes are its limit")


class AnswerUnclear(Permanent):
    """Cloudflare answered with something that is no credential."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"Cloudflare answered {status}, and no credential: has its API changed?")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a credential opens."""

    bucket: str
    permission: Literal["object-read-only", "object-read-write"]
    prefix: str
    """Of the keys that it opens, ending with a slash; empty for all of the bucket."""

    def to_json(self) -> dict[str, Any]:
        opened = {"bucket": self.bucket, "permission": self.permission}
        return {**opened, "prefixes": [self.prefix]} if self.prefix else opened


class CloudflareClient:
    """One R2 token, of which lesser credentials are made. Use as a context manager."""

    def __init__(
        self,
        api_token: SecretStr,
        *,
        account_id: str,
        parent_access_key_id: SecretStr,
        base_url: str = "https://api.cloudflare.com",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._parent, self._base_url = parent_access_key_id, base_url
        self._path = f"/client/v4/accounts/{account_id}/r2/temp-access-credentials"
        self._http = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {api_token.get_secret_value()}"},
            timeout=TIMEOUT,
            transport=transport,
        )

    def mint(self, scope: Scope, *, lasts_s: int) -> StoreCredential:
        """Make a credential that opens ``scope`` and nothing else. May be repeated: each is another one.

        Raises:
            CloudflareRefused: this token may not.
            CloudflareThrottled, Unreachable: later.
            AnswerUnclear: what came is no credential.
        """
        body = {**scope.to_json(), "parentAccessKeyId": self._parent.get_secret_value(), "ttlSeconds": lasts_s}
        try:
            answer = self._http.post(self._path, json=body)
        except httpx.TransportError as error:
            raise self._unreachable(repr(error)) from error
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise CloudflareThrottled
        if answer.is_server_error:
            raise self._unreachable(f"status {answer.status_code}")
        return _read_credential(answer, scope)

    def _unreachable(self, cause: str) -> Unreachable:
        return Unreachable("Cloudflare", self._base_url, "check the network and Cloudflare's status page", cause)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()


def _read_credential(answer: httpx.Response, scope: Scope) -> StoreCredential:
    try:
        match answer.json():
            case {"success": True, "result": {"accessKeyId": str(key), "secretAccessKey": str(secret),
                                              "sessionToken": str(token)}}:  # fmt: skip
                return StoreCredential(key, secret, token)
            case {"success": False, "errors": [{"code": code, "message": message}, *_]}:
                raise CloudflareRefused(scope.bucket, f"{code} {message}")
    except ValueError:
        pass
    raise AnswerUnclear(answer.status_code)

"""Client of Cloudflare's call that makes temporary R2 credentials: for one bucket, one key prefix and some hours.

``POST /client/v4/accounts/{account}/r2/temp-access-credentials``, as Cloudflare's API reference describes it. A
credential cannot be revoked before it expires, except by revoking the R2 token it was made from: hence a short life.
"""

from dataclasses import dataclass
from typing import Any, Literal

import httpx
from pydantic import SecretStr

from validation.domain import StoreCredential
from validation.errors import BadInput, Permanent, Transient
from validation.vendor_api import VendorApi


class CloudflareRefused(BadInput):
    """Cloudflare does not know the token, or the token may not make this credential."""

    def __init__(self, bucket: str, reason: str) -> None:
        self.bucket, self.reason = bucket, reason
        super().__init__(
            f"Cloudflare refuses a credential for bucket {bucket} ({reason}): CLOUDFLARE_API_TOKEN and "
            "R2_ACCESS_KEY_ID must be of one R2 token with object read and write on the bucket, in account "
            "CLOUDFLARE_ACCOUNT_ID"
        )


class CloudflareThrottled(Transient):
    """The account sent too many requests."""

    def __init__(self) -> None:
        super().__init__("Cloudflare throttles this account: its limit is 1,200 requests in five minutes")


class UnexpectedResponse(Permanent):
    """Cloudflare's response holds no credential and no error that is known."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"Cloudflare answered {status} without a credential: has its API changed?")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a credential opens."""

    bucket: str
    permission: Literal["object-read-only", "object-read-write"]
    prefix: str
    """Of the keys that it opens, ending with a slash; empty for the whole bucket."""

    def to_json(self) -> dict[str, Any]:
        scope = {"bucket": self.bucket, "permission": self.permission}
        return {**scope, "prefixes": [self.prefix]} if self.prefix else scope


class CloudflareClient(VendorApi):
    """One R2 token, from which narrower credentials are made. Use as a context manager."""

    def __init__(
        self,
        api_token: SecretStr,
        *,
        account_id: str,
        parent_access_key_id: SecretStr,
        base_url: str = "https://api.cloudflare.com",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__("Cloudflare", base_url, api_token, transport=transport)
        self._parent_access_key_id = parent_access_key_id
        self._path = f"/client/v4/accounts/{account_id}/r2/temp-access-credentials"

    def create_credential(self, scope: Scope, *, ttl_s: int) -> StoreCredential:
        """Make a credential that opens ``scope`` and nothing else. Each call makes another one.

        Raises:
            CloudflareRefused: this token may not.
            CloudflareThrottled, Unreachable: retry later.
            UnexpectedResponse: the response holds no credential.
        """
        parent = self._parent_access_key_id.get_secret_value()
        body = {**scope.to_json(), "parentAccessKeyId": parent, "ttlSeconds": ttl_s}
        try:
            response = self._http.post(self._path, json=body)
        except httpx.TransportError as error:
            raise self._unreachable(repr(error)) from error
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise CloudflareThrottled
        if response.is_server_error:
            raise self._unreachable(f"status {response.status_code}")
        return _parse_credential(response, scope)


def _parse_credential(response: httpx.Response, scope: Scope) -> StoreCredential:
    try:
        match response.json():
            case {"success": True, "result": {"accessKeyId": str(key), "secretAccessKey": str(secret),
                                              "sessionToken": str(token)}}:  # fmt: skip
                return StoreCredential(key, secret, token)
            case {"success": False, "errors": [{"code": code, "message": message}, *_]}:
                raise CloudflareRefused(scope.bucket, f"{code} {message}")
    except ValueError:
        pass
    raise UnexpectedResponse(response.status_code)

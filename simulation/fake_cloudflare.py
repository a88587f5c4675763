"""A fake, on loopback, of Cloudflare's API that issues temporary credentials. The fake also imitates its errors."""

import json
import threading
from collections import deque
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self, TypeAlias

from validation.local.service import HOST

PERMISSIONS = frozenset({"admin-read-write", "admin-read-only", "object-read-write", "object-read-only"})
MAX_TTL_S = 604_800
CredentialRequest: TypeAlias = Mapping[str, Any]
"""The body of a request: bucket, permission, ttlSeconds, parentAccessKeyId, and prefixes. Without prefixes, the
credential is for the whole bucket."""
Reply: TypeAlias = tuple[int, Mapping[str, Any]]


class FakeCloudflare:
    """A fake account with one R2 token. Use the class as a context manager.

    ``issue`` returns the three parts of a credential that a store accepts. Without ``issue``, the parts are made-up
    strings. ``next_statuses`` holds the error statuses of the next requests. ``granted`` holds the granted requests.
    """

    account_id = "0123456789abcdef0123456789abcdef"
    api_token = "r2-token"  # noqa: S105 - the fake's own
    parent_access_key_id = "r2-token-id"

    def __init__(self, issue: Callable[[CredentialRequest], Mapping[str, str]] | None = None) -> None:
        self._issue = issue or self._make_names
        self.granted: list[CredentialRequest] = []
        self.next_statuses: deque[int] = deque()
        self._server = ThreadingHTTPServer((HOST, 0), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.server_port}"

    def client_environment(self) -> dict[str, str]:
        """Return the environment variables of the control machine."""
        return {
            "VFLEET_CLOUDFLARE_URL": self.url,
            "CLOUDFLARE_ACCOUNT_ID": self.account_id,
            "CLOUDFLARE_API_TOKEN": self.api_token,
        }

    def answer(self, path: str, token: str, request: CredentialRequest) -> Reply:
        """Return the status and body with which Cloudflare answers a request."""
        if self.next_statuses:
            return refuse(self.next_statuses.popleft(), 10001, "We encountered an internal error.")
        if path != f"/client/v4/accounts/{self.account_id}/r2/temp-access-credentials":
            return refuse(404, 7003, "Could not route to the path.")
        if token != self.api_token:
            return refuse(403, 10000, "Authentication error")
        if request.get("parentAccessKeyId") != self.parent_access_key_id:
            return refuse(401, 10042, "The parent access key is not of this account.")
        if not _is_well_formed(request):
            return refuse(400, 10043, "JSON not well formed")
        self.granted.append(request)
        return 200, {"success": True, "errors": [], "messages": [], "result": dict(self._issue(request))}

    def _make_names(self, _request: CredentialRequest) -> Mapping[str, str]:
        number = len(self.granted)
        return {"accessKeyId": f"issued-{number}", "secretAccessKey": f"s-{number}", "sessionToken": f"t-{number}"}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def refuse(status: int, code: int, message: str) -> Reply:
    """Make an error reply in Cloudflare's format."""
    return status, {"success": False, "errors": [{"code": code, "message": message}], "messages": [], "result": None}


def _is_well_formed(request: CredentialRequest) -> bool:
    match request:
        case {"bucket": str(), "permission": permission, "ttlSeconds": int(lasts_s)}:
            paths = request.get("prefixes", [])
            return permission in PERMISSIONS and 0 < lasts_s <= MAX_TTL_S and all(isinstance(p, str) for p in paths)
    return False


def _handler_of(fake: FakeCloudflare) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, body = fake.answer(self.path, token, json.loads(self.rfile.read(length)))
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Log nothing, because requests contain secrets."""

    return Handler

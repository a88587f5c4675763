"""Serve the page on the loopback interface. Only a client that has the secret token of the address gets access."""

import secrets
import socket
from collections.abc import Sequence
from io import BytesIO
from typing import Any
from urllib.parse import urlencode

from dash import Dash, dcc, html
from flask import Flask, Response, abort, redirect, request, send_file
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from validation.analysis.explore import limits_page, overview, segment_page, tables_page
from validation.analysis.explore.audio import encode_wav
from validation.analysis.explore.context import ExploreContext

HOST = "127.0.0.1"
_NAMES = frozenset({HOST, "localhost"})
"""The host names under which the server answers."""
_COOKIE = "vfleet-explore"
"""Start of the name of the cookie with the token; the port follows."""


class _QuietHandler(WSGIRequestHandler):
    """Request handler that logs no request, because the address of a request may contain the token."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def make_explore_server(context: ExploreContext, *, port: int = 0) -> tuple[BaseWSGIServer, str]:
    """Make a server of the page on a port of the loopback interface; port 0 selects a free port.

    Returns:
        The server, which starts with ``serve_forever``, and the URL with the token.

    Raises:
        SystemExit: the port cannot be opened, for example because it is in use. The server library raises it.
    """
    token = secrets.token_urlsafe(24)
    app = make_app(context)
    _guard(app.server, token)
    server = make_server(HOST, port, app.server, threaded=True, request_handler=_QuietHandler)
    return server, f"http://{HOST}:{server.server_port}/?token={token}"


def is_port_free(port: int) -> bool:
    """Return whether no program listens on a port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def make_app(context: ExploreContext) -> Dash:
    """Build the Dash app with all pages. All scripts and styles come from the installed packages."""
    app = Dash(__name__, title="vfleet explore", update_title="", serve_locally=True, assets_folder="assets")
    app.layout = html.Div(
        [
            dcc.Location(id="address", refresh=False),
            dcc.Store(id="filter", data={}),
            dcc.Store(id="rules"),
            dcc.Store(id="reviewed"),
            html.H1(context.title),
            html.Div(id="message", className="message"),
            dcc.Tabs(_make_tabs(context), id="tabs", value="table-tab"),
        ],
        id="page",
    )
    for part in (overview, segment_page, limits_page, tables_page):
        part.add_callbacks(app, context)
    _serve_audio(app.server, context)
    return app


def _make_tabs(context: ExploreContext) -> Sequence[dcc.Tab]:
    pages = {
        "table-tab": ("Segments", overview.make_overview(context)),
        "segment": ("One segment", segment_page.make_segment_page()),
        "limits": ("Limits", limits_page.make_limits_page(context)),
        "compare": ("Compare rules", tables_page.make_compare_page(context)),
        "groups": ("Videos, speakers, workers, days", tables_page.make_groups_page()),
        "words": ("Words and characters", tables_page.make_words_page(context)),
        "reviews": ("Reviews", tables_page.make_reviews_page(context)),
    }
    if context.revisions is not None:
        pages["revisions"] = ("Compare revisions", tables_page.make_revisions_page(context.revisions.revision))
    return [dcc.Tab(page, label=label, value=name) for name, (label, page) in pages.items()]


def _serve_audio(server: Flask, context: ExploreContext) -> None:
    """Add the address ``/audio``, which returns the WAV file of a segment, or status 404 with a reason."""

    @server.get("/audio")
    def audio() -> Response:
        samples = context.audio.read(request.args.get("video_id", ""), request.args.get("segment", ""))
        if isinstance(samples, str):
            abort(404, samples)
        return send_file(BytesIO(encode_wav(samples)), mimetype="audio/wav", max_age=3600)


def _guard(server: Flask, token: str) -> None:
    """Reject requests without the token or its cookie, and requests with a foreign host name (HTTP status 403).

    The first request carries the token in its URL. The answer sets a cookie and redirects to a URL without the token.
    The browser sends the cookie when the user follows a link of the report, but with no other request of another site.
    The check of the host name prevents DNS rebinding: another site's name that resolves to this machine is rejected.
    """

    @server.before_request
    def check() -> Any:
        if request.host.rpartition(":")[0] not in _NAMES:
            abort(403, "vfleet explore answers only to its own address.")
        cookie = f"{_COOKIE}-{request.host.rpartition(':')[2]}"
        if secrets.compare_digest(request.cookies.get(cookie, "").encode(), token.encode()):
            return None
        if not secrets.compare_digest(request.args.get("token", "").encode(), token.encode()):
            abort(403, "Open the address that vfleet explore printed: it has a token.")
        rest = {name: value for name, value in request.args.items() if name != "token"}
        answer = redirect(request.path + ("?" + urlencode(rest) if rest else ""))
        answer.set_cookie(cookie, token, httponly=True, samesite="Lax")
        return answer

    @server.after_request
    def add_headers(answer: Response) -> Response:
        answer.headers["Referrer-Policy"] = "no-referrer"
        answer.headers["X-Frame-Options"] = "DENY"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        return answer

"""The authorizing proxy as a process."""

import logging
from pathlib import Path

import uvicorn

from validation.errors import BadInput
from validation.gateway.budget import MAX_MESSAGE_BYTES
from validation.gateway.prefect_server import PrefectServer
from validation.gateway.proxy import AuthorizingProxy
from validation.gateway.tokens import TokenFile
from validation.output import configure_logging


def serve_proxy(address: str, *, server_url: str, auth_string: str, tokens: Path, pool: str) -> None:
    """Serve until the process is ended by a signal.

    Raises:
        BadInput: the address is not on loopback. A client that reaches the proxy without nginx could call itself any
            box.
    """
    host, _, port = address.rpartition(":")
    if host not in {"127.0.0.1", "localhost"} or not port.isdecimal():
        raise BadInput(
            f"--proxy is {address!r}: it must be 127.0.0.1:PORT, because only nginx, on this machine, checks tokens"
        )
    configure_logging("%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every request
    app = AuthorizingProxy(PrefectServer(server_url, auth_string), TokenFile(tokens), pool).build_app()
    uvicorn.run(
        app, host=host, port=int(port), log_level="warning", access_log=False, ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_BYTES,
    )  # fmt: skip

"""The inspector as a process."""

import logging
from pathlib import Path

import uvicorn

from validation.errors import BadInput
from validation.gateway.prefect_server import PrefectServer
from validation.gateway.proxy import AuthorizingProxy
from validation.gateway.tokens import TokenFile


def serve_inspector(address: str, *, server_url: str, auth_string: str, tokens: Path, pool: str) -> None:
    """Serve until told to stop.

    Raises:
        BadInput: the address is not one of this machine alone. Who reaches the inspector past nginx may call itself
            any box, so it listens on loopback.
    """
    host, _, port = address.rpartition(":")
    if host not in {"127.0.0.1", "localhost"} or not port.isdecimal():
        raise BadInput(
            f"--inspector is {address!r}: it may listen on 127.0.0.1:PORT alone, for nginx vouches for boxes"
        )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would tell of every request
    app = AuthorizingProxy(PrefectServer(server_url, auth_string), TokenFile(tokens), pool).build_app()
    uvicorn.run(app, host=host, port=int(port), log_level="warning", access_log=False, ws="websockets-sansio")

"""Writes nginx's configuration from the template deploy/gateway/nginx.conf."""

import base64
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template

from validation.errors import BadInput

TEMPLATE = Path(__file__).resolve().parents[2] / "deploy/gateway/nginx.conf"
_UNQUOTED = re.compile(r"[\w./:\[\]*-]+")
"""A value that nginx reads without quotes and that cannot end a directive."""
BURST_FACTOR = 5
"""Number of requests that a box may send at once, as a multiple of its rate per second."""


@dataclass(frozen=True, slots=True)
class NginxSettings:
    """The settings of nginx: its own address and files, the addresses behind nginx, and the limits per box."""

    server_name: str
    certificate: str
    certificate_key: str
    tokens: str
    """Path of the token file."""
    listen: str = "443"
    """Port of nginx, or address and port."""
    server: str = "127.0.0.1:4200"
    """Address of the Prefect server, bound to loopback."""
    proxy: str = "127.0.0.1:4280"
    """Address of the authorizing proxy, bound to loopback."""
    pool: str = "vast-gpu"
    """The work pool of the boxes."""
    rate: int = 20
    """Requests per second that one box may send; a burst may have five times as many. A box usually sends two."""
    connections: int = 64
    """Concurrent connections that one box may have. A box has about ten."""

    def render(self, auth_string: str) -> str:
        """Return nginx's configuration. It contains the server's password.

        Args:
            auth_string: user and password of the Prefect server, as ``user:password``.

        Raises:
            BadInput: the password is missing, or a setting has a character that could end its directive.
        """
        if ":" not in auth_string:
            raise BadInput("PREFECT_SERVER_API_AUTH_STRING is not set as user:password: give it as to Prefect's server")
        values = {name: str(value) for name, value in asdict(self).items()}
        for name, value in values.items():
            if not _UNQUOTED.fullmatch(value):
                raise BadInput(
                    f"{name} is {value!r}: nginx's configuration cannot hold it; use letters, digits and ./:-_"
                )
        authorization = base64.b64encode(auth_string.encode()).decode()
        values["pool"] = re.escape(self.pool)
        burst = str(BURST_FACTOR * self.rate)
        return _AtTemplate(TEMPLATE.read_text(encoding="utf-8")).substitute(
            values, burst=burst, authorization=authorization
        )

    def write(self, path: Path, auth_string: str) -> None:
        """Write the configuration to a file. A new file is readable only by its owner; an old file keeps its mode.

        Raises:
            BadInput: ``render`` raised it, or the file cannot be written.
        """
        content = self.render(auth_string)
        try:
            with open(path, "w", encoding="utf-8", opener=_open_private) as file:
                file.write(content)
        except OSError as error:
            raise BadInput(f"{path} cannot be written: {error.strerror}") from None


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class _AtTemplate(Template):
    delimiter = "@"  # `$` begins nginx's own variables

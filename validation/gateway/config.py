"""nginx's configuration, filled in from deploy/gateway/nginx.conf."""

import base64
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template

from validation.errors import BadInput

TEMPLATE = Path(__file__).resolve().parents[2] / "deploy/gateway/nginx.conf"
_UNQUOTED = re.compile(r"[\w./:\[\]*-]+")
"""Characters that nginx reads without quotes and that cannot end a directive."""
BURST_FACTOR = 5


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where nginx listens, and the addresses behind it."""

    server_name: str
    certificate: str
    certificate_key: str
    tokens: str
    listen: str = "443"
    server: str = "127.0.0.1:4200"
    """Prefect's server, bound to loopback."""
    proxy: str = "127.0.0.1:4280"
    """The authorizing proxy, bound to loopback."""
    pool: str = "vast-gpu"
    rate: int = 20
    """Requests per second that one box may send, with bursts of five times as many. A box sends about two."""
    connections: int = 64
    """Connections that one box may use at once. A box uses about ten."""

    def render(self, auth_string: str) -> str:
        """Return nginx's configuration. It contains the server's password.

        Args:
            auth_string: the server's, ``user:password``.

        Raises:
            BadInput: the password is missing, or a value could end its directive.
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
        return _AtTemplate(TEMPLATE.read_text()).substitute(values, burst=burst, authorization=authorization)

    def write(self, path: Path, auth_string: str) -> None:
        """Write the configuration to a file that only its owner can read.

        Raises:
            BadInput: as ``render``, or the file cannot be written.
        """
        content = self.render(auth_string)
        try:
            with open(path, "w", opener=_open_private) as file:
                file.write(content)
        except OSError as error:
            raise BadInput(f"{path} cannot be written: {error.strerror}") from None


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class _AtTemplate(Template):
    delimiter = "@"  # `$` begins nginx's own variables

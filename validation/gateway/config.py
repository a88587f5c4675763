"""nginx's configuration, filled in from deploy/gateway/nginx.conf."""

import base64
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template

from validation.errors import BadInput

TEMPLATE = Path(__file__).resolve().parents[2] / "deploy/gateway/nginx.conf"
_PLAIN = re.compile(r"[\w./:\[\]*-]+")
"""What may stand in nginx's language without quotes, and cannot end a directive."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where the gateway listens, and what stands behind it."""

    server_name: str
    certificate: str
    certificate_key: str
    tokens: str
    listen: str = "443"
    server: str = "127.0.0.1:4200"
    """Prefect's server, bound to loopback."""
    inspector: str = "127.0.0.1:4280"
    pool: str = "vast-gpu"
    rate: int = 20
    """Requests a second that a box may make, with bursts of five times as many. It makes about two."""

    def render(self, auth_string: str) -> str:
        """Write nginx's configuration. It holds the server's password.

        Args:
            auth_string: the server's, ``user:password``.

        Raises:
            BadInput: there is none, or a value would not stay within its directive.
        """
        if ":" not in auth_string:
            raise BadInput("PREFECT_SERVER_API_AUTH_STRING is not set as user:password: give it as to Prefect's server")
        values = {name: str(value) for name, value in asdict(self).items()}
        for name, value in values.items():
            if not _PLAIN.fullmatch(value):
                raise BadInput(
                    f"{name} is {value!r}: nginx's configuration cannot hold it; use letters, digits and ./:-_"
                )
        authorization = base64.b64encode(auth_string.encode()).decode()
        values["pool"] = re.escape(self.pool)
        return _Blanks(TEMPLATE.read_text()).substitute(values, burst=str(5 * self.rate), authorization=authorization)

    def write(self, path: Path, auth_string: str) -> None:
        """Write the configuration where its owner alone can read it.

        Raises:
            BadInput: as ``render``, or the file cannot be written.
        """
        content = self.render(auth_string)
        try:
            with open(path, "w", opener=_open_privately) as file:
                file.write(content)
        except OSError as error:
            raise BadInput(f"{path} cannot be written: {error.strerror}") from None


def _open_privately(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class _Blanks(Template):
    delimiter = "@"  # `$` begins nginx's own variables

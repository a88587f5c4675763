"""The base classes of all errors, by what the caller must do about one.

Every message is a sentence for an operator: what happened, to what, what to do.
"""

from typing import ClassVar

from validation.escape import plain_text


class FleetError(Exception):
    """An error of this project, with a message for an operator.

    Messages quote names from outside (tar members, ids, labels) and reach logs, the ledger and Prefect's UI. So they
    are made safe here: one line without control characters, at most ``MAX_SENTENCE_CHARS`` long.
    """

    keeps_lines: ClassVar[bool] = False
    """True for errors of local tools whose message ends with the output of a program, line by line."""

    def __init__(self, message: object = "") -> None:
        text = str(message)
        lines = text.split("\n") if self.keeps_lines else [text]
        super().__init__("\n".join(map(plain_text, lines)))


class BadInput(FleetError):
    """A command, a setting or a file asks for something impossible. Nothing was changed."""


class Transient(FleetError):
    """The same call may succeed later."""


class Permanent(FleetError):
    """The same call will fail again."""


class ClaimLost(FleetError):
    """The chunk is no longer held under this token: write nothing, delete what was uploaded, stop."""

    def __init__(self, chunk_id: object, state: str) -> None:
        self.chunk_id, self.state = chunk_id, state
        super().__init__(
            f"chunk {chunk_id} is {state}, not open: its videos belong to other claims, so nothing is written for it"
        )


class Unreachable(Transient):
    """A service does not answer."""

    def __init__(self, service: str, address: str, check: str, cause: object) -> None:
        self.service, self.address, self.check = service, address, check
        reason = str(cause).strip().splitlines()
        super().__init__(f"{service} at {address} is unreachable: {check} ({reason[0] if reason else repr(cause)})")


class AccessRefused(Transient):
    """A service answers and refuses this program's login.

    Work in hand is kept and tried again, because a pooler that cannot ask its server says the same. A program without
    work ends as for bad input.
    """

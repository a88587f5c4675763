"""The base classes of all errors of this project. The class of an error tells the caller how to react.

Every message is a sentence for an operator. It states what happened, to which object, and what the operator can do.
"""

from typing import ClassVar

from validation.escape import plain_text


class FleetError(Exception):
    """An error of this project, with a message for an operator.

    Messages quote untrusted names (tar members, ids, labels) and reach logs, the ledger and Prefect's UI. So the
    constructor makes each message one line of at most ``MAX_SENTENCE_CHARS`` characters without control characters.
    """

    keeps_lines: ClassVar[bool] = False
    """Whether messages may have several lines. True for errors of local tools that quote the output of a program."""

    def __init__(self, message: object = "") -> None:
        text = str(message)
        lines = text.split("\n") if self.keeps_lines else [text]
        super().__init__("\n".join(map(plain_text, lines)))


class BadInput(FleetError):
    """A command, a setting, a credential, a file or the machine must be changed first; a retry cannot help."""


class Transient(FleetError):
    """The operation failed, and the same operation may succeed later."""


class Permanent(FleetError):
    """The operation failed, and the same operation will fail again."""


class ClaimLost(FleetError):
    """The chunk is no longer held under this token. The worker must write no results, delete uploaded ones and stop."""

    def __init__(self, chunk_id: object, state: str) -> None:
        self.chunk_id, self.state = chunk_id, state
        super().__init__(
            f"chunk {chunk_id} is {state}, not open: its videos belong to other claims, so nothing is written for it"
        )


class Unreachable(Transient):
    """A service does not answer, or answers that it failed."""

    def __init__(self, service: str, address: str, check: str, cause: object) -> None:
        self.service, self.address, self.check = service, address, check
        reason = str(cause).strip().splitlines()
        super().__init__(f"{service} at {address} is unreachable: {check} ({reason[0] if reason else repr(cause)})")


class AccessRefused(Transient):
    """A service rejects this program's login.

    A program that holds work keeps the work and tries again, because a connection pooler reports the same error when
    it cannot reach its database server. A program without work exits with the code for bad input.
    """

"""The exit codes of every program of the fleet, and the mapping from errors to exit codes.

| code | name | meaning | who acts on it |
|---|---|---|---|
| 0 | OK | the work is done, or the program was asked to end and has drained | none |
| 1 | FAILED | a check found something, or the program failed in a way that no other code names | an operator reads the message |
| 2 | BAD_INPUT | an argument, a setting, a credential or the machine must be changed first | an operator; a retry cannot help |
| 3 | UNREACHABLE | a service does not answer, or is busy: the same call may succeed later | a supervisor or script tries again later |
| 70 | INTERNAL_ERROR | the inference server's own code or its GPU failed (sysexits.h: internal software error) | the worker starts the inference server again |
| 130 | INTERRUPTED | Ctrl-C (128 + SIGINT) | none |
| 143 | TERMINATED | SIGTERM ended a program that has nothing to drain (128 + SIGTERM) | none |

The bootstrap of a box starts the worker again after any exit. It destroys the box after more than ten exits in an hour.
"""  # noqa: E501 - rows of a table

from enum import IntEnum

from validation.errors import AccessRefused, BadInput, FleetError, Transient


class ExitCode(IntEnum):
    """An exit code of a program. The table in the module's docstring documents each code."""

    OK = 0
    FAILED = 1
    BAD_INPUT = 2
    UNREACHABLE = 3
    INTERNAL_ERROR = 70
    INTERRUPTED = 130
    TERMINATED = 143


def exit_code_of(error: FleetError) -> ExitCode:
    """Return the exit code with which a program must exit after this error."""
    if isinstance(error, BadInput | AccessRefused):
        return ExitCode.BAD_INPUT
    return ExitCode.UNREACHABLE if isinstance(error, Transient) else ExitCode.FAILED

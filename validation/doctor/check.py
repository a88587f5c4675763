"""The type of a check, its result, and the function that runs one check."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from validation.errors import FleetError
from validation.settings import Settings

Check: TypeAlias = Callable[[Settings], str | None]


class CheckWarning(FleetError):
    """The machine works, but an operator should act. A worker starts in spite of a warning."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check."""

    check: str
    status: Literal["ok", "warning", "failed", "skipped"]
    message: str


def run_check(settings: Settings, check: Check) -> CheckResult:
    """Run one check. A ``FleetError`` becomes the result; any other exception is a defect and propagates."""
    name = check.__name__.removeprefix("check_").replace("_", " ")
    try:
        found = check(settings)
    except CheckWarning as warning:
        return CheckResult(name, "warning", str(warning))
    except FleetError as error:
        return CheckResult(name, "failed", str(error))
    return CheckResult(name, "skipped" if found is None else "ok", found or "does not apply to this machine")

"""Which checks are made where, and what comes of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from validation.doctor.accounts import check_cloudflare, check_vast
from validation.doctor.box_login import check_box_login
from validation.doctor.database import (
    check_box_role,
    check_control_role,
    check_database,
    check_migration,
    check_pooler,
    check_tls,
)
from validation.doctor.gpu import check_card, check_driver, check_onnx_session, check_onnxruntime
from validation.doctor.machine import check_clock, check_disk, check_models, check_versions
from validation.doctor.prefect_pools import check_pool, check_prefect, check_tokens
from validation.doctor.stores import check_credentials, check_results, check_source, check_stores
from validation.doctor.warning import Doubt
from validation.errors import FleetError
from validation.settings import Settings

Check: TypeAlias = Callable[[Settings], str | None]

BOX_CHECKS: Sequence[Check] = (
    check_disk,
    check_card,
    check_driver,
    check_onnxruntime,
    check_database,
    check_pooler,
    check_tls,
    check_clock,
    check_migration,
    check_box_role,
    check_credentials,
    check_stores,
)
"""What must be well before a worker starts, the cheapest first, beside Prefect, which it asks by itself. Together they
take a second or two."""

GPU_CHECKS: Sequence[Check] = (check_versions, *BOX_CHECKS, check_prefect, check_pool, check_onnx_session, check_models)

CONTROL_CHECKS: Sequence[Check] = (
    check_versions,
    check_disk,
    check_database,
    check_pooler,
    check_tls,
    check_clock,
    check_migration,
    check_control_role,
    check_box_login,
    check_credentials,
    check_source,
    check_results,
    check_cloudflare,
    check_vast,
    check_prefect,
    check_pool,
    check_tokens,
)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What came of one check."""

    check: str
    verdict: Literal["ok", "doubt", "failed", "skipped"]
    says: str


def run_checks(settings: Settings, checks: Sequence[Check]) -> Iterator[CheckResult]:
    """Make every check, whatever became of those before it."""
    for check in checks:
        yield make_check(settings, check)


def make_check(settings: Settings, check: Check) -> CheckResult:
    """Make one check."""
    name = check.__name__.removeprefix("check_").replace("_", " ")
    try:
        found = check(settings)
    except Doubt as doubt:
        return CheckResult(name, "doubt", str(doubt))
    except FleetError as error:
        return CheckResult(name, "failed", str(error))
    return CheckResult(name, "skipped" if found is None else "ok", found or "nothing to look at here")


def check_box(settings: Settings) -> list[str]:
    """Refuse to start a worker where no chunk could be finished. Returns what is doubtful, for the log.

    Raises:
        FleetError: the first problem, with what to do.
    """
    doubts = []
    for check in BOX_CHECKS:
        try:
            check(settings)
        except Doubt as doubt:
            doubts.append(str(doubt))
    return doubts

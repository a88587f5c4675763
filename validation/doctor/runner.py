"""The list of checks for each kind of machine, and the functions that run the lists."""

from collections.abc import Iterator, Sequence

from validation.doctor.check import Check, CheckResult, CheckWarning, run_check
from validation.doctor.database import (
    check_box_limits,
    check_box_login,
    check_box_role,
    check_control_role,
    check_database,
    check_indexes,
    check_labels,
    check_migration,
    check_pooler,
    check_queue,
    check_tls,
    check_writable,
)
from validation.doctor.environment import check_control_environment, check_variables
from validation.doctor.machine import (
    check_clock,
    check_disk,
    check_driver,
    check_gpu,
    check_models,
    check_onnx_session,
    check_onnxruntime,
    check_versions,
)
from validation.doctor.prefect_server import (
    check_box_deployment,
    check_control_worker,
    check_deployments,
    check_last_tick,
    check_pool,
    check_prefect,
    check_tokens,
)
from validation.doctor.stores import (
    check_cloudflare,
    check_conditional_put,
    check_credentials,
    check_queued_tars,
    check_results,
    check_source,
    check_stores,
    check_vast,
)
from validation.settings import Settings

BOX_CHECKS: Sequence[Check] = (
    check_disk,
    check_gpu,
    check_driver,
    check_onnxruntime,
    check_database,
    check_pooler,
    check_tls,
    check_clock,
    check_writable,
    check_migration,
    check_box_role,
    check_labels,
    check_credentials,
    check_stores,
    check_queued_tars,
    check_conditional_put,
)
"""Checks before the start of a worker, the fastest first; about two seconds in all. Prefect is not checked, because
the worker itself reports errors of Prefect."""

GPU_CHECKS: Sequence[Check] = (
    check_versions,
    check_variables,
    *BOX_CHECKS,
    check_prefect,
    check_pool,
    check_box_deployment,
    check_onnx_session,
    check_models,
)
"""Checks of `vfleet doctor --gpu` on a box."""

CONTROL_CHECKS: Sequence[Check] = (
    check_versions,
    check_variables,
    check_control_environment,
    check_disk,
    check_database,
    check_pooler,
    check_tls,
    check_clock,
    check_writable,
    check_queue,
    check_migration,
    check_indexes,
    check_labels,
    check_control_role,
    check_box_login,
    check_box_limits,
    check_credentials,
    check_source,
    check_results,
    check_queued_tars,
    check_conditional_put,
    check_cloudflare,
    check_vast,
    check_prefect,
    check_pool,
    check_deployments,
    check_control_worker,
    check_last_tick,
    check_tokens,
)
"""Checks of `vfleet doctor` on the control machine."""


def run_checks(settings: Settings, checks: Sequence[Check]) -> Iterator[CheckResult]:
    """Run all checks in order and yield their results. A failed check does not stop the later checks."""
    for check in checks:
        yield run_check(settings, check)


def check_box(settings: Settings) -> list[str]:
    """Run the checks before the start of a worker. Return the warnings, for the log.

    Raises:
        FleetError: the first failed check, with its remedy. A worker could finish no chunk on this box.
    """
    warnings = []
    for check in BOX_CHECKS:
        try:
            check(settings)
        except CheckWarning as warning:
            warnings.append(str(warning))
    return warnings

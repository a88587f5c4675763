"""The model host: `python -m validation.inference`, by the environment's settings.

It prints one line of JSON on standard output: ``{"ready": {the suite}}`` once it serves, or ``{"refused": sentence}``.
Everything else goes to standard error. It ends at SIGTERM.
"""

import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn, TextIO

from validation.errors import FleetError
from validation.exit_codes import ExitCode, exit_code_of
from validation.hardware.gpu_errors import classify_gpu_errors
from validation.inference.address import find_socket
from validation.inference.crash_log import CrashLog
from validation.inference.executor import BatchExecutor
from validation.inference.protocol import SuiteInfo
from validation.inference.scheduler import RequestScheduler
from validation.inference.server import Server, listening
from validation.inference.status import InferenceStatus
from validation.inference.warmup import warm_up
from validation.models.suite import Suite, load_suite
from validation.settings import load_settings

log = logging.getLogger("model-host")


def main() -> int:
    """Serve until SIGTERM. Returns an exit code of `validation.exit_codes`."""
    told = _keep_stdout()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    try:
        settings = load_settings()
        suite = classify_gpu_errors(lambda: load_suite(settings.suite))
        warm_up(suite)
        serve(suite, find_socket(settings.worker_id), told)
    except FleetError as refusal:
        _tell(told, {"refused": str(refusal)})
        return exit_code_of(refusal)
    return ExitCode.OK


def serve(suite: Suite, path: Path, told: TextIO) -> None:
    """Answer at a socket until SIGTERM; say on ``told`` when it can be reached."""
    with listening(path) as listener:
        wakeup = os.eventfd(0, os.EFD_NONBLOCK)
        journal = CrashLog(path.with_name("in-hand.json"))
        desk = RequestScheduler(suite, journal.crash_count, on_answers=lambda: os.eventfd_write(wakeup, 1))
        mill = BatchExecutor(suite, desk, journal)
        server = Server(listener, desk, describe_suite(suite), InferenceStatus(suite, desk, mill), wakeup)
        signal.signal(signal.SIGTERM, lambda *_: server.stop())
        mill.start()
        _tell(told, {"ready": describe_suite(suite).spell()})
        server.serve()
        journal.close()


def describe_suite(suite: Suite) -> SuiteInfo:
    return SuiteInfo(
        name=suite.name,
        roles=suite.roles,
        rules=suite.rules.version,
        revisions=suite.revisions,
        columns=suite.columns,
        budget_s=suite.budget.seconds,
    )


def _keep_stdout() -> TextIO:
    """Keep standard output for what the starter reads; what libraries print there goes to standard error."""
    kept = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return kept


def _tell(told: TextIO, line: dict[str, Any]) -> None:
    told.write(json.dumps(line) + "\n")
    told.flush()


def end(code: int) -> NoReturn:
    """End now: the models' threads may be in the midst of a batch, and nobody waits for it."""
    logging.shutdown()
    os._exit(code)


if __name__ == "__main__":
    end(main())

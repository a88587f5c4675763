"""The inference server: `python -m validation.inference`, configured by environment variables.

The server prints one line of JSON on standard output: ``{"ready": {the suite}}`` when clients can connect, or
``{"refused": reason}`` when a ``FleetError`` prevents the start. Any other error ends the process without a line. All
other output goes to standard error. SIGTERM ends the server.
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
from validation.hardware.gpu import convert_gpu_errors
from validation.inference.executor import BatchExecutor, warm_up
from validation.inference.protocol import SuiteInfo, find_socket
from validation.inference.scheduler import CrashLog, RequestScheduler
from validation.inference.server import Server, listen_unix
from validation.inference.status import InferenceStatus
from validation.models.self_test import check_speech
from validation.models.suite import Suite, load_suite
from validation.output import configure_logging
from validation.settings import load_settings


def main() -> int:
    """Serve until SIGTERM; return an exit code of `validation.exit_codes`."""
    ready_pipe = _keep_stdout()
    configure_logging("%(asctime)s %(name)s: %(message)s")
    try:
        settings = load_settings()
        suite = convert_gpu_errors(lambda: load_suite(settings.suite))
        warm_up(suite)
        check_speech(suite)
        suite.reset_stats()
        serve(suite, find_socket(settings.worker_id), ready_pipe)
    except FleetError as error:
        _notify(ready_pipe, {"refused": str(error)})
        return exit_code_of(error)
    return ExitCode.OK


def serve(suite: Suite, path: Path, ready_pipe: TextIO) -> None:
    """Serve a suite at a socket until SIGTERM; write the ready line to ``ready_pipe`` once clients can connect."""
    with listen_unix(path) as listener:
        wakeup = os.eventfd(0, os.EFD_NONBLOCK)
        crash_log = CrashLog(path.with_name("in-flight.json"))
        scheduler = RequestScheduler(suite, crash_log.crash_count, on_completed=lambda: os.eventfd_write(wakeup, 1))
        executor = BatchExecutor(suite, scheduler, crash_log)
        status = InferenceStatus(suite, scheduler, executor)
        server = Server(listener, scheduler, describe_suite(suite), status, wakeup)
        signal.signal(signal.SIGTERM, lambda *_: server.stop())
        executor.start()
        _notify(ready_pipe, {"ready": describe_suite(suite).encode()})
        server.serve()
        crash_log.close()


def describe_suite(suite: Suite) -> SuiteInfo:
    """Return the properties of a suite that clients need."""
    return SuiteInfo(
        name=suite.name,
        roles=suite.roles,
        rules=suite.rules.version,
        revisions=suite.revisions,
        columns=suite.columns,
        budget_s=suite.budget.seconds,
    )


def _keep_stdout() -> TextIO:
    """Keep standard output for the ready line; redirect what libraries print there to standard error."""
    kept = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return kept


def _notify(ready_pipe: TextIO, message: dict[str, Any]) -> None:
    """Write a message to the process that started this server, as one line of JSON."""
    ready_pipe.write(json.dumps(message) + "\n")
    ready_pipe.flush()


def exit_at_once(code: int) -> NoReturn:
    """Exit at once, without joining the executor threads: a batch may be running, and no client waits for it."""
    logging.shutdown()
    os._exit(code)


if __name__ == "__main__":
    exit_at_once(main())

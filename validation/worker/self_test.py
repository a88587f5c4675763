"""`python -m validation.worker.self_test`: load the suite and let every model answer once.

The bootstrap runs it in its own process, so that a driver, GPU or weight file that crashes the process does not end
the bootstrap, which can still destroy the instance.
"""

import sys

from validation.errors import FleetError
from validation.exit_codes import ExitCode, exit_code_of
from validation.models.self_test import check_speech, run_self_test
from validation.models.suite import load_suite
from validation.settings import load_settings


def main() -> int:
    """Returns an exit code; the last line on standard error is the reason of a failure."""
    try:
        suite = load_suite(load_settings().suite)
        run_self_test(suite)
        check_speech(suite)
    except FleetError as error:
        sys.stderr.write(f"{error}\n")
        return exit_code_of(error)
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())

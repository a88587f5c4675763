"""Break the ledger's SQL one line at a time and see that its tests notice: `make mutants`."""

import os
import subprocess
import sys
from pathlib import Path

from mutants import MUTANTS

HERE = Path(__file__).parent
PYTEST = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-p", "no:randomly", *sys.argv[1:]]


def main() -> int:
    """Print a line a mutant; fail if one survives, or if the tests fail without any."""
    if run_tests(None).returncode != 0:
        print("the tests fail without a mutant: repair them first")
        return 1
    survivors = [name for name in MUTANTS if not is_caught(name)]
    print(f"{len(MUTANTS) - len(survivors)} of {len(MUTANTS)} mutants caught")
    return 1 if survivors else 0


def is_caught(name: str) -> bool:
    done = run_tests(name)
    failed = next(
        (line.split()[1].split("::")[-1] for line in done.stdout.splitlines() if line.startswith("FAILED")), None
    )
    print(f"{name:34} {'caught by ' + failed if failed else 'SURVIVED'}", flush=True)
    return failed is not None


def run_tests(mutant: str | None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"VFLEET_MUTANT": mutant} if mutant else {})
    # test_migrate.py migrates again, which mends the mutant: it would catch every one for the wrong reason.
    command = [*PYTEST, str(HERE), f"--ignore={HERE / 'test_migrate.py'}"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main())

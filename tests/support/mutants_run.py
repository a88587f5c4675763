"""`make mutants`: run the ledger's tests once per mutant, in one session on one Postgres, until a test fails.

The tests of a mutant are run in the order in which they are likely to notice it: those of the file that noticed the
last mutant of this function, then those that name the function most often.
"""

import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.ledger_helpers import engine_for
from tests.support.ledger_mutants import MUTANTS, Mutant, apply_mutant, remove_mutant
from validation.local.postgres import EmbeddedPostgres

TESTS = Path(__file__).parents[1]
ATTACKS = ("test_box_keys.py", "test_stolen_box.py", "test_failing_box.py")
MIGRATING = ("test_migrate.py", "test_upgrade.py", "test_mutants.py")
"""These migrate again, which replaces the mutant, or read its source: they would catch each for the wrong reason."""


class MutantLoop:
    """A plugin that replaces the loop over the tests by one loop per mutant."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.caught: dict[str, str] = {}
        self.problem = ""
        """The test that fails without a mutant."""
        self._failed = False
        self._fixtures: dict[str, object] = {}
        self._last_file: dict[str, Path] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
        """Keep the server and the database that every test's ledger is a copy of."""
        value = yield
        self._fixtures[fixturedef.argname] = value
        return value

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notice a failure."""
        self._failed |= report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run all tests without a mutant, then those of each mutant until one fails."""
        if failed := self._run_until_failure(session, session.items):
            self.problem = failed.nodeid
            return True
        for name in self.names:
            mutant, began = MUTANTS[name], time.monotonic()
            with self._mutated(mutant):
                failed = self._run_until_failure(session, self._in_order(session.items, mutant))
            if failed:
                self.caught[name] = failed.name
                self._last_file[mutant.function] = failed.path
            how = f"caught by {failed.name}" if failed else "SURVIVED"
            print(f"{name:46} {time.monotonic() - began:5.1f} s  {how}", flush=True)
        return True

    @contextmanager
    def _mutated(self, mutant: Mutant) -> Generator[None]:
        server, template = self._fixtures["postgres"], self._fixtures["migrated_template"]
        assert isinstance(server, EmbeddedPostgres)
        for change in (apply_mutant, remove_mutant):
            engine = engine_for(server.libpq_url(str(template)))
            change(engine, mutant)
            engine.dispose()  # a template must have no connections
            if change is apply_mutant:
                yield

    def _in_order(self, items: Sequence[pytest.Item], mutant: Mutant) -> list[pytest.Item]:
        last = self._last_file.get(mutant.function)
        return sorted(items, key=lambda one: (one.path != last, -one.path.read_text().count(mutant.function)))

    def _run_until_failure(self, session: pytest.Session, items: Sequence[pytest.Item]) -> pytest.Item | None:
        self._failed = False
        for item, following in zip(items, [*items[1:], items[0]], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._failed:
                session._setupstate.teardown_exact(session.items[0])
                return item
        return None


def main(names: Sequence[str]) -> int:
    """Print one line per mutant; fail if one survives, or if the tests fail without any."""
    loop = MutantLoop(names or list(MUTANTS))
    files = [str(TESTS / "ledger"), *(str(TESTS / "privilege" / name) for name in ATTACKS)]
    ignored = [f"--ignore={TESTS / 'ledger' / name}" for name in MIGRATING]
    # Without the reports of pytest: a failure is what is wanted here.
    options = ["-o", "addopts=", "-n", "0", "--timeout=120", "--import-mode=importlib"]
    options += [word for plugin in ("dash", "randomly", "terminal") for word in ("-p", f"no:{plugin}")]
    pytest.main([*options, *files, *ignored], plugins=[loop])
    if loop.problem:
        print(f"{loop.problem} fails without a mutant: repair it first")
        return 1
    print(f"{len(loop.caught)} of {len(loop.names)} mutants caught")
    return 0 if len(loop.caught) == len(loop.names) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`make mutants` takes half an hour, so that its mutants still apply is tested here."""

import pytest

from tests.support.ledger_mutants import FUNCTIONS, MUTANTS


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_changes_its_function(name):
    """The line that a mutant replaces is in its function, and the replacement is another."""
    mutant = MUTANTS[name]
    source = (FUNCTIONS / f"{mutant.function}.sql").read_text()
    assert mutant.line in source
    assert source.replace(mutant.line, mutant.replacement) != source

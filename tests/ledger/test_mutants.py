"""`make mutants` takes minutes, so that its mutants still apply is tested here."""

import pytest

from tests.support.ledger_mutants import MUTANTS, read_source


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_changes_its_function(name):
    """The line that a mutant replaces is in its function, and the replacement is another."""
    mutant = MUTANTS[name]
    source = read_source(mutant)
    assert mutant.line in source
    assert source.replace(mutant.line, mutant.replacement) != source

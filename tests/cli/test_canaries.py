"""The table and the sentences of `vfleet canaries`."""

from dataclasses import replace
from datetime import UTC, datetime

from validation.cli.canaries import _print_quarantined
from validation.ledger.canaries import QuarantinedWorker

BOB = QuarantinedWorker("bob", "bob", 3, 1, datetime(2026, 1, 1, tzinfo=UTC), "a: text differs", True, False)


def test_excused_workers_hide_no_worker_in_quarantine(capsys):
    """Workers that too many others agree with are named as not in quarantine, and the others as in quarantine."""
    excused = [replace(BOB, known_as=name, is_excused=True) for name in ("ann", "cid", "dan")]
    _print_quarantined([*excused, BOB], [])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("3 workers have wrong canaries")
    assert "not in quarantine: ann, cid, dan." in first
    assert second.startswith("bob is in quarantine since 01 January, 00:00")

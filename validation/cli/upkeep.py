"""`vfleet sweep | audit`: what keeps a fleet going, and proves that it did."""

import argparse

from validation.cli import Subparsers


def add_upkeep_commands(commands: Subparsers) -> None:
    sweeping = commands.add_parser("sweep", help="take back what dead workers hold, by the clock alone")
    sweeping.set_defaults(command=run_sweep)

    auditing = commands.add_parser("audit", help="prove that nothing is lost, doubled or altered; changes nothing")
    auditing.set_defaults(command=run_audit)


def run_sweep(_options: argparse.Namespace) -> None:
    from validation.control.sweep import sweep
    from validation.services import open_ledger, open_results

    report = sweep(open_ledger(), open_results())
    for canary in report.judged:
        print(f"canary {canary.video_id} of {canary.worker_id} is {canary.outcome}")
    for chunk in report.swept:
        print(f"chunk {chunk.chunk_id} of {chunk.worker_id} taken back: {chunk.reason}")
    for held in report.locked:
        print(f"chunk {held.chunk_id} of {held.worker_id} is locked by a call that does not end")
    print(
        f"{len(report.swept)} chunks, {report.stranded_videos} stranded videos, "
        f"{len(report.silent_workers)} workers flagged, {len(report.orphans)} orphans deleted"
    )
    report.raise_if_incomplete()


def run_audit(_options: argparse.Namespace) -> int:
    from validation.control.audit import audit
    from validation.ledger.queries import read_committed_shards
    from validation.services import open_ledger, open_results

    engine, results = open_ledger(), open_results()
    findings = 0
    for finding in audit(engine, results):
        print(finding)
        findings += 1
    print(f"{findings} findings in {len(read_committed_shards(engine))} committed shards")
    return 1 if findings else 0

"""`vfleet deploy | sweep | audit`: what keeps a fleet going, and proves that it did."""

import argparse
import os

from validation.commands import Subparsers
from validation.errors import BadInput


def add_upkeep_commands(commands: Subparsers) -> None:
    deploying = commands.add_parser("deploy", help="create pools, deployments and automations on Prefect's server")
    deploying.add_argument("--home", default="/app", help="where the project lies on the workers (default: /app)")
    deploying.set_defaults(command=run_deploy)

    sweeping = commands.add_parser("sweep", help="take back what dead workers hold, by the clock alone")
    sweeping.set_defaults(command=run_sweep)

    auditing = commands.add_parser("audit", help="prove that nothing is lost, doubled or altered; changes nothing")
    auditing.set_defaults(command=run_audit)


def run_deploy(options: argparse.Namespace) -> None:
    from validation.local.prefect_client import PrefectClient

    if "PREFECT_API_URL" not in os.environ:
        raise BadInput("PREFECT_API_URL is not set: it is the Prefect server's address, ending in /api")
    PrefectClient(os.environ, home=options.home).deploy_all()
    print(f"deployed to {os.environ['PREFECT_API_URL']}; the workers run the code in {options.home}")


def run_sweep(_options: argparse.Namespace) -> None:
    from validation.control.sweep import sweep
    from validation.services import open_ledger, open_results

    engine, results = open_ledger(), open_results()
    report = sweep(engine, results, ended_runs=[])
    for chunk in report.swept:
        print(f"chunk {chunk.chunk_id} of {chunk.worker_id} taken back: {chunk.reason}")
    print(
        f"{len(report.swept)} chunks, {report.stranded_videos} stranded videos, "
        f"{len(report.silent_workers)} workers flagged, {len(report.orphans)} orphans deleted"
    )


def run_audit(_options: argparse.Namespace) -> int:
    from validation.control.audit import audit
    from validation.ledger.views import read_committed_shards
    from validation.services import open_ledger, open_results

    engine, results = open_ledger(), open_results()
    findings = 0
    for finding in audit(engine, results):
        print(finding)
        findings += 1
    print(f"{findings} findings in {len(read_committed_shards(engine))} committed shards")
    return 1 if findings else 0

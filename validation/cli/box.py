"""`vfleet box`: which machine may use which worker id."""

import argparse

from validation.cli import Subparsers


def add_box_commands(subparsers: Subparsers) -> None:
    """Add `box` with its commands. Rented machines need none of them: the fleet's tick does it for them."""
    box = subparsers.add_parser("box", help="machines that nobody rented, and what was lent: admit, revoke, loans")
    commands = box.add_subparsers(title="commands", required=True)

    admitting = commands.add_parser("admit", help="give a worker id to one machine; prints what its environment needs")
    admitting.add_argument("worker_id", help="its WORKER_ID")
    admitting.set_defaults(command=run_admit)

    revoking = commands.add_parser("revoke", help="shut out whoever works under a worker id, at once")
    revoking.add_argument("worker_id", help="whose key ends")
    revoking.set_defaults(command=run_revoke)

    lent = commands.add_parser("loans", help="show every machine with a key, and how long what it was lent lasts")
    lent.set_defaults(command=run_loans)


def run_admit(options: argparse.Namespace) -> None:
    from validation.credentials.issuer import lending
    from validation.gateway.tokens import find_tokens, headers_for
    from validation.ledger.box_credentials import issue_box_key
    from validation.services import open_ledger
    from validation.settings import load_settings
    from validation.shards.naming import shard_folder

    shard_folder(options.worker_id)  # refuses a name that cannot name a folder
    engine, settings = open_ledger(), load_settings()
    tokens = find_tokens(settings)
    with lending(engine, settings) as lender:
        minted = lender.mint(options.worker_id) if lender else {}
        token = tokens.add(options.worker_id) if tokens else None
        key = issue_box_key(engine, options.worker_id)
        if lender:
            lender.lend(options.worker_id, minted)
    print(f"WORKER_ID={options.worker_id}\nVFLEET_BOX_KEY={key}")
    if token:
        print(f"PREFECT_CLIENT_CUSTOM_HEADERS={headers_for(options.worker_id, token)}")


def run_revoke(options: argparse.Namespace) -> None:
    from validation.gateway.tokens import find_tokens
    from validation.ledger.box_credentials import issue_box_key
    from validation.ledger.workers import retire_worker
    from validation.services import open_ledger
    from validation.settings import load_settings

    engine, tokens = open_ledger(), find_tokens(load_settings())
    if tokens and options.worker_id in tokens.read():
        tokens.revoke(options.worker_id)
    issue_box_key(engine, options.worker_id)  # a key that nobody is told
    released = retire_worker(engine, options.worker_id)
    print(f"{options.worker_id} is shut out; {released} chunks went back")


def run_loans(_options: argparse.Namespace) -> None:
    from validation.ledger.box_credentials import read_credential_status
    from validation.services import open_ledger

    for loan in read_credential_status(open_ledger()):
        lasts = "no credential" if loan.expires_in_s is None else f"expires in {loan.expires_in_s / 3600:.1f} h"
        print(f"{loan.worker_id}: {lasts}{', due' if loan.is_due else ''}, key of {loan.issued_at:%d %b %H:%M}")

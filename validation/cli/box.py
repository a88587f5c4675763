"""`vfleet box`: add and revoke boxes outside the fleet, undo decisions of a box, and list the credentials of boxes."""

from typing import Annotated

import typer

from validation.cli import JsonOption
from validation.output import print_json, print_table, say

PANEL = "Fleet"

box_app = typer.Typer(no_args_is_help=True)


def add_commands(app: typer.Typer) -> None:
    app.add_typer(
        box_app,
        name="box",
        rich_help_panel=PANEL,
        help="Boxes outside the fleet: add, revoke; credentials of all boxes.",
    )


@box_app.command()
def add(worker_id: Annotated[str, typer.Argument(help="The WORKER_ID of the box.")]) -> None:
    """Give a box outside the fleet a key for a worker id, and print the variables that its environment needs.

    Rented boxes do not need this command: each tick of the fleet does the same for them.

    Example: `vfleet box add home-1 >> box.env`
    """
    from validation.credentials.issuer import open_issuer
    from validation.gateway.tokens import find_token_file, headers_for
    from validation.ledger.boxes import issue_box_key
    from validation.services import open_ledger
    from validation.settings import load_settings
    from validation.shards.naming import shard_folder

    shard_folder(worker_id)  # raises BadInput if the id is not a valid folder name
    engine, settings = open_ledger(), load_settings()
    tokens = find_token_file(settings)
    with open_issuer(engine, settings) as issuer:
        credentials = issuer.create(worker_id) if issuer else {}
        token = tokens.add(worker_id) if tokens else None
        key = issue_box_key(engine, worker_id)
        if issuer:
            issuer.store(worker_id, credentials)
    print(f"WORKER_ID={worker_id}\nVFLEET_BOX_KEY={key}")
    if token:
        print(f"PREFECT_CLIENT_CUSTOM_HEADERS={headers_for(worker_id, token)}")


@box_app.command()
def revoke(worker_id: Annotated[str, typer.Argument(help="The WORKER_ID whose key ends.")]) -> None:
    """End the box key and the gateway token of a worker id at once; the videos of its open chunks are pending again.

    All database sessions of boxes end too; the other boxes repeat one call. Object-store credentials that the box
    already holds stay valid until they expire.

    Example: `vfleet box revoke home-1`
    """
    from validation.errors import BadInput
    from validation.gateway.tokens import find_token_file
    from validation.ledger.boxes import issue_box_key, read_credential_status
    from validation.ledger.maintenance import end_box_sessions
    from validation.ledger.queries import read_view
    from validation.ledger.workers import retire_worker
    from validation.services import open_ledger
    from validation.settings import load_settings

    engine, tokens = open_ledger(), find_token_file(load_settings())
    has_token = tokens is not None and worker_id in tokens.read()
    known = {status.worker_id for status in read_credential_status(engine)}
    known |= {row["worker_id"] for row in read_view(engine, "worker_liveness")}
    if not has_token and worker_id not in known:
        raise BadInput(f"no box has worker id {worker_id!r}: `vfleet box credentials` lists the boxes with a key")
    if tokens and has_token:
        tokens.revoke(worker_id)
    issue_box_key(engine, worker_id)  # the new key replaces the box's key, and no box gets it
    end_box_sessions(engine, idle_s=0, transaction_s=0)  # a transaction of the box may hold locks
    released = retire_worker(engine, worker_id)
    say(f"{worker_id} is revoked; {released} chunks went back to the queue")


@box_app.command()
def undo(
    box: Annotated[str, typer.Argument(help="WORKER_ID of the box, or label of a rented box.")],
    since: Annotated[str, typer.Option(help="How far back: minutes, hours or days, such as 90m, 2h, 3d; 7d at most.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done; change nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Take back what a box decided: videos that it failed, put off, crashed or validated go back to the queue.

    The attempts that it added are subtracted. Results stay current until the videos are validated again. Revoke the box
    first, or it continues to decide.

    Example: `vfleet box undo val-7 --since 2h --dry-run`
    """
    from validation.errors import BadInput
    from validation.ledger.boxes import KEPT_S, undo_box
    from validation.services import open_ledger

    unit_s = {"m": 60, "h": 3600, "d": 86400}.get(since[-1:], 0)
    if not unit_s or not since[:-1].isdecimal() or not 0 < int(since[:-1]) * unit_s <= KEPT_S:
        raise BadInput(f"--since {since!r} is not a time from 1m to 7d: write it as 90m, 2h or 3d")
    undone = undo_box(open_ledger(), box, since_s=int(since[:-1]) * unit_s, dry_run=dry_run)
    if json:
        for each in undone:
            print_json(each)
        return
    would = "would go" if dry_run else "went"
    for each in undone:
        say(f"{each.videos} videos that it decided as {each.decision} {would} back to the queue")
    if not undone:
        say(f"{box} decided nothing within {since}")


@box_app.command()
def credentials(json: JsonOption = False) -> None:
    """List the boxes with a key, and how long the store credentials issued to them are valid."""
    from validation.ledger.boxes import read_credential_status
    from validation.services import open_ledger

    issued = read_credential_status(open_ledger())
    if json:
        for each in issued:
            print_json(each)
        return
    print_table(
        ("worker", "credentials", "renewal", "key issued"),
        [
            (
                each.worker_id,
                "none issued" if each.expires_in_s is None else f"valid for {each.expires_in_s / 3600:.1f} h",
                "due" if each.is_due else "",
                each.issued_at,
            )
            for each in issued
        ],
    )

from validation.ledger.migrate import run_file

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_file("0007_chunk_tallies.sql")

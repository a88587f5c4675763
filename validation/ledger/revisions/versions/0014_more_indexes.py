from validation.ledger.migrate import run_file

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    run_file("0014_more_indexes.sql")

"""Alembic's entry: the connection comes from `validation.ledger.migrate`, never from a file."""

from alembic import context
from sqlalchemy import Connection


def run_online(connection: Connection) -> None:
    connection.exec_driver_sql("CREATE SCHEMA IF NOT EXISTS validation")  # home of alembic's own table
    connection.commit()
    context.configure(connection=connection, version_table_schema="validation", transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


def run_offline() -> None:
    context.configure(
        dialect_name="postgresql", literal_binds=True, version_table_schema="validation", transaction_per_migration=True
    )
    context.get_context().impl.static_output("CREATE SCHEMA IF NOT EXISTS validation;")
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    run_online(context.config.attributes["connection"])

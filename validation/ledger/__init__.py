"""The ledger in Postgres: one Python function per SQL function or view, migrations and connections."""

"""The ledger in Postgres: connections, migrations, and one Python function per SQL function or view."""

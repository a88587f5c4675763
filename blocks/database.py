"""The ledger's address and login."""

from typing import Self

from prefect.blocks.core import Block
from pydantic import Field, SecretStr
from sqlalchemy import Engine

from validation.doctor.database import check_control_role, check_database, check_migration, check_pooler, check_tls
from validation.ledger.engine import open_engine
from validation.settings import Settings

BLOCK = "ledger"
"""The name of the block document that the control plane uses where the environment has no DATABASE_URL."""


class ValidationDatabase(Block):
    """The Postgres that holds the queue and the ledger, with the control plane's login.

    For the control plane alone: a box is told its own, lesser login by its environment. Whoever may read this block may
    take work from every box. Behind the gateway boxes cannot; with a self-hosted server's password, or a key of Prefect
    Cloud whose role reads blocks, they can: then leave the block out and set DATABASE_URL on the control machine.
    """

    _block_type_name = "Validation database"
    _block_type_slug = "validation-database"

    url: SecretStr = Field(
        description="postgresql://user:password@host:port/database. On Supabase the pooler's port 6543 (transaction "
        "mode), with &sslrootcert=FILE for its authority."
    )

    def open_engine(self) -> Engine:
        """Open the ledger. Connects on first use."""
        return open_engine(self.url.get_secret_value())

    def test_connection(self) -> list[str]:
        """Say what is found there, a line a check.

        Raises:
            FleetError: the first thing that is wrong or doubtful, with what to do.
        """
        settings = Settings(database_url=self.url)
        checks = (check_database, check_pooler, check_tls, check_migration, check_control_role)
        return [found for check in checks if (found := check(settings))]

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The database of the environment."""
        return cls(url=settings.database_url)

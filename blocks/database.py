"""The block of the ledger's address and login."""

from typing import Self

from prefect.blocks.core import Block
from pydantic import Field, SecretStr
from sqlalchemy import Engine

from validation.doctor.database import check_control_role, check_database, check_migration, check_pooler, check_tls
from validation.ledger.engine import open_engine
from validation.settings import Settings

BLOCK = "ledger"
"""The name of the block document that the control plane uses if the environment has no DATABASE_URL."""


class ValidationDatabase(Block):
    """The Postgres database of the queue and the ledger, with the login of the control plane.

    For the control plane only; a box gets its own login with fewer rights from its environment. This login can take
    chunks from every box. Boxes behind the gateway cannot read blocks. Boxes with the password of a self-hosted server,
    or with a Prefect Cloud key whose role reads blocks, can: then omit this block and set DATABASE_URL on the control
    machine.
    """

    _block_type_name = "Validation database"
    _block_type_slug = "validation-database"

    url: SecretStr = Field(
        description="postgresql://user:password@host:port/database. On Supabase the pooler's port 6543 (transaction "
        "mode), with &sslrootcert=FILE for its certificate authority."
    )

    def open_engine(self) -> Engine:
        """Open the ledger. Connects on first use."""
        return open_engine(self.url.get_secret_value())

    def test_connection(self) -> list[str]:
        """Run the database checks; returns one line per check.

        Raises:
            FleetError: the first check that fails or warns, with what to do.
        """
        settings = Settings(database_url=self.url)
        checks = (check_database, check_pooler, check_tls, check_migration, check_control_role)
        return [found for check in checks if (found := check(settings))]

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The database of the environment."""
        return cls(url=settings.database_url)

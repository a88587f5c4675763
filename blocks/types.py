"""The Prefect block types for the database, the suite and the Vast.ai account, and functions that load their documents.

The control plane takes from a block document only settings that its environment lacks, so a block document cannot
redirect a command whose environment is complete. A box takes all settings from its own environment, so it needs no
right to read blocks. `prefect block register --module blocks.types` registers the types, and so
does `vfleet bootstrap`.
"""

import os
from collections.abc import Mapping
from typing import Self, TypeVar

from prefect.blocks.core import Block
from pydantic import Field, SecretStr
from sqlalchemy import Engine

from validation.doctor.database import check_control_role, check_database, check_migration, check_pooler, check_tls
from validation.doctor.stores import check_vast
from validation.fleet.launch_spec import PREFIX, read_box_environment
from validation.ledger.engine import open_engine
from validation.settings import Settings, load_settings
from validation.vast.client import VastClient
from validation.vast.errors import VastKeyMissing
from validation.worker.chunk.open import validate_settings

Kind = TypeVar("Kind", bound=Block)


def find_block(kind: type[Kind], name: str) -> Kind | None:
    """Load a block document; None if no block document has this name."""
    try:
        return kind.load(name)  # type: ignore[return-value]  # synchronous here, although its signature says otherwise
    except ValueError:
        return None


DATABASE_BLOCK = "ledger"
"""The name of the block document that the control plane uses if the environment has no DATABASE_URL."""


class ValidationDatabase(Block):
    """The Postgres database of the queue and the ledger, with the login of the control plane.

    Only the control plane uses this block. A box gets another login, with fewer rights, from its environment. The login
    of this block can take chunks from every box. Boxes behind the gateway cannot read blocks. Boxes with the password
    of a self-hosted server, or with a Prefect Cloud key whose role reads blocks, can read this block: there, omit the
    block and set DATABASE_URL on the control machine.
    """

    _block_type_name = "Validation database"
    _block_type_slug = "validation-database"

    url: SecretStr = Field(
        description="postgresql://user:password@host:port/database. On Supabase the pooler's port 6543 (transaction "
        "mode), with &sslrootcert=FILE for its certificate authority."
    )

    def open_engine(self) -> Engine:
        """Return an engine of the ledger. The engine connects on first use."""
        return open_engine(self.url.get_secret_value())

    def test_connection(self) -> list[str]:
        """Run the database checks; returns one line per check.

        Raises:
            FleetError: a check fails or warns; the message says what to do. Later checks are not run.
        """
        settings = Settings(database_url=self.url)
        checks = (check_database, check_pooler, check_tls, check_migration, check_control_role)
        return [found for check in checks if (found := check(settings))]

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Build the block from the environment's database address."""
        return cls(url=settings.database_url)


SUITE_BLOCK = "suite"
"""The name of the block document for the box settings that the environment of the control plane lacks."""


class ModelSuite(Block):
    """The suite, the languages and the chunk size of new boxes. Boxes that already run keep their settings.

    The block supplies only ``BOX_`` variables that the environment of the control plane lacks. It holds no secret.
    """

    _block_type_name = "Model suite"
    _block_type_slug = "model-suite"

    suite: str = Field(
        "indic", description="The models that score segments: `indic` in production; `local` or `vad` for tests."
    )
    languages: list[str] = Field(
        default_factory=list, description="Only claim videos of these languages (ISO 639 codes); empty means all."
    )
    chunk_videos: int = Field(50, ge=1, le=1000, description="Videos per chunk, and so per shard.")

    def box_environment(self) -> dict[str, str]:
        """Return these settings as ``BOX_`` variables of the control plane: variable name -> value."""
        variables = {"VFLEET_SUITE": self.suite, "PARQUET_SHARD_SIZE": str(self.chunk_videos)}
        if self.languages:
            variables["VFLEET_LANGUAGES"] = ",".join(self.languages)
        return {PREFIX + name: value for name, value in variables.items()}

    def test_connection(self) -> list[str]:
        """Check the suite and languages; returns one line ``BOX_NAME=value`` per setting of new boxes.

        Raises:
            BadInput: the suite or a language is unknown.
        """
        validate_settings(Settings(suite=self.suite, languages=tuple(self.languages)))
        return [f"{name}={value}" for name, value in self.box_environment().items()]

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Build the block from the environment's suite, languages and chunk size."""
        return cls(suite=settings.suite, languages=list(settings.languages), chunk_videos=settings.chunk_videos)


def collect_box_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Collect the environment of new boxes from the ``BOX_`` variables, and missing variables from the block ``suite``.

    Raises:
        BadInput: a variable is missing or not allowed (see ``read_box_environment``).
    """
    block = find_block(ModelSuite, SUITE_BLOCK)
    return read_box_environment((block.box_environment() if block else {}) | dict(environment))


VAST_BLOCK = "vast"
"""The name of the block document that is used if the environment has no VAST_API_KEY."""


class VastCredentials(Block):
    """A Vast.ai account.

    Every reader of this block can spend the account's money. On a self-hosted Prefect server every client with the
    server's password can read blocks, boxes included: there, omit this block and set VAST_API_KEY on the control
    machine.
    """

    _block_type_name = "Vast.ai credentials"
    _block_type_slug = "vast-credentials"

    api_key: SecretStr = Field(description="A key with the permissions misc, user_read, instance_read, instance_write.")
    url: str = Field("https://console.vast.ai", description="Where the API is.")

    def open_client(self) -> VastClient:
        """Return a client of the account. Sends no request."""
        return VastClient(self.api_key, self.url)

    def test_connection(self) -> list[str]:
        """Check the account; returns one line about its credit.

        Raises:
            FleetError: the check fails or warns; the message says what to do.
        """
        found = check_vast(Settings(vast_api_key=self.api_key, vast_url=self.url))
        if found is None:
            raise VastKeyMissing
        return [found]

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Build the block from the environment's Vast.ai key."""
        return cls(api_key=settings.vast_api_key, url=settings.vast_url)


def find_vast_account(settings: Settings | None = None) -> VastCredentials:
    """Return the Vast.ai account of the environment, else the account of the block document ``vast``.

    If both lack a key, ``open_client`` of the result raises ``VastKeyMissing``.
    """
    settings = settings or load_settings()
    if not settings.vast_api_key.get_secret_value():
        return find_block(VastCredentials, VAST_BLOCK) or VastCredentials.from_settings(settings)
    return VastCredentials.from_settings(settings)

"""The block of the Vast.ai account that rents boxes."""

from typing import Self

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from blocks.documents import find_block
from validation.doctor.accounts import check_vast
from validation.settings import Settings, load_settings
from validation.vast.client import VastClient
from validation.vast.errors import VastKeyMissing

BLOCK = "vast"
"""The name of the block document that is used if the environment has no VAST_API_KEY."""


class VastCredentials(Block):
    """A Vast.ai account.

    A reader of this block can spend the account's money. On a self-hosted Prefect server every client with its password
    can read it, boxes included: there, set VAST_API_KEY in the environment of the control plane instead.
    """

    _block_type_name = "Vast.ai credentials"
    _block_type_slug = "vast-credentials"

    api_key: SecretStr = Field(description="A key with the permissions misc, user_read, instance_read, instance_write.")
    url: str = Field("https://console.vast.ai", description="Where the API is.")

    def open_client(self) -> VastClient:
        """A client of the account. Sends nothing yet."""
        return VastClient(self.api_key, self.url)

    def test_connection(self) -> list[str]:
        """Check the account; returns one line about its credit.

        Raises:
            FleetError: the check fails or warns, with what to do.
        """
        found = check_vast(Settings(vast_api_key=self.api_key, vast_url=self.url))
        if found is None:
            raise VastKeyMissing
        return [found]

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The account of the environment."""
        return cls(api_key=settings.vast_api_key, url=settings.vast_url)


def find_credentials(settings: Settings | None = None) -> VastCredentials:
    """The account of the environment, else of the block ``vast``.

    Raises:
        VastKeyMissing: neither has a key, once the client is opened.
    """
    settings = settings or load_settings()
    if not settings.vast_api_key.get_secret_value():
        return find_block(VastCredentials, BLOCK) or VastCredentials.from_settings(settings)
    return VastCredentials.from_settings(settings)

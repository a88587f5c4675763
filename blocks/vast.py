"""The account that rents machines."""

from typing import Self

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from blocks.documents import find_block
from validation.doctor.accounts import check_vast
from validation.settings import Settings, load_settings
from validation.vast.client import VastClient
from validation.vast.errors import VastKeyMissing

BLOCK = "vast"
"""The name of the block document that is used where the environment has no key."""


class VastCredentials(Block):
    """A Vast.ai account.

    Whoever may read this block may spend the account's money. On a self-hosted Prefect server that is everybody with
    its one password, the boxes included: there, give the key to the control plane's environment (VAST_API_KEY) instead.
    """

    _block_type_name = "Vast.ai credentials"
    _block_type_slug = "vast-credentials"

    api_key: SecretStr = Field(description="A key with the permissions misc, user_read, instance_read, instance_write.")
    url: str = Field("https://console.vast.ai", description="Where the API is.")

    def open_client(self) -> VastClient:
        """Open the account; nothing is sent yet."""
        return VastClient(self.api_key, self.url)

    def test_connection(self) -> list[str]:
        """Say what the account has.

        Raises:
            FleetError: what is wrong or doubtful, with what to do.
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

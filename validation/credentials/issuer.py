"""Lend each box what opens the stores as far as its own work goes: it reads tars, and writes into its own folder."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from sqlalchemy import Engine

from validation.credentials.cloudflare import CloudflareClient, Scope
from validation.domain import StoreCredential
from validation.errors import BadInput, FleetError
from validation.ledger.box_credentials import StoreName, read_credential_status, store_credential
from validation.settings import Settings
from validation.shards.naming import shard_folder

LASTS_S = 6 * 3600
"""A stolen credential is of use for so long at most. Renewed when half of it is left: the control plane may be away for
three hours before the first box notices."""


@dataclass(frozen=True, slots=True)
class CredentialIssuer:
    """Makes credentials and keeps them in the ledger, where the box that they are for can ask for them."""

    engine: Engine
    client: CloudflareClient
    source_url: str
    results_url: str

    def mint(self, worker_id: str) -> Mapping[StoreName, StoreCredential]:
        """Make what a box needs; keep nothing. Raises as ``CloudflareClient.mint``."""
        scopes = choose_scopes(worker_id, source_url=self.source_url, results_url=self.results_url)
        return {store: self.client.mint(scope, lasts_s=LASTS_S) for store, scope in scopes.items()}

    def lend(self, worker_id: str, minted: Mapping[StoreName, StoreCredential]) -> None:
        """Keep what was made for a box that has a key."""
        for store, credential in minted.items():
            store_credential(self.engine, worker_id, store, credential, ttl_s=LASTS_S)

    def renew(self) -> list[str]:
        """Lend anew to every box whose loan is half over. Returns why that did not work, where it did not."""
        for loan in read_credential_status(self.engine):
            if loan.is_due:
                try:
                    self.lend(loan.worker_id, self.mint(loan.worker_id))
                except FleetError as error:
                    return [f"boxes cannot be lent credentials: {error}"]  # the others would hear the same
        return []


def choose_scopes(worker_id: str, *, source_url: str, results_url: str) -> Mapping[StoreName, Scope]:
    """What one worker may open: all tars for reading, its own shards for reading and writing."""
    (source, source_prefix), (results, results_prefix) = _split(source_url), _split(results_url)
    return {
        "source": Scope(source, "object-read-only", source_prefix),
        "results": Scope(results, "object-read-write", f"{results_prefix}{shard_folder(worker_id)}/"),
    }


@contextmanager
def lending(engine: Engine, settings: Settings) -> Iterator[CredentialIssuer | None]:
    """Who lends, where the environment has a token to lend from. None: boxes are told keys of the operator's choice.

    Raises:
        BadInput: there is a token, and something else is missing.
    """
    token, parent = settings.cloudflare_api_token, settings.s3_access_key_id
    if token is None:
        yield None
        return
    if parent is None or not settings.cloudflare_account_id:
        raise BadInput("CLOUDFLARE_API_TOKEN needs CLOUDFLARE_ACCOUNT_ID and R2_ACCESS_KEY_ID beside it")
    with CloudflareClient(
        token,
        account_id=settings.cloudflare_account_id,
        parent_access_key_id=parent,
        base_url=settings.cloudflare_url,
    ) as client:
        yield CredentialIssuer(engine, client, settings.source_url, settings.results_url)


def _split(url: str) -> tuple[str, str]:
    """The bucket of an address, and its prefix with a slash at the end or nothing."""
    parts = urlsplit(url)
    if parts.scheme != "s3":
        raise BadInput(f"only an s3:// store can be lent, and not {url}")
    prefix = unquote(parts.path).strip("/")
    return parts.netloc, f"{prefix}/" if prefix else ""

"""The issuer of box credentials: each box may read all tars and write its own shards, and nothing else."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from sqlalchemy import Engine

from validation.credentials.cloudflare import CloudflareClient, Scope
from validation.domain import StoreCredential
from validation.errors import BadInput, FleetError
from validation.ledger.boxes import StoreName, read_credential_status, store_credential
from validation.settings import Settings
from validation.shards.naming import shard_folder

TTL_S = 6 * 3600
"""Life of a credential, and so the longest use of a stolen one. It is renewed when half of its life is left, so the
control machine may be away for three hours before the first box notices."""


@dataclass(frozen=True, slots=True)
class CredentialIssuer:
    """Creates credentials and stores them in the ledger, from which each box reads its own."""

    engine: Engine
    client: CloudflareClient
    source_url: str
    results_url: str

    def create(self, worker_id: str) -> Mapping[StoreName, StoreCredential]:
        """Create the credentials of one box without storing them. Raises as ``CloudflareClient.create_credential``."""
        scopes = choose_scopes(worker_id, source_url=self.source_url, results_url=self.results_url)
        return {store: self.client.create_credential(scope, ttl_s=TTL_S) for store, scope in scopes.items()}

    def store(self, worker_id: str, credentials: Mapping[StoreName, StoreCredential]) -> None:
        """Store created credentials for a box that has a box key."""
        for store, credential in credentials.items():
            store_credential(self.engine, worker_id, store, credential, ttl_s=TTL_S)

    def renew(self) -> list[str]:
        """Renew every credential whose life is half over. Returns at most one sentence on why that failed."""
        for issued in read_credential_status(self.engine):
            if issued.is_due:
                try:
                    self.store(issued.worker_id, self.create(issued.worker_id))
                except FleetError as error:
                    return [f"credentials of boxes cannot be renewed: {error}"]  # the other boxes' would fail alike
        return []


def choose_scopes(worker_id: str, *, source_url: str, results_url: str) -> Mapping[StoreName, Scope]:
    """What one worker may open: all tars for reading, its own shards for reading and writing."""
    (source, source_prefix), (results, results_prefix) = _split(source_url), _split(results_url)
    return {
        "source": Scope(source, "object-read-only", source_prefix),
        "results": Scope(results, "object-read-write", f"{results_prefix}{shard_folder(worker_id)}/"),
    }


@contextmanager
def open_issuer(engine: Engine, settings: Settings) -> Iterator[CredentialIssuer | None]:
    """The issuer, where the settings have an R2 token; None where boxes get keys of the operator's choice.

    Raises:
        BadInput: there is a token, and a setting that it needs is missing.
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
    """Bucket and prefix of a store's address; the prefix is empty or ends with a slash."""
    parts = urlsplit(url)
    if parts.scheme != "s3":
        raise BadInput(f"credentials can be issued only for an s3:// store, not for {url}")
    prefix = unquote(parts.path).strip("/")
    return parts.netloc, f"{prefix}/" if prefix else ""

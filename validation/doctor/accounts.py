"""The accounts of the control machine: Vast.ai rents boxes, Cloudflare issues store credentials."""

from validation.credentials.issuer import choose_scopes, open_issuer
from validation.doctor.check import CheckWarning
from validation.services import open_ledger
from validation.settings import Settings
from validation.vast.client import VastClient

TEST_CREDENTIAL_S = 900
"""Lifetime of the credential that a check creates."""


def check_vast(settings: Settings) -> str | None:
    """Vast.ai accepts the key, and returns the credit and all instances, as every tick of the fleet needs."""
    if not settings.vast_api_key.get_secret_value():
        return None
    with VastClient(settings.vast_api_key, settings.vast_url) as client:
        credit, listing = client.read_credit(), client.list_instances()
    if not listing.complete:
        raise CheckWarning(
            f"Vast.ai does not list all instances of the account, so the fleet rents nothing: {listing.why_incomplete}"
        )
    if credit <= 0:
        raise CheckWarning(f"the Vast.ai account has ${credit:.2f} of credit: top it up, or nothing is rented")
    return f"${credit:.2f} of credit, {len(listing.instances)} instances"


def check_cloudflare(settings: Settings) -> str | None:
    """Cloudflare creates the credentials that a box would get, for both buckets."""
    engine = open_ledger(settings, check_revision=False)
    with open_issuer(engine, settings) as issuer:
        if issuer is None:
            return None
        scopes = choose_scopes("doctor", source_url=settings.source_url, results_url=settings.results_url)
        for scope in scopes.values():
            issuer.client.create_credential(scope, ttl_s=TEST_CREDENTIAL_S)
    return ", ".join(f"issues {scope.permission} for {scope.bucket}" for scope in scopes.values())

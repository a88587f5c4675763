"""The accounts that rent and lend: does each still know its key?"""

from validation.credentials.issuer import choose_scopes, lending
from validation.doctor.check import CheckWarning
from validation.ledger.engine import open_engine
from validation.settings import Settings
from validation.vast.client import VastClient

TRIAL_S = 900
"""How long a credential lasts that is made only to see that it can be made."""


def check_vast(settings: Settings) -> str | None:
    """Vast.ai knows the key, and tells it what the fleet asks at every tick: the credit, and every machine."""
    if not settings.vast_api_key.get_secret_value():
        return None
    with VastClient(settings.vast_api_key, settings.vast_url) as client:
        credit, listing = client.read_credit(), client.list_instances()
    if not listing.complete:
        raise CheckWarning(f"Vast.ai does not list all machines of the account: {listing.why_incomplete}")
    if credit <= 0:
        raise CheckWarning(f"the Vast.ai account has ${credit:.2f} of credit: top it up, or nothing is rented")
    return f"${credit:.2f} of credit, {len(listing.instances)} machines"


def check_cloudflare(settings: Settings) -> str | None:
    """Cloudflare lends what a box would be lent, of both buckets."""
    engine = open_engine(settings.database_url.get_secret_value(), settings.box_key)
    with lending(engine, settings) as lender:
        if lender is None:
            return None
        scopes = choose_scopes("doctor", source_url=settings.source_url, results_url=settings.results_url)
        for scope in scopes.values():
            lender.client.mint(scope, lasts_s=TRIAL_S)
    return ", ".join(f"lends {scope.permission} of {scope.bucket}" for scope in scopes.values())

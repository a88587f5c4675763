"""What the vendor's refusals ask of us. Told apart by the body: its status codes mislead."""

from validation.errors import BadInput, Permanent, Transient


class VastKeyMissing(BadInput):
    """There is no key to rent with."""

    def __init__(self) -> None:
        super().__init__("VAST_API_KEY is not set: make a key in the Vast.ai console, nothing was rented")


class VastKeyRefused(BadInput):
    """The vendor does not know the key, or the key may not do this."""

    def __init__(self, endpoint: str, message: str) -> None:
        self.endpoint, self.message = endpoint, message
        super().__init__(f"Vast.ai refuses the key for {endpoint} ({message}): check VAST_API_KEY and its permissions")


class CreditExhausted(BadInput):
    """The account cannot pay. Not the market's fault, and not a machine's."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(f"the Vast.ai account has no credit ({message}): top it up, nothing more is rented until then")


class SpendLimited(BadInput):
    """The account may not cost more an hour, however much credit it has: new ones are held so by the vendor."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(
            f"the Vast.ai account is at its spend rate limit ({message}): ask the vendor to raise it, nothing more is "
            "rented until then"
        )


class OfferGone(Permanent):
    """Somebody else rented it, or it was never there. Take the next one."""

    def __init__(self, offer_id: int) -> None:
        self.offer_id = offer_id
        super().__init__(f"offer {offer_id} is not available any more")


class SearchQuotaExceeded(Transient):
    """The account has read as many rows as it may today."""

    def __init__(self, retry_after_s: float | None) -> None:
        self.retry_after_s = retry_after_s
        when = f"in {retry_after_s:.0f} s" if retry_after_s else "tomorrow (UTC)"
        super().__init__(f"the account's daily search quota is used up: offers can be read again {when}")


class Throttled(Transient):
    """Asked too often, also after a pause."""

    def __init__(self, endpoint: str, retry_after_s: float | None) -> None:
        self.endpoint, self.retry_after_s = endpoint, retry_after_s
        super().__init__(f"Vast.ai throttles {endpoint}: slower, or fewer programs on one key")


class OutcomeUnknown(Transient):
    """A request may have taken effect: its answer was lost. It must not be repeated blindly."""

    def __init__(self, endpoint: str, cause: str) -> None:
        self.endpoint, self.cause = endpoint, cause
        super().__init__(f"nobody knows whether {endpoint} took effect ({cause})")


class RequestRefused(Permanent):
    """The vendor said no, in words that we have no special answer for. Nothing took effect."""

    def __init__(self, endpoint: str, status: int, error: str, message: str) -> None:
        self.endpoint, self.status, self.error, self.message = endpoint, status, error, message
        super().__init__(f"Vast.ai refused {endpoint} with {status} {error}: {message}")


class CreatedButFailed(Permanent):
    """A create was refused, and yet left an instance that bills its disk. Destroy it."""

    def __init__(self, instance_id: int, error: str) -> None:
        self.instance_id, self.error = instance_id, error
        super().__init__(f"a refused create ({error}) left instance {instance_id}: it must be destroyed")

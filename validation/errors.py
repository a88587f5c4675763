"""Every failure of the fleet, sorted by what its caller must do."""


class FleetError(Exception):
    """A failure with a sentence fit for an operator: what happened, to what, what to do."""


class BadInput(FleetError):
    """An argument, a setting, a credential or the machine must be changed first. Nothing was changed. Exit code 2."""


class Transient(FleetError):
    """Trying again later may succeed. Exit code 3."""


class Permanent(FleetError):
    """Trying again cannot help. Exit code 1."""


class ClaimLost(FleetError):
    """Another holder owns this chunk now, or nobody does: write nothing, delete what was uploaded, stop."""

    def __init__(self, chunk_id: object, state: str) -> None:
        self.chunk_id, self.state = chunk_id, state
        super().__init__(f"chunk {chunk_id} is {state}, not open: its videos are no longer ours")


class Unreachable(Transient):
    """A service does not answer."""

    def __init__(self, service: str, address: str, check: str, cause: object) -> None:
        self.service, self.address, self.check = service, address, check
        reason = str(cause).strip().splitlines()
        super().__init__(f"{service} at {address} is unreachable: {check} ({reason[0] if reason else repr(cause)})")

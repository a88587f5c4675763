"""A client of a fake Vast without a socket, in virtual time."""

from simulation.market.world import VirtualClock, open_client

ORDER = {"image": "ghcr.io/o/worker:1", "disk": 50, "label": "l", "env": {"DATABASE_URL": "s3cret"}}
client_of = open_client

__all__ = ["ORDER", "VirtualClock", "client_of"]

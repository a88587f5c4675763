"""A client of a fake Vast without a socket, in virtual time."""

from dataclasses import dataclass

from pydantic import SecretStr

from validation.fleet.client import VastClient
from validation.local.fake_vast.api import FakeVast
from validation.local.fake_vast.cloud import ACCOUNT_KEY
from validation.local.fake_vast.transport import FakeTransport

ORDER = {"image": "ghcr.io/o/worker:1", "disk": 50, "label": "l", "env": {"DATABASE_URL": "s3cret"}}


@dataclass
class VirtualClock:
    """The fake's time, for whoever waits."""

    fake: FakeVast

    def monotonic(self) -> float:
        return self.fake.cloud.now

    def sleep(self, seconds: float) -> None:
        self.fake.advance(seconds)


def client_of(fake: FakeVast, key: str = ACCOUNT_KEY) -> VastClient:
    return VastClient(SecretStr(key), "http://fake", clock=VirtualClock(fake), transport=FakeTransport(fake))

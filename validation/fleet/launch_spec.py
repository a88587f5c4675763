"""What is ordered: the container, what it is told, and how it is started."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from validation.errors import BadInput
from validation.vast.offers import Offer, OfferFilter

PREFIX = "BOX_"
"""A variable of the control plane that begins so is handed to every box, without the prefix."""

ALLOWED = frozenset(
    {
        "DATABASE_URL", "R2_ENDPOINT_URL", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", "R2_SESSION_TOKEN",
        "PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_CLIENT_CUSTOM_HEADERS",
        "VFLEET_SOURCE_URL", "VFLEET_SOURCE_KEY", "VFLEET_RESULTS_URL", "VFLEET_SUITE", "VFLEET_LANGUAGES",
        "VFLEET_DEVICE", "VFLEET_PRECISION",
        "CONFORMER_BATCH_SIZE", "PARQUET_SHARD_SIZE", "VFLEET_BOX_LIFETIME_S", "VFLEET_BOX_IDLE_S",
    }
)  # fmt: skip
"""What a box may know. A rented machine's owner can read all of it."""

PREFECT_CREDENTIALS = ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_CLIENT_CUSTOM_HEADERS")
REQUIRED = ("DATABASE_URL", "R2_ENDPOINT_URL", "PREFECT_API_URL")
DEFAULTS = {
    "VFLEET_DEVICE": "cuda",  # a box whose card does not work must fail its self-test, not compute on its CPU
    "CONFORMER_BATCH_SIZE": "32",
    "PARQUET_SHARD_SIZE": "50",
    "VFLEET_BOX_LIFETIME_S": str(7 * 24 * 3600),
    "VFLEET_BOX_IDLE_S": "1800",
}
MAX_ENVIRONMENT_BYTES = 32_768
"""The vendor's own limit."""


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """What an operator orders, beside how many and for how much."""

    image: str
    bounds: OfferFilter = field(default_factory=OfferFilter)
    chunk_videos: int = 50

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        return cls(str(stored["image"]), OfferFilter.from_json(stored["bounds"]), int(stored["chunk_videos"]))

    def to_json(self) -> dict[str, Any]:
        return {"image": self.image, "bounds": self.bounds.to_json(), "chunk_videos": self.chunk_videos}


def read_box_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Collect what every box is told, from the control plane's variables ``BOX_...``.

    Raises:
        BadInput: one is missing, one must not be on a box, or the box would get the control plane's own database login.
    """
    told = {name.removeprefix(PREFIX): value for name, value in environment.items() if name.startswith(PREFIX)}
    if foreign := sorted(set(told) - ALLOWED):
        raise BadInput(
            f"{PREFIX}{foreign[0]} is not for a rented machine: boxes may be told {', '.join(sorted(ALLOWED))}"
        )
    if missing := [name for name in REQUIRED if not told.get(name)]:
        raise BadInput(f"{PREFIX}{missing[0]} is not set: boxes need it, nothing was rented")
    if environment.get("CLOUDFLARE_API_TOKEN") and "R2_ACCESS_KEY_ID" in told:
        raise BadInput(
            f"{PREFIX}R2_ACCESS_KEY_ID would give every box a key that does not end, while CLOUDFLARE_API_TOKEN is "
            "there to lend each its own: unset one of the two"
        )
    if environment.get("VFLEET_GATEWAY_TOKENS") and (shared := [name for name in PREFECT_CREDENTIALS if name in told]):
        raise BadInput(
            f"{PREFIX}{shared[0]} would let every box into Prefect alike, while VFLEET_GATEWAY_TOKENS is there to give "
            "each a token of its own: unset one of the two"
        )
    if told["DATABASE_URL"] == environment.get("DATABASE_URL"):
        raise BadInput(
            f"{PREFIX}DATABASE_URL is the control plane's own login: give boxes one that may only execute the worker's "
            "functions (role validation_worker)"
        )
    return DEFAULTS | told


def build_create_request(
    order: LaunchSpec, offer: Offer, *, label: str, worker_id: str, environment: Mapping[str, str]
) -> dict[str, Any]:
    """The body of a create. ``env`` must be an object: the vendor ignores a string without a word.

    Raises:
        BadInput: the environment is larger than the vendor accepts.
    """
    env = {**environment, "WORKER_ID": worker_id, "GPU_TYPE": offer.gpu_name.replace(" ", "_")}
    size_bytes = sum(len(name) + len(value) for name, value in env.items())
    if size_bytes > MAX_ENVIRONMENT_BYTES:
        raise BadInput(f"the environment of a box has {size_bytes} bytes, and Vast.ai accepts {MAX_ENVIRONMENT_BYTES}")
    return {
        "client_id": "me",
        "image": order.image,
        "disk": order.bounds.disk_gb,
        "label": label,
        "runtype": "args",  # keeps the image's entrypoint: `python -m validation.worker.bootstrap`
        "args": [],
        "env": env,
        "cancel_unavail": True,  # else an offer that has gone becomes a stopped box that bills its disk
        "price": None,  # on demand: an interruptible box may come back as a surprise after it was replaced
    }

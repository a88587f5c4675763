"""The launch specification of a box: its image, its environment, and the request that creates it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from validation.errors import BadInput
from validation.vast.listings import Offer
from validation.vast.offer_filter import OfferFilter

PREFIX = "BOX_"
"""A variable of the control machine with this prefix is passed to every box, without the prefix."""

ALLOWED = frozenset(
    {
        "DATABASE_URL", "R2_ENDPOINT_URL", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", "R2_SESSION_TOKEN",
        "PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_CLIENT_CUSTOM_HEADERS",
        "VFLEET_SOURCE_URL", "VFLEET_SOURCE_KEY", "VFLEET_RESULTS_URL", "VFLEET_SUITE", "VFLEET_LANGUAGES",
        "VFLEET_DEVICE", "VFLEET_PRECISION",
        "CONFORMER_BATCH_SIZE", "PARQUET_SHARD_SIZE", "VFLEET_BOX_LIFETIME_S", "VFLEET_BOX_IDLE_S",
    }
)  # fmt: skip
"""Variables that ``BOX_...`` may pass to a box. The host of a rented machine can read all of them."""

# Each of these variables would give all boxes the same credential for Prefect.
PREFECT_CREDENTIALS = ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_CLIENT_CUSTOM_HEADERS")
REQUIRED = ("DATABASE_URL", "R2_ENDPOINT_URL", "PREFECT_API_URL")
DEFAULTS = {
    "VFLEET_DEVICE": "cuda",  # a box whose GPU does not work must fail its self-test, not compute on its CPU
    "CONFORMER_BATCH_SIZE": "32",
    "PARQUET_SHARD_SIZE": "50",
    "VFLEET_BOX_LIFETIME_S": str(7 * 24 * 3600),
    "VFLEET_BOX_IDLE_S": "1800",
}
MAX_ENVIRONMENT_BYTES = 32_768
"""The vendor's limit for the names and values of a box's environment together."""


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """What an operator orders, apart from the number of boxes and the caps."""

    image: str
    offer_filter: OfferFilter = field(default_factory=OfferFilter)
    chunk_videos: int = 50
    """Number of videos that a box claims as one chunk; used to estimate how many boxes the queue needs."""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read the output of ``to_json``."""
        return cls(str(stored["image"]), OfferFilter.from_json(stored["bounds"]), int(stored["chunk_videos"]))

    def to_json(self) -> dict[str, Any]:
        return {"image": self.image, "bounds": self.offer_filter.to_json(), "chunk_videos": self.chunk_videos}


def read_box_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Read the environment of every box from the control machine's variables ``BOX_...``.

    Raises:
        BadInput: a required variable is missing, a variable is not allowed on a box, or boxes would get the control
            machine's database login or a shared credential instead of their own.
    """
    values = {name.removeprefix(PREFIX): value for name, value in environment.items() if name.startswith(PREFIX)}
    if disallowed := sorted(set(values) - ALLOWED):
        raise BadInput(
            f"{PREFIX}{disallowed[0]} may not be passed to boxes: unset it; boxes may get {', '.join(sorted(ALLOWED))}"
        )
    if missing := [name for name in REQUIRED if not values.get(name)]:
        raise BadInput(f"{PREFIX}{missing[0]} is not set: boxes need it, nothing was rented")
    if environment.get("CLOUDFLARE_API_TOKEN") and "R2_ACCESS_KEY_ID" in values:
        raise BadInput(
            f"{PREFIX}R2_ACCESS_KEY_ID would give every box a permanent key, although CLOUDFLARE_API_TOKEN is set to "
            "issue each box a temporary one: unset one of the two"
        )
    if environment.get("VFLEET_GATEWAY_TOKENS") and (
        shared := [name for name in PREFECT_CREDENTIALS if name in values]
    ):
        raise BadInput(
            f"{PREFIX}{shared[0]} would give all boxes one credential for Prefect, although VFLEET_GATEWAY_TOKENS is "
            "set to give each box a token of its own: unset one of the two"
        )
    if values["DATABASE_URL"] == environment.get("DATABASE_URL"):
        raise BadInput(
            f"{PREFIX}DATABASE_URL is the control machine's own login: give boxes one that may only execute the "
            "worker's functions (role validation_worker)"
        )
    return DEFAULTS | values


def build_create_request(
    launch_spec: LaunchSpec, offer: Offer, *, label: str, worker_id: str, environment: Mapping[str, str]
) -> dict[str, Any]:
    """Return the body of a create request. ``env`` is an object, because the vendor ignores a string without an error.

    Raises:
        BadInput: the environment is larger than the vendor accepts.
    """
    env = {**environment, "WORKER_ID": worker_id, "GPU_TYPE": offer.gpu_name.replace(" ", "_")}
    size_bytes = sum(len(name) + len(value) for name, value in env.items())
    if size_bytes > MAX_ENVIRONMENT_BYTES:
        raise BadInput(f"the environment of a box has {size_bytes} bytes, and Vast.ai accepts {MAX_ENVIRONMENT_BYTES}")
    return {
        "client_id": "me",
        "image": launch_spec.image,
        "disk": launch_spec.offer_filter.disk_gb,
        "label": label,
        "runtype": "args",  # keeps the image's entrypoint: `python -m validation.worker.bootstrap`
        "args": [],
        "env": env,
        "cancel_unavail": True,  # else an offer that is gone becomes a stopped instance that bills its disk
        "price": None,  # rent on demand: an interruptible instance may start again after its box was replaced
    }

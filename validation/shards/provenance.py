"""Who made a shard, and with what."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from pydantic import TypeAdapter

from validation.scoring.text import NORMALISATION
from validation.shards.schema import SCHEMA_VERSION

METADATA_KEY = b"validation_fleet"
"""Under which a parquet file keeps its provenance, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardProvenance:
    """What the numbers in a shard depend on, and which run wrote them."""

    suite: str
    model_revisions: Mapping[str, str]
    rules_version: str
    chunk_id: UUID
    worker_id: str
    flow_run_id: UUID | None
    """None for a chunk that was validated outside Prefect."""
    policy: str = "all"
    """Which segments were put to which model: ``all``, or the name of a policy that spares some."""
    schema_version: int = SCHEMA_VERSION
    normalisation_version: str = NORMALISATION

    @property
    def basis(self) -> Mapping[str, str]:
        """What its numbers and verdicts depend on beside the models: see ``comparability_key``."""
        return comparability_key(self.rules_version, self.policy, self.normalisation_version)


def comparability_key(rules_version: str, policy: str, normalisation_version: str = NORMALISATION) -> Mapping[str, str]:
    """Name what answers depend on beside the models' revisions: where all is equal, honest machines answer alike."""
    return {"rules_version": rules_version, "normalisation_version": normalisation_version, "policy": policy}


PROVENANCE_JSON = TypeAdapter(ShardProvenance)
"""Reads and writes a provenance as JSON."""

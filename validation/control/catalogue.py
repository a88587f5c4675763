"""Write the catalogue into the results store: a snapshot of the shards that the ledger lists as committed."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.errors import BadInput
from validation.ledger.queries import CommittedShard, read_committed_shards
from validation.shards.catalogue import (
    CATALOGUE_KEY,
    Catalogue,
    CatalogueColumn,
    CatalogueRevision,
    CatalogueShard,
)
from validation.shards.schema import METADATA_KEY, PROVENANCE_JSON
from validation.storage.errors import ObjectMissing
from validation.storage.store import get_bytes, list_objects, replace_object

log = logging.getLogger(__name__)

MIN_INTERVAL = timedelta(seconds=60)
"""Minimum time between two writes by sweeps. A fleet commits every few seconds; readers do not need each commit."""


def publish_catalogue(
    engine: Engine, results: ObjectStore, *, min_interval: timedelta = timedelta(0)
) -> Catalogue | None:
    """Write the catalogue if the committed shards have changed since the last catalogue.

    Args:
        engine: the ledger.
        results: the results store.
        min_interval: do nothing if the last catalogue is younger than this.

    Returns:
        The new catalogue; None if the last catalogue is still correct, or younger than ``min_interval``.

    Raises:
        Unreachable, StoreRefused, ShardCorrupt: no catalogue was written; the last catalogue stays.
    """
    now = datetime.now(UTC)
    written_at = [item.modified_at for item in list_objects(results, "catalogue") if item.key == CATALOGUE_KEY]
    if written_at and now - written_at[0] < min_interval:
        return None
    last = _read_last(results)
    catalogue = build_catalogue(read_committed_shards(engine), results, written_at=now, last=last)
    if last is not None and replace(last, written_at=now) == catalogue:
        return None
    replace_object(results, CATALOGUE_KEY, catalogue.to_json())
    return catalogue


def build_catalogue(
    committed: Sequence[CommittedShard], results: ObjectStore, *, written_at: datetime, last: Catalogue | None = None
) -> Catalogue:
    """Build the catalogue of committed shards. Reads one shard per revision that ``last`` does not describe."""
    known = {(revision.suite, revision.revision): revision for revision in last.revisions} if last else {}
    return Catalogue(
        written_at=written_at,
        revisions=tuple(_describe_revisions(committed, results, known)),
        shards=tuple(
            CatalogueShard(
                key=shard.shard_key,
                sha256=shard.shard_sha256,
                size_bytes=shard.shard_bytes,
                segments=shard.segments,
                suite=shard.suite,
                revision=shard.revision,
                committed_at=shard.closed_at.astimezone(UTC),
                withheld=tuple(sorted(shard.withheld)),
            )
            for shard in sorted(committed, key=lambda shard: shard.shard_key)
        ),
    )


def _read_last(results: ObjectStore) -> Catalogue | None:
    """Read the last catalogue; None if there is none, or if it cannot be read (which is logged)."""
    try:
        return Catalogue.from_json(get_bytes(results, CATALOGUE_KEY), CATALOGUE_KEY)
    except ObjectMissing:
        return None
    except BadInput as error:
        log.warning("the catalogue is replaced: %s", error)
        return None


def _describe_revisions(
    committed: Sequence[CommittedShard],
    results: ObjectStore,
    known: Mapping[tuple[str, str], CatalogueRevision],
) -> Iterable[CatalogueRevision]:
    """Yield the description of each suite revision, sorted. A revision that ``known`` lacks is read from a shard."""
    by_revision: dict[tuple[str, str], list[CommittedShard]] = {}
    for shard in committed:
        by_revision.setdefault((shard.suite, shard.revision), []).append(shard)
    for name, shards in sorted(by_revision.items()):
        newest = max(shards, key=lambda shard: shard.closed_at)
        described = known.get(name) or _read_revision(newest, results)
        yield replace(described, since=newest.revision_since.astimezone(UTC))


def _read_revision(shard: CommittedShard, results: ObjectStore) -> CatalogueRevision:
    """Read the description of a shard's suite revision from the metadata of the shard's columns."""
    schema = pq.read_schema(pa.BufferReader(get_bytes(results, shard.shard_key)))
    provenance = PROVENANCE_JSON.validate_json(schema.metadata[METADATA_KEY])
    return CatalogueRevision(
        suite=shard.suite,
        revision=shard.revision,
        models=dict(shard.models),
        since=shard.revision_since,
        schema_version=provenance.schema_version,
        rules_version=provenance.rules_version,
        columns=tuple(_describe_column(field) for field in schema),
    )


def _describe_column(field: pa.Field) -> CatalogueColumn:
    metadata = field.metadata or {}
    return CatalogueColumn(
        name=field.name,
        type=str(field.type),
        unit=metadata.get(b"unit", b"").decode(),
        description=metadata.get(b"description", b"").decode(),
    )

"""Copy the shards of a catalogue to a local folder. Any parquet reader can read the copy without filters."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from obstore.store import ObjectStore

from validation.analysis.selection.sources import read_catalogue
from validation.analysis.selection.write import replace_when_complete
from validation.errors import BadInput
from validation.settings import Settings
from validation.shards.catalogue import CATALOGUE_KEY, Catalogue, CatalogueShard
from validation.shards.schema import ShardCorrupt
from validation.storage.store import get_bytes, open_store

COPIES = 8
"""Number of shards that are copied in parallel."""


def copy_shards(settings: Settings, folder: Path, suite: str | None = None) -> Catalogue:
    """Copy the shards of the results store, without manifests and without rows of superseded videos and canaries.

    A shard that an earlier call copied completely is not downloaded again, unless it has rows that must be removed.
    The catalogue of the copy is written last, so a new folder with a catalogue is a complete copy. Files of shards that
    the results store no longer lists are not deleted.

    Args:
        settings: the location and credentials of the results store.
        folder: the folder of the copy; created if missing.
        suite: the suite whose shards are copied; None for all suites.

    Returns:
        The catalogue of the copy.

    Raises:
        BadInput: the store has no catalogue or no shard of the suite, or the folder cannot be written.
        ShardCorrupt: the SHA-256 of a shard differs from the catalogue.
    """
    catalogue = read_catalogue(settings)
    listed = [shard for shard in catalogue.shards if suite in {None, shard.suite}]
    if not listed:
        raise BadInput(f"{settings.results_url} has no shard" + (f" of suite {suite!r}" if suite else " to copy"))
    store = open_store(settings.results_url, settings)
    with ThreadPoolExecutor(COPIES) as pool:
        copied = [shard for shard in pool.map(partial(_copy, store, folder), listed) if shard.segments]
    named = {(shard.suite, shard.revision) for shard in copied}
    revisions = [revision for revision in catalogue.revisions if (revision.suite, revision.revision) in named]
    copy = replace(catalogue, shards=tuple(copied), revisions=tuple(revisions))
    _write(folder / CATALOGUE_KEY, copy.to_json())
    return copy


def _copy(store: ObjectStore, folder: Path, shard: CatalogueShard) -> CatalogueShard:
    """Copy one shard without its withheld rows. Return its entry in the catalogue of the copy.

    If no row is left, no file is written, and the entry has 0 segments.
    """
    path = folder / shard.key
    if not shard.withheld:
        if not _is_complete(path, shard):
            _write(path, _read(store, shard))
        return shard
    table = _drop_videos(pq.read_table(pa.BufferReader(_read(store, shard))), shard.withheld)
    if not table.num_rows:
        path.unlink(missing_ok=True)
        return replace(shard, segments=0)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    payload = sink.getvalue().to_pybytes()
    _write(path, payload)
    return replace(
        shard,
        sha256=sha256(payload).hexdigest(),
        size_bytes=len(payload),
        segments=table.num_rows,
        withheld=(),
    )


def _read(store: ObjectStore, shard: CatalogueShard) -> bytes:
    """Return the content of a shard. Raise ``ShardCorrupt`` if its SHA-256 differs from the catalogue."""
    payload = get_bytes(store, shard.key)
    if (found := sha256(payload).hexdigest()) != shard.sha256:
        raise ShardCorrupt(shard.key, "sha256", expected=shard.sha256, found=found)
    return payload


def _is_complete(path: Path, shard: CatalogueShard) -> bool:
    """Return whether the file at ``path`` has the size and the SHA-256 of the shard."""
    return (
        path.is_file()
        and path.stat().st_size == shard.size_bytes
        and sha256(path.read_bytes()).hexdigest() == shard.sha256
    )


def _drop_videos(table: pa.Table, videos: Sequence[str]) -> pa.Table:
    """Return the table without the rows of these videos."""
    return table.filter(pc.invert(pc.is_in(table["video_id"], pa.array(videos, pa.string()))))


def _write(path: Path, payload: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_when_complete(path) as partial_path:
        partial_path.write_bytes(payload)

"""Find the shards to read: from the ledger, from a catalogue, or from a folder of shards with manifests."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Engine

from validation.errors import BadInput
from validation.ledger.queries import CommittedShard, read_committed_shards
from validation.settings import Settings
from validation.shards.catalogue import CATALOGUE_KEY, Catalogue
from validation.shards.manifest import ShardManifest
from validation.shards.reader import is_shard, read_file_provenance
from validation.shards.schema import ShardCorrupt
from validation.storage.errors import ObjectMissing
from validation.storage.store import get_bytes, open_store


@dataclass(frozen=True, slots=True)
class ReadableShard:
    """Location of a shard, and the rows to skip in the shard."""

    uri: str
    segments: int
    """Number of rows of the shard, including the rows of withheld videos."""
    withheld: tuple[str, ...] = ()
    """Ids of the videos whose rows are skipped: superseded videos and canaries."""
    day: str | None = None
    """UTC date of the commit as ``YYYY-MM-DD``; None if the shard was found in a folder without a catalogue."""


@dataclass(frozen=True, slots=True)
class RevisionShards:
    """The shards of one suite revision. ``models`` maps each model to its revision."""

    models: Mapping[str, str]
    shards: tuple[ReadableShard, ...]


@dataclass(frozen=True, slots=True)
class ShardSource:
    """The shards of one suite, from the oldest revision to the newest, and polars' storage options for them."""

    suite: str
    revisions: tuple[RevisionShards, ...]
    storage_options: Mapping[str, str] | None = None


def find_committed_shards(
    engine: Engine, suite: str, settings: Settings, *, folder: Path | None = None, up_to: str | None = None
) -> ShardSource:
    """Find the committed shards of a suite in the ledger.

    Args:
        engine: the database of the ledger.
        suite: the name of the suite.
        settings: the location and credentials of the results store.
        folder: a local copy of the results store, read in place of the store. Shard keys are paths relative to it.
        up_to: a revision; revisions that were first committed later are left out.

    Raises:
        BadInput: the suite has no committed shard, or no shard of revision ``up_to``; the folder lacks a shard; or
            polars cannot read the results store.
        ShardCorrupt: the size or the provenance of a file in the folder differs from the ledger.
    """
    root, options = (str(folder.resolve()), None) if folder else polars_location(settings)
    committed = _choose(read_committed_shards(engine), suite, up_to)
    if folder:
        for shard in committed:
            _check_copy(folder / shard.shard_key, shard)
    return _group_revisions(suite, committed, root, options)


def find_in_catalogue(
    catalogue: Catalogue, settings: Settings, *, suite: str | None, folder: Path | None = None, up_to: str | None = None
) -> ShardSource:
    """Find the shards of a suite in the catalogue of a results store, without a ledger.

    Args:
        catalogue: from ``read_catalogue``.
        settings: the location and credentials of the results store.
        suite: the name of the suite; None for VFLEET_SUITE if the catalogue lists it, else for the only suite.
        folder: a local copy of the results store, read in place of the store.
        up_to: a revision; revisions that were first committed later are left out.

    Raises:
        BadInput: as ``find_committed_shards``; the catalogue lists no shard; or ``suite`` is None and the catalogue
            lists several suites, but not VFLEET_SUITE.
        ShardCorrupt: the size of a file in the folder differs from the catalogue.
    """
    suites = sorted({shard.suite for shard in catalogue.shards})
    if not suites:
        raise BadInput(f"the catalogue of {folder or settings.results_url} lists no shard yet")
    if suite is None and settings.suite not in suites:
        _require_one("suites", suites, "name one with --suite")
    suite = suite or (settings.suite if settings.suite in suites else suites[0])
    revisions = {(revision.suite, revision.revision): revision for revision in catalogue.revisions}
    listed = [
        CommittedShard(
            shard_key=shard.key,
            shard_sha256=shard.sha256,
            shard_bytes=shard.size_bytes,
            segments=shard.segments,
            chunk_id=None,
            suite=shard.suite,
            revision=shard.revision,
            models=revisions[shard.suite, shard.revision].models,
            closed_at=shard.committed_at,
            revision_since=revisions[shard.suite, shard.revision].since,
            superseded=(),
            withheld=shard.withheld,
        )
        for shard in catalogue.shards
    ]
    committed = _choose(listed, suite, up_to)
    root, options = (str(folder.resolve()), None) if folder else polars_location(settings)
    if folder:
        for shard in committed:
            _check_size(folder / shard.shard_key, shard)
    return _group_revisions(suite, committed, root, options)


def read_catalogue(settings: Settings) -> Catalogue:
    """Read the catalogue of the results store.

    Raises:
        BadInput: the results store has no catalogue, or the object is not a catalogue or has a newer format.
    """
    try:
        payload = get_bytes(open_store(settings.results_url, settings), CATALOGUE_KEY)
    except ObjectMissing:
        raise BadInput(
            f"{settings.results_url} holds no {CATALOGUE_KEY}: the control plane writes it with each sweep, and "
            "`vfleet shards catalogue` at once; or set DATABASE_URL to read the list of shards from the ledger"
        ) from None
    return Catalogue.from_json(payload, f"{settings.results_url}/{CATALOGUE_KEY}")


def read_folder_catalogue(folder: Path) -> Catalogue | None:
    """Read the catalogue of a folder that is a copy of a results store; None if the folder holds none.

    Raises:
        BadInput: the catalogue has a newer format, or the file is not a catalogue.
    """
    path = folder / CATALOGUE_KEY
    return Catalogue.from_json(path.read_bytes(), str(path)) if path.is_file() else None


def _choose(shards: Sequence[CommittedShard], suite: str, up_to: str | None) -> list[CommittedShard]:
    """Return the shards of a suite in the order of their revisions, without revisions later than ``up_to``."""
    committed = [shard for shard in shards if shard.suite == suite]
    if not committed:
        others = ", ".join(sorted({shard.suite for shard in shards}))
        raise BadInput(
            f"no committed shard is of suite {suite!r}" + (f"; there are shards of {others}" if others else "")
        )
    committed.sort(key=lambda shard: (shard.revision_since, shard.revision, shard.shard_key))
    return committed if up_to is None else _drop_later_revisions(committed, up_to)


def _group_revisions(
    suite: str, committed: Sequence[CommittedShard], root: str, options: Mapping[str, str] | None
) -> ShardSource:
    """Build the source from committed shards, which are sorted by revision. Shard keys are appended to ``root``."""
    revisions = []
    for _, group in groupby(committed, key=attrgetter("revision")):
        shards = list(group)
        readable = tuple(
            ReadableShard(f"{root}/{shard.shard_key}", shard.segments, tuple(shard.withheld), _day(shard))
            for shard in shards
        )
        revisions.append(RevisionShards(shards[0].models, readable))
    return ShardSource(suite, tuple(revisions), options)


def _day(shard: CommittedShard) -> str:
    """Return the UTC date of a shard's commit as ``YYYY-MM-DD``."""
    return shard.closed_at.astimezone(UTC).date().isoformat()


def find_in_folder(folder: Path, suite: str | None = None) -> ShardSource:
    """Find the shards of a folder by their manifests, without a ledger.

    Raises:
        BadInput: the folder has no shard; a parquet file is not a shard; ``suite`` is None and the folder has several
            suites; or the folder has several revisions or two shards with the same video, so that only the ledger
            knows the current result.
        ShardCorrupt: a shard has no readable manifest, or its size or provenance differs from the manifest.
    """
    found = [(path, _read_manifest(path)) for path in sorted(folder.rglob("*.parquet"))]
    found = [(path, manifest) for path, manifest in found if suite in {None, manifest.provenance.suite}]
    if not found:
        raise BadInput(f"{folder} holds no shard" + (f" of suite {suite!r}" if suite else ""))
    _require_one("suites", sorted({manifest.provenance.suite for _, manifest in found}), "name one with --suite")
    models = [dict(manifest.provenance.model_revisions) for _, manifest in found]
    described = sorted(
        {", ".join(f"{model} {revision}" for model, revision in revisions.items()) for revisions in models}
    )
    _require_one("revisions", described, "only the ledger knows which is current: set DATABASE_URL")
    counts = Counter(video.video_id for _, manifest in found for video in manifest.videos)
    if repeated := [video for video, count in counts.items() if count > 1]:
        raise BadInput(
            f"video {repeated[0]} is in {counts[repeated[0]]} shards of {folder}: the ledger knows which is current"
        )
    shards = tuple(ReadableShard(str(path), manifest.rows) for path, manifest in found)
    return ShardSource(found[0][1].provenance.suite, (RevisionShards(models[0], shards),))


def polars_location(settings: Settings) -> tuple[str, Mapping[str, str] | None]:
    """Return where polars reads the results store: a URL to which a shard's key is appended, and the storage options.

    The storage options are None for a local folder.

    Raises:
        BadInput: polars cannot read a store with this URL scheme, or a setting of the store is missing.
    """
    parts = urlsplit(settings.results_url)
    if parts.scheme == "file":
        return unquote(parts.path).rstrip("/"), None
    if parts.scheme != "s3":
        raise BadInput(f"VFLEET_RESULTS_URL is {settings.results_url!r}: shards are read from s3:// and file:// only")
    key, secret, endpoint = settings.s3_access_key_id, settings.s3_secret_access_key, settings.s3_endpoint_url
    if key is None or secret is None or endpoint is None:
        raise BadInput(f"{settings.results_url} needs R2_ENDPOINT_URL, R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY")
    options = {
        "aws_endpoint_url": endpoint,
        "aws_region": settings.s3_region,
        "aws_access_key_id": key.get_secret_value(),
        "aws_secret_access_key": secret.get_secret_value(),
        "aws_allow_http": str(endpoint.startswith("http://")).lower(),
        "aws_virtual_hosted_style_request": "false",
    }
    if settings.s3_session_token:
        options["aws_session_token"] = settings.s3_session_token.get_secret_value()
    return settings.results_url.rstrip("/"), options


def read_fields(source: ShardSource, settings: Settings) -> dict[str, pa.Field]:
    """Return the Arrow fields of the shards by column name. The fields hold units and descriptions; polars drops them.

    The function reads one shard per revision. It reads the whole file if the shard is in a remote store.
    """
    fields: dict[str, pa.Field] = {}
    for uri in [revision.shards[0].uri for revision in source.revisions]:
        if Path(uri).is_file():
            schema = pq.read_schema(uri)
        else:
            key = uri.removeprefix(settings.results_url.rstrip("/") + "/")
            schema = pq.read_schema(pa.BufferReader(get_bytes(open_store(settings.results_url, settings), key)))
        fields |= {field.name: field for field in schema}
    return fields


def _read_manifest(path: Path) -> ShardManifest:
    """Read the manifest of a shard, and compare the shard's size and provenance with the manifest.

    Raises:
        BadInput: the file is not a shard.
        ShardCorrupt: the manifest is missing or differs from the shard.
    """
    beside = path.with_suffix(".manifest.json")
    if not beside.is_file():
        if not is_shard(path):
            raise BadInput(f"{path} is no shard of the fleet: move it out of the folder")
        raise ShardCorrupt(str(path), "manifest", expected=beside.name, found="no such file")
    manifest = ShardManifest.from_json(beside.read_bytes(), str(beside))
    if manifest.size_bytes != (found := path.stat().st_size):
        raise ShardCorrupt(str(path), "size in bytes", expected=manifest.size_bytes, found=found)
    if manifest.provenance != (made := read_file_provenance(path)):
        raise ShardCorrupt(str(path), "provenance", expected=manifest.provenance, found=made)
    return manifest


def _drop_later_revisions(committed: Sequence[CommittedShard], revision: str) -> list[CommittedShard]:
    """Return the shards of ``revision`` and of the revisions that were first committed before it."""
    since = {shard.revision: shard.revision_since for shard in committed}
    if revision not in since:
        raise BadInput(f"no committed shard is of revision {revision!r}; there are {', '.join(since)}")
    return [shard for shard in committed if (shard.revision_since, shard.revision) <= (since[revision], revision)]


def _check_copy(path: Path, shard: CommittedShard) -> None:
    """Compare the size and provenance of a copied file with the ledger. `vfleet shards verify` checks the content."""
    _check_size(path, shard)
    made = read_file_provenance(path)
    expected = (shard.suite, dict(shard.models), shard.chunk_id or made.chunk_id)  # a compacted shard has no chunk
    if expected != (found_provenance := (made.suite, dict(made.model_revisions), made.chunk_id)):
        raise ShardCorrupt(str(path), "provenance", expected=expected, found=found_provenance)


def _check_size(path: Path, shard: CommittedShard) -> None:
    """Raise an error if a copied file is missing, or if its size differs from the ledger or the catalogue."""
    if not path.is_file():
        raise BadInput(f"the committed shard {path} is missing: copy the whole results store")
    if shard.shard_bytes != (found := path.stat().st_size):
        raise ShardCorrupt(str(path), "size in bytes", expected=shard.shard_bytes, found=found)


def _require_one(what: str, found: Sequence[str], remedy: str) -> None:
    """Raise ``BadInput`` if ``found`` has several elements. The message has ``what`` they are and the ``remedy``."""
    if len(found) > 1:
        raise BadInput(f"the shards are of {len(found)} {what} ({'; '.join(found)}): {remedy}")

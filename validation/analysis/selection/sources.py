"""Which shards are read, and where: the ledger's committed ones, or a folder of shards beside their manifests."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sqlalchemy import Engine

from validation.errors import BadInput
from validation.ledger.queries import CommittedShard, read_committed_shards
from validation.settings import Settings
from validation.shards.errors import ShardCorrupt
from validation.shards.manifest import ShardManifest
from validation.shards.reader import read_file_provenance


@dataclass(frozen=True, slots=True)
class ReadableShard:
    """A shard that counts."""

    uri: str
    withheld: tuple[str, ...] = ()
    """Videos whose rows in it are not current, and canaries, which are nobody's data."""


@dataclass(frozen=True, slots=True)
class RevisionShards:
    """The shards of one suite that asked the same revisions of the same models."""

    models: Mapping[str, str]
    shards: tuple[ReadableShard, ...]


@dataclass(frozen=True, slots=True)
class ShardSource:
    """The shards of one suite, from its oldest revision to its newest, and how to open them."""

    suite: str
    revisions: tuple[RevisionShards, ...]
    storage_options: Mapping[str, str] | None = None


def find_committed(
    engine: Engine, suite: str, settings: Settings, *, folder: Path | None = None, up_to: str | None = None
) -> ShardSource:
    """Ask the ledger which shards of a suite count.

    Args:
        engine: the ledger.
        suite: its name.
        settings: the results store.
        folder: a copy of the results store to read instead; keys are paths in it.
        up_to: leave out the revisions that were first committed after this one.

    Raises:
        BadInput: the suite has committed nothing, or nothing of that revision; a file is not in the folder, or the
            store cannot be scanned.
        ShardCorrupt: a file of the folder is not what the ledger says.
    """
    root, options = (str(folder.resolve()), None) if folder else describe_store(settings)
    everything = read_committed_shards(engine)
    committed = [shard for shard in everything if shard.suite == suite]
    if not committed:
        others = ", ".join(sorted({shard.suite for shard in everything}))
        raise BadInput(
            f"no committed shard is of suite {suite!r}" + (f"; there are shards of {others}" if others else "")
        )
    committed.sort(key=lambda shard: (shard.revision_since, shard.revision, shard.shard_key))
    if up_to is not None:
        committed = _leave_out_later(committed, up_to)
    if folder:
        for shard in committed:
            _check_copy(folder / shard.shard_key, shard)
    revisions = []
    for _, group in groupby(committed, key=attrgetter("revision")):
        shards = list(group)
        readable = tuple(ReadableShard(f"{root}/{shard.shard_key}", tuple(shard.withheld)) for shard in shards)
        revisions.append(RevisionShards(shards[0].models, readable))
    return ShardSource(suite, tuple(revisions), options)


def find_in_folder(folder: Path, suite: str | None = None) -> ShardSource:
    """Take a folder's shards on the word of their manifests, without a ledger.

    Raises:
        BadInput: there is none, or they are of several suites and none was named, of several revisions or hold a video
            twice: which one counts only the ledger knows.
        ShardCorrupt: a file is no shard, has no manifest, or is not what its manifest says.
    """
    found = [(path, _read_beside(path)) for path in sorted(folder.rglob("*.parquet"))]
    found = [(path, manifest) for path, manifest in found if suite in {None, manifest.provenance.suite}]
    if not found:
        raise BadInput(f"{folder} holds no shard" + (f" of suite {suite!r}" if suite else ""))
    _require_one("suites", sorted({manifest.provenance.suite for _, manifest in found}), "name one with --suite")
    models = [dict(manifest.provenance.model_revisions) for _, manifest in found]
    told = sorted({", ".join(f"{model} {revision}" for model, revision in made.items()) for made in models})
    _require_one("revisions", told, "only the ledger knows which counts: set DATABASE_URL")
    counts = Counter(video.video_id for _, manifest in found for video in manifest.videos)
    if doubled := [video for video, count in counts.items() if count > 1]:
        raise BadInput(
            f"video {doubled[0]} stands in {counts[doubled[0]]} shards of {folder}: only the ledger knows which counts"
        )
    shards = tuple(ReadableShard(str(path)) for path, _ in found)
    return ShardSource(found[0][1].provenance.suite, (RevisionShards(models[0], shards),))


def describe_store(settings: Settings) -> tuple[str, Mapping[str, str] | None]:
    """The results store as polars opens it: the beginning of every address, and the options that it needs.

    Raises:
        BadInput: polars cannot read a store of this kind.
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


def _read_beside(path: Path) -> ShardManifest:
    """Read the manifest beside a shard, and hold the file's size and provenance against it."""
    beside = path.with_suffix(".manifest.json")
    if not beside.is_file():
        raise ShardCorrupt(str(path), "manifest", expected=beside.name, found="no such file")
    manifest = ShardManifest.from_json(beside.read_bytes(), str(beside))
    if manifest.size_bytes != (found := path.stat().st_size):
        raise ShardCorrupt(str(path), "size in bytes", expected=manifest.size_bytes, found=found)
    if manifest.provenance != (made := read_file_provenance(path)):
        raise ShardCorrupt(str(path), "provenance", expected=manifest.provenance, found=made)
    return manifest


def _leave_out_later(committed: Sequence[CommittedShard], revision: str) -> list[CommittedShard]:
    since = {shard.revision: shard.revision_since for shard in committed}
    if revision not in since:
        raise BadInput(f"no committed shard is of revision {revision!r}; there are {', '.join(since)}")
    return [shard for shard in committed if (shard.revision_since, shard.revision) <= (since[revision], revision)]


def _check_copy(path: Path, shard: CommittedShard) -> None:
    """Hold the size and provenance of a copied file against the ledger; its bytes are `vfleet shards verify`'s."""
    if not path.is_file():
        raise BadInput(f"the ledger's shard {path} is not there: copy the results store whole")
    if shard.shard_bytes != (found := path.stat().st_size):
        raise ShardCorrupt(str(path), "size in bytes", expected=shard.shard_bytes, found=found)
    made = read_file_provenance(path)
    told = (shard.suite, dict(shard.models), shard.chunk_id or made.chunk_id)  # compacted: no chunk's
    if told != (found_made := (made.suite, dict(made.model_revisions), made.chunk_id)):
        raise ShardCorrupt(str(path), "provenance", expected=told, found=found_made)


def _require_one(what: str, found: Sequence[str], remedy: str) -> None:
    if len(found) > 1:
        raise BadInput(f"the shards are of {len(found)} {what} ({'; '.join(found)}): {remedy}")

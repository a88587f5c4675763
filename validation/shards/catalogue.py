"""The catalogue: one JSON object in the results store that lists the shards to read, so that readers need no ledger.

The control plane replaces the catalogue when the committed shards have changed: at most once a minute in sweeps, and
after each compaction. `vfleet shards catalogue` does it at once. A box never writes it. FORMAT.md has an example.
"""

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, TypeAdapter, ValidationError

from validation.errors import BadInput

CATALOGUE_FORMAT = 1
"""The number of the catalogue's format. It is increased for changes that older readers cannot read; an added key is not
such a change."""
CATALOGUE_KEY = f"catalogue/v{CATALOGUE_FORMAT}.json"
"""The key of the catalogue in the results store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueColumn:
    """A column of a shard: its name, Arrow type, unit and description, as in the metadata of the parquet file."""

    name: str
    type: str
    unit: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueRevision:
    """A suite revision that has shards to read."""

    suite: str
    revision: str
    models: dict[str, str]
    """The revision of each model, by the model's name."""
    since: datetime
    """The commit time of the first shard of the revision. If revisions have different answers of a model for a segment,
    readers use the answer of the revision with the latest ``since``."""
    schema_version: int
    rules_version: str
    columns: tuple[CatalogueColumn, ...]
    """The columns of the shard that was the revision's newest when the revision entered the catalogue. The same shard
    gives ``schema_version`` and ``rules_version``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueShard:
    """A shard to read."""

    key: str
    sha256: str
    size_bytes: int
    segments: int
    """Number of rows, including those of withheld videos."""
    suite: str
    revision: str
    committed_at: datetime
    withheld: tuple[str, ...] = ()
    """Ids of videos whose rows must not be read: a newer shard of the same suite and revision has rows of
    the video, or the video is a canary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The shards to read at one moment, and the suite revisions that wrote them."""

    format: int = CATALOGUE_FORMAT
    written_at: datetime
    revisions: tuple[CatalogueRevision, ...]
    shards: tuple[CatalogueShard, ...]

    def to_json(self) -> bytes:
        """Return the catalogue as the JSON object that is stored under ``CATALOGUE_KEY``."""
        return _CATALOGUE_JSON.dump_json(self, indent=1)

    @classmethod
    def from_json(cls, payload: bytes, place: str) -> "Catalogue":
        """Read a catalogue from JSON. ``place`` is its address for error messages. Unknown keys are ignored.

        Raises:
            BadInput: the format is newer than this version reads, or the JSON is not a catalogue.
        """
        try:
            if (found := _Header.model_validate_json(payload).format) > CATALOGUE_FORMAT:
                raise BadInput(
                    f"{place} has format {found}, but this version reads at most {CATALOGUE_FORMAT}: update it"
                )
            return _CATALOGUE_JSON.validate_json(payload)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "content"
            raise BadInput(f"{place} is not a catalogue of shards: {where}: {first['msg']}") from None


class _Header(BaseModel):
    format: int


_CATALOGUE_JSON = TypeAdapter(Catalogue)

"""The catalogue: one JSON object in the results store that says which shards to read, so that readers need no ledger.

The control plane replaces it with each sweep and each compaction; a box never writes it. FORMAT.md shows it.
"""

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, TypeAdapter, ValidationError

from validation.errors import BadInput

CATALOGUE_FORMAT = 1
"""Counts changes that an older reader cannot read. A key that is added is no such change."""
CATALOGUE_KEY = f"catalogue/v{CATALOGUE_FORMAT}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueColumn:
    """A column of a shard, as its parquet file describes it."""

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
    since: datetime
    """When its first shard was committed. Of several revisions of a model the latest is preferred."""
    schema_version: int
    rules_version: str
    columns: tuple[CatalogueColumn, ...]
    """The columns of its newest shard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueShard:
    """A shard to read."""

    key: str
    sha256: str
    size_bytes: int
    segments: int
    suite: str
    revision: str
    committed_at: datetime
    withheld: tuple[str, ...] = ()
    """Videos whose rows are not read: a newer shard has them, or they are canaries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The shards to read at one moment, and the suite revisions that wrote them."""

    format: int = CATALOGUE_FORMAT
    written_at: datetime
    revisions: tuple[CatalogueRevision, ...]
    shards: tuple[CatalogueShard, ...]

    def to_json(self) -> bytes:
        return _CATALOGUE_JSON.dump_json(self, indent=1)

    @classmethod
    def from_json(cls, payload: bytes, place: str) -> "Catalogue":
        """Read a catalogue; ``place`` names it in errors. Keys that are not known here are ignored.

        Raises:
            BadInput: it is of a newer format, or no catalogue.
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

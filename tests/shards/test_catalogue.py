"""The catalogue's JSON format."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.errors import BadInput
from validation.shards.catalogue import Catalogue, CatalogueColumn, CatalogueRevision, CatalogueShard

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TIMES = st.datetimes(min_value=datetime(2000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone is drawn
COLUMNS = st.builds(CatalogueColumn, name=TEXT, type=TEXT, unit=TEXT, description=TEXT)
REVISIONS = st.builds(
    CatalogueRevision, suite=TEXT, revision=TEXT, models=st.dictionaries(TEXT, TEXT), since=TIMES,
    schema_version=st.integers(1, 9), rules_version=TEXT, columns=st.lists(COLUMNS, max_size=2).map(tuple),
)  # fmt: skip
SHARDS = st.builds(
    CatalogueShard, key=TEXT, sha256=TEXT, size_bytes=st.integers(0), segments=st.integers(0), suite=TEXT,
    revision=TEXT, committed_at=TIMES, withheld=st.lists(TEXT, max_size=2).map(tuple),
)  # fmt: skip


@given(
    st.builds(
        Catalogue, format=st.just(1), written_at=TIMES,
        revisions=st.lists(REVISIONS, max_size=2).map(tuple), shards=st.lists(SHARDS, max_size=2).map(tuple),
    )
)  # fmt: skip
def test_catalogue_round_trips_through_json(catalogue):
    """Reading a written catalogue gives an equal one; unknown keys are ignored."""
    assert Catalogue.from_json(catalogue.to_json(), "here") == catalogue
    extended = json.loads(catalogue.to_json()) | {"added_later": 1}
    assert Catalogue.from_json(json.dumps(extended).encode(), "here") == catalogue


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b'{"format": 2, "shape": "other"}', "catalogue/v1.json has format 2, but this version reads at most 1"),
        (b"not JSON", "catalogue/v1.json is not a catalogue of shards: content: Invalid JSON"),
        (b'{"format": 1}', "catalogue/v1.json is not a catalogue of shards: written_at: Field required"),
    ],
)
def test_other_content_is_refused_in_one_sentence(payload, says):
    """A newer format and broken content are told apart."""
    with pytest.raises(BadInput, match=says):
        Catalogue.from_json(payload, "catalogue/v1.json")

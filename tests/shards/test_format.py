"""The schema against its version and against its written description."""

import os
import re
import subprocess
import sys
from importlib.resources import files

import pytest

from tests.support.report_helpers import sample_rows, write_shards
from tests.support.sample_shards import MODELS, SCHEMA
from validation.domain import Column
from validation.errors import BadInput
from validation.scoring.signals import DERIVED_SIGNALS
from validation.shards.schema import IDENTITY, SCHEMA_VERSION, shard_schema

_VERSION_1 = """
video_id: string not null
segment_index: int64 not null
segment: string not null
language: string
speaker: string
start_s: double
end_s: double
text: string not null
fault: string
language_code: string
duration_s: double
rms_dbfs: double
clipped_fraction: double
text_normalised: string not null
has_digits: bool
script_fraction: double
latin_fraction: double
chars_per_s: double
cer: double
edge_cer_start: double
edge_cer_end: double
language_votes_for: int64
language_votes_against: int64
language_abstentions: int64
ear_text: string
ear_tokens: int64
ear_p: double
ear_sure: bool
ear_fault: string
nose_ovr: double
nose_fault: string
verdict: string not null
reasons: list<item: string not null> not null
"""
_VERSION_2 = """
video_id: string not null
segment_index: int64 not null
segment: string not null
language: string
speaker: string
start_s: double
end_s: double
layout: string
audio_member: string
audio_offset_s: double
text: string not null
fault: string
language_code: string
duration_s: double
length_difference_s: double
rms_dbfs: double
clipped_fraction: double
flat_fraction: double
bandwidth_hz: double
edge_start_db: double
edge_end_db: double
pause_s: double
text_normalised: string not null
has_digits: bool
script_fraction: double
latin_fraction: double
chars_per_s: double
repeated_letters: int64
repeated_fraction: double
cer: double
edge_cer_start: double
edge_cer_end: double
roman_cer: double
roman_word_cer: double
heard_ratio: double
heard_inserted: double
heard_deleted: double
heard_inserted_run: double
heard_repeated: double
heard_compression: double
language_votes_for: int64
language_votes_against: int64
language_abstentions: int64
ear_text: string
ear_tokens: int64
ear_p: double
ear_sure: bool
ear_fault: string
nose_ovr: double
nose_fault: string
verdict: string not null
margin: double
reasons: list<item: string not null> not null
"""
COLUMNS_OF_VERSION = {1: _VERSION_1, 2: _VERSION_2}
"""The columns of each schema version. An entry is never changed: a new version gets a new entry."""


def test_the_columns_are_those_of_the_schema_version():
    """A change of a column needs a new SCHEMA_VERSION and a new entry above."""
    assert max(COLUMNS_OF_VERSION) == SCHEMA_VERSION
    pinned = COLUMNS_OF_VERSION[SCHEMA_VERSION].strip().splitlines()
    assert [f"{field.name}: {field.type}{'' if field.nullable else ' not null'}" for field in SCHEMA] == pinned


def test_format_md_lists_exactly_these_columns():
    """FORMAT.md and the schema agree on name, type, unit, nullability, meaning and order."""
    text = (files("validation.shards") / "FORMAT.md").read_text(encoding="utf-8")
    assert f"schema version {SCHEMA_VERSION}\n" in text
    cells = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| `")
    ]
    written = [(row[0].strip("`"), row[1].replace("\\", ""), *row[2:]) for row in cells if "<" not in row[0]]
    own = [field for field in SCHEMA if not re.match("ear_|nose_", field.name)]
    assert written == [
        (
            field.name,
            "list<string>" if field.name == "reasons" else str(field.type),
            field.metadata[b"unit"].decode(),
            "allowed" if field.nullable else "never",
            field.metadata[b"description"].decode(),
        )
        for field in own
    ]


def test_model_columns_are_between_signals_and_verdict():
    """In the suite's order, each model's fault after its columns; other columns do not move."""
    names = SCHEMA.names
    bare = shard_schema({}).names
    first = len(IDENTITY) + len(DERIVED_SIGNALS)
    assert names[:first] + names[-3:] == bare
    own = {model: [*(column.name for column in columns), "fault"] for model, columns in MODELS.items()}
    assert names[first:-3] == [f"{model}_{name}" for model, its_names in own.items() for name in its_names]


@pytest.mark.parametrize(
    "models",
    [
        {"edge_cer": [Column("start", "float", "ratio", "")]},
        {"ear": [Column("fault", "str", "text", "")]},
        {"ear": [Column("a_b", "int", "", "")], "ear_a": [Column("b", "int", "", "")]},
    ],
)
def test_two_columns_of_one_name_are_refused(models):
    """A model's column cannot have the name of another column."""
    with pytest.raises(BadInput, match="would exist twice"):
        shard_schema(models)


TEXT = (files("validation.shards") / "FORMAT.md").read_text()
LINES = dict(re.findall(r"^\| ([\w ]+) \| `(\w+\..*)` \|$", TEXT.partition("## Which")[0], re.MULTILINE))


@pytest.mark.parametrize("tool", ["DuckDB", "polars", "pandas", "pyarrow", "Hugging Face"])
def test_each_reader_reads_a_copy_with_its_line(tmp_path, tool):
    """The lines that open the page read every row of a folder of shards, each in its tool."""
    write_shards(tmp_path / "results", sample_rows())
    for manifest in (tmp_path / "results").rglob("*.json"):  # `vfleet shards copy` copies none
        manifest.unlink()
    module = LINES[tool].partition(".")[0]
    pytest.importorskip(module, reason="installed by the extra `test`")
    imported = "pyarrow.parquet" if module == "pyarrow" else module
    environment = os.environ | {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", f"import {imported}\nprint(len({LINES[tool]}))"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "201", done.stderr

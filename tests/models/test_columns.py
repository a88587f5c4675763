"""The columns that readers of shards rely on."""

from importlib import import_module
from pathlib import Path

from validation.models.suites import SUITES
from validation.shards.schema import SCHEMA_VERSION, shard_columns

PINNED = Path(__file__).parent / "shard_columns"


def test_columns_change_with_the_schema_version():
    """A change of columns raises SCHEMA_VERSION and pins the new columns beside the old."""
    models = {}
    for name, where in SUITES["local"].models.items():
        module, _, cls = where.partition(":")
        models[name] = getattr(import_module(module), cls).columns
    told = "".join(f"{column.name}: {column.type}\n" for column in shard_columns(models))
    assert told == (PINNED / f"local-{SCHEMA_VERSION}.txt").read_text()

"""Files of a folder that are no shards."""

import polars as pl
import pytest

from validation.analysis.selection.sources import find_in_folder
from validation.errors import BadInput


@pytest.mark.parametrize("content", [b"PAR1 cut", b"", None])
def test_parquet_file_that_is_no_shard_is_named(tmp_path, content):
    """Such as a selection that was written into the folder: it is not taken for a damaged shard."""
    stray = tmp_path / "good.parquet"
    if content is None:
        pl.DataFrame({"a": [1]}).write_parquet(stray)
    else:
        stray.write_bytes(content)
    with pytest.raises(BadInput, match=r"good\.parquet is no shard of the fleet: move it out of the folder"):
        find_in_folder(tmp_path)

"""The paths of members are taken apart as ``PurePosixPath`` does."""

from pathlib import PurePosixPath

from hypothesis import given
from hypothesis import strategies as st

from validation.corpus.paths import base_name, folder_of, normalise_path, stem_of, strip_suffix, suffix_of

RELATIVE = st.text(alphabet="ab./", max_size=12).filter(lambda path: not path.startswith("/"))


@given(st.text(alphabet="ab./", max_size=12))
def test_a_path_is_normalised_as_by_pathlib(path):
    """Doubled slashes, slashes at the end and parts of one dot disappear, and nothing else changes."""
    assert normalise_path(path) == str(PurePosixPath(path))


@given(RELATIVE)
def test_a_relative_path_is_taken_apart_as_by_pathlib(path):
    """Name, stem, suffix and folder agree, also for hidden files, dots at the end and empty names."""
    parsed = PurePosixPath(path)
    assert (base_name(path), stem_of(path), suffix_of(path)) == (parsed.name, parsed.stem, parsed.suffix)
    assert folder_of(path) == str(parsed.parent)
    assert strip_suffix(path) == (str(parsed.with_suffix("")) if parsed.name else path)

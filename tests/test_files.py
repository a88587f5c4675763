"""Files are replaced whole or not at all."""

import stat

import pytest

from validation.files import replace_atomically, write_atomically


@pytest.mark.parametrize("content", ["नमस्ते\n", b"\x00\xff"])
def test_written_content_replaces_the_previous_content(tmp_path, content):
    """Text is stored as UTF-8, bytes as they are, and no other file remains in the folder."""
    path = tmp_path / "file"
    write_atomically(path, "old", durable=True)
    write_atomically(path, content)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_in_the_block_leaves_the_previous_content(tmp_path):
    """The partial file is deleted, and the file that was there is unchanged."""
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), replace_atomically(path) as partial:
        partial.write_text("new\udcff", encoding="utf-8")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_secret_is_never_readable_by_others(tmp_path):
    """The mode holds from the creation of the partial file."""
    with replace_atomically(tmp_path / "file", mode=0o600) as partial:
        assert stat.S_IMODE(partial.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    """Each writes a partial file of its own; the last rename wins."""
    path = tmp_path / "file"
    with replace_atomically(path) as first:
        write_atomically(path, "second")
        first.write_text("first")
    assert path.read_text() == "first"

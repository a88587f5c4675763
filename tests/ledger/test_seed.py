"""Lists of videos as spreadsheets and scripts write them. Files in ``cases/`` are such lists."""

from pathlib import Path

import pytest

from tests.support.ledger_helpers import fetch
from validation.domain import Video
from validation.errors import BadInput
from validation.ledger.seed import read_manifest, seed_videos

CASES = Path(__file__).parent / "cases"
READ = {
    "excel.csv": [Video("abcdefghij1", "hi", 3)],  # a byte order mark and CRLF
    "semicolon.csv": [Video("abcdefghij2", "hi", 3)],
    "utf16.csv": [Video("abcdefghij3", "hi", None)],
    "float.csv": [Video("abcdefghij4", "hi", 3)],
    "extra.csv": [Video("abcdefghij5", "hi", 3)],
    "bom.json": [Video("abcdefghij6", "hi", None)],
    "videos.csv": [Video(name, "en", 1) for name in ("-SxV944iB48", "--QPLjNS3FY", "_a-b_c-d_e1", "okokokokok1")],
}


@pytest.mark.parametrize("name", READ)
def test_list_is_read_as_spreadsheets_write_it(name):
    """Encodings, delimiters, extra columns, whole numbers with a decimal point, and ids that begin with a hyphen."""
    assert read_manifest(CASES / name) == READ[name]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_encoding_and_delimiter_combine(tmp_path, encoding, delimiter):
    """Each encoding with each delimiter; quoted cells may hold the delimiter."""
    path = tmp_path / "videos.csv"
    rows = [("language", "video_id", "segment_count"), ("hi", '"a,;b"', "4"), ("", "c", "")]
    path.write_text("\r\n".join(delimiter.join(row) for row in rows), encoding=encoding, newline="")
    assert read_manifest(path) == [Video("a,;b", "hi", 4), Video("c", None, None)]


@pytest.mark.parametrize(
    ("name", "content", "refusal"),
    [
        ("v.csv", "id;language\na;hi\n", "no column video_id: its columns are id, language"),
        ("v.csv", "", "no column video_id: its columns are none"),
        ("v.csv", "video_id,segment_count\na,3.5\n", "row 1: segment_count is '3.5'"),
        ("v.csv", "video_id,segment_count\na,nan\n", "row 1: segment_count is 'nan'"),
        ("v.csv", "video_id,segment_count\na,1e300\n", "row 1: segment_count is '1e300'"),
        ("v.csv", "video_id,segment_count\na,-1\n", "row 1: segment_count is '-1'"),
        ("v.json", '[{"video_id": "abc\\u0000efghij7"}]', "row 1: video_id 'abc\\\\x00efghij7'"),
        ("v.json", '[{"video_id": "a\\u001b[2Jb"}]', "cannot be printed"),
        ("v.json", '[{"video_id": "a\\ud800b"}]', "cannot be printed"),
        ("v.json", '[{"video_id": "a", "language": ["hi"]}]', "language is \\['hi'\\]"),
        ("v.json", '[{"video_id": "a", "segment_count": true}]', "segment_count is True"),
        ("v.json", '{"video_id": "a"}', "must hold a list"),
        ("v.jsonl", '{"video_id": "a"}\n{"video', "is not valid"),
        ("v.xlsx", "PK", "must end in"),
        ("v.csv", "PK\x03\x04", "is a zip archive, not a text: save it as CSV in UTF-8"),
        ("v.csv", "v\0i\0d\0e\0o\0", "is not UTF-8"),
        ("v.jsonl", '{"video_id": 12}', "row 1: video_id is 12, not a word"),
        ("v.csv", "video_id,language\na,hi\nb,hi\na,en\n", "row 3: a is listed before, with other values"),
    ],
)  # fmt: skip
def test_unusable_list_is_refused_naming_file_row_and_columns(tmp_path, name, content, refusal):
    """Nothing of it is entered."""
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(BadInput, match=refusal):
        read_manifest(path)


@pytest.mark.parametrize(
    "content",
    [
        "sep=;\r\nvideo_id;language\r\na;hi\r\n",
        "SEP=,\nvideo_id,language\na,hi\n",
        "\n\nVideo_ID,Language\n\na,hi\n\n",
        "video_id,language,,\na,hi,,\n,,,\n,,,\n",
        "video_id\tlanguage\ra\thi\r",
        "video_id,language\na,hi\na,hi\n",
    ],
)
def test_list_is_read_as_a_spreadsheet_leaves_it(tmp_path, content):
    """A line that names the delimiter, empty rows and columns, capital names, a row twice."""
    path = tmp_path / "videos.CSV"
    path.write_text(content, newline="")
    assert read_manifest(path) == [Video("a", "hi", None)]


def test_seeding_twice_enters_each_video_once(ledger):
    """A video that is in the queue stays as it is."""
    videos = read_manifest(CASES / "videos.csv")
    assert (seed_videos(ledger, videos), seed_videos(ledger, videos)) == (4, 0)
    assert fetch(ledger, "SELECT count(*) FROM video_queue") == [(4,)]

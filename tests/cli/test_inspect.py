"""`vfleet inspect` shows what a worker would read from a tar, without a ledger, a model or a server."""

import json
import subprocess
import sys

import pytest

from tests.support.corpus_samples import encode, make_tar, read_speech
from validation.cli.main import main
from validation.exit_codes import ExitCode
from validation.storage.store import put_if_absent

SPEECH = encode(read_speech(), "WAV")


@pytest.fixture
def paired(tmp_path):
    """A tar with two sound segments, one without its audio, and two images."""
    path = tmp_path / "abc.tar"
    path.write_bytes(
        make_tar(
            {
                "1.wav": SPEECH,
                "1.json": json.dumps({"text": "one", "language": "hi", "start": 1.0, "end": 1.5}).encode(),
                "2.wav": SPEECH,
                "2.txt": b"two",
                "3.json": b'{"text": "three"}',
                "a.jpg": b"x",
                "b.jpg": b"x",
            }
        )
    )
    return path


def test_segments_faults_and_passed_over_files_are_shown(paired, capsys):
    """The layout with its reason, each segment with its member and fault, and the files that are not read."""
    assert main(["inspect", str(paired), "--json"]) == ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    assert (found["layout"], found["refusal"]) == ("pairs", None)
    assert "same name" in found["layout_reason"]
    first, second, third = found["segments"]
    assert (first["member"], first["text"], first["language"], first["start_s"]) == ("1.wav", "one", "hi", 1.0)
    assert first["length_difference_s"] == pytest.approx(first["decoded_s"] - 0.5, abs=0.01)
    assert (second["text"], second["fault"]) == ("two", None)
    assert (third["member"], third["decoded_s"]) == (None, None)
    assert third["fault"].startswith("no_audio")
    assert found["ignored_files"] == {".jpg": 2}


def test_the_table_fits_80_columns(paired, capsys, monkeypatch):
    """The table fits 80 columns and ends with the counts."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["inspect", str(paired)]) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-2:] == ["3 segments, 1 with a fault", "ignored files: 2 .jpg"]


def test_a_refused_tar_is_one_sentence_and_exit_code_1(tmp_path, capsys):
    """The sentence is the one that a worker would write to the queue."""
    path = tmp_path / "cut.tar"
    path.write_bytes(make_tar({"1.wav": SPEECH, "1.txt": b"one"})[:2000])
    assert main(["inspect", str(path)]) == ExitCode.FAILED
    assert capsys.readouterr().out.startswith("refused: cut.tar: the tar is broken")


def test_a_key_is_read_from_the_source_store(box, paired, capsys, monkeypatch):
    """A key is read from the source store that the environment names."""
    put_if_absent(box.context.source, "abc.tar", paired.read_bytes())
    for name, value in box.environment.items():
        monkeypatch.setenv(name, value)
    assert main(["inspect", "abc.tar", "--json"]) == ExitCode.OK
    assert len(json.loads(capsys.readouterr().out)["segments"]) == 3


def test_standard_input_is_read(paired):
    """`-` reads the tar from standard input."""
    command = [sys.executable, "-m", "validation.cli", "inspect", "-", "--json"]
    with paired.open("rb") as tar:
        done = subprocess.run(command, stdin=tar, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["layout"] == "pairs"


def test_a_name_that_is_neither_file_nor_key_is_bad_input(capsys):
    """One sentence names the file and the key that were tried."""
    assert main(["inspect", "nothing.tar"]) == ExitCode.BAD_INPUT
    assert "nothing.tar is no file" in capsys.readouterr().err

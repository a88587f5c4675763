"""The languages of a suite, read from the small files of its weights."""

from simulation.tiny_models.conformer import save_conformer
from simulation.tiny_models.language_id import save_mms, save_voxlingua
from validation.models.label_files import read_known_languages
from validation.models.suite import load_suite


def test_files_name_the_languages_of_the_loaded_suite(weights_root, monkeypatch):
    """The doctor, which loads no model, compares labels with the same codes as scoring does."""
    monkeypatch.setenv("VFLEET_WEIGHTS", str(weights_root))
    loaded = load_suite("indic", threads=1).roles.known_languages
    assert {"hi", "or", "ast"} <= set(loaded)
    assert read_known_languages("indic", weights_root) == set(loaded)


def test_whisper_names_its_99_languages():
    """By the codes that scoring uses: Javanese is `jv`, which Whisper writes `jw`."""
    known = read_known_languages("local", None)
    assert len(known) == 99
    assert {"hi", "jv", "haw"} <= known
    assert "or" not in known


def test_missing_weights_are_no_answer(tmp_path):
    """Without the files nothing is known, which is not the same as no language."""
    assert read_known_languages("indic", None) is None
    save_mms(tmp_path / "mms-lid-256")
    save_voxlingua(tmp_path / "voxlingua107-ecapa")
    assert read_known_languages("indic", tmp_path) is None
    save_conformer(tmp_path / "indicconformer-600m")
    assert read_known_languages("indic", tmp_path)


def test_suite_that_identifies_no_language_knows_none():
    """With it no label is unsupported."""
    assert read_known_languages("vad", None) == frozenset()

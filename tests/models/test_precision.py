import shutil
from importlib.resources import files

import pytest
import torch

from tests.support.speech_samples import silence
from validation.cli import weights as command
from validation.cli.main import main
from validation.cli.weights import score_with_precision
from validation.corpus.pack import PackedSegment, pack_video
from validation.domain import Fault, Scored, Unscored, Utterance, Video
from validation.models import precision
from validation.models.precision import compare_precisions
from validation.scoring.signals import SuiteRoles

ROLES = SuiteRoles(("conformer", "mms"), "conformer", ("mms",))
ASKED = [Utterance(silence(1.0), "नमस्ते दुनिया", "hi")] * 400
HEARD = {"text": "नमस्ते दुनिया", "align_tok": -0.2, "align_frame": -0.1}
NAMED = {"language": "hi", "language_p": 0.9, "declared_p": 0.9}


def answers(*, conformer=None, mms=None, changed: int = 400):
    """400 utterances; the first ``changed`` have other values than the rest."""
    return [
        {
            "conformer": Scored(HEARD | (conformer or {}) if n < changed else HEARD),
            "mms": Scored(NAMED | (mms or {}) if n < changed else NAMED),
        }
        for n in range(400)
    ]


def failures(fine, coarse) -> dict[str, float]:
    found = compare_precisions(ASKED, fine, coarse, ROLES)
    return {f"{check.model} {check.measure}": check.found for check in found if not check.passed}


def test_equal_answers_pass_every_comparison():
    """All measures with limits are compared, so that none passes by being left out."""
    checks = compare_precisions(ASKED, answers(), answers(), ROLES)
    assert all(check.passed for check in checks)
    assert [f"{check.model} {check.measure}" for check in checks] == [
        "conformer answers lost",
        "conformer further blank texts",
        "conformer mean CER change",
        "conformer align_tok change, p99",
        "conformer align_frame change, p99",
        "mms answers lost",
        "mms top-1 agreement",
        "mms language_p change, p99",
        "mms declared_p change, p99",
    ]


@pytest.mark.parametrize(
    ("change", "count", "failed"),
    [
        ({"mms": {"language": "ur"}}, 2, []),
        ({"mms": {"language": "ur"}}, 3, ["mms top-1 agreement"]),
        ({"mms": {"language_p": 0.885}}, 400, []),
        ({"mms": {"language_p": 0.87}}, 3, []),
        ({"mms": {"language_p": 0.87}}, 8, ["mms language_p change, p99"]),
        ({"mms": {"declared_p": None}}, 8, ["mms declared_p change, p99"]),
        ({"conformer": {"text": "नमस्ते दुनियां"}}, 4, []),
        ({"conformer": {"text": "नमस्ते दुनियां"}}, 8, ["conformer mean CER change"]),
        ({"conformer": {"text": ""}}, 1, ["conformer further blank texts", "conformer mean CER change"]),
        ({"conformer": {"align_tok": -0.25}}, 8, ["conformer align_tok change, p99"]),
    ],
)
def test_changes_beyond_a_limit_fail(change, count, failed):
    """99.5 % of first choices, 0.02 in probability and alignment, 0.1 % of CER, no further blank text."""
    assert list(failures(answers(), answers(**change, changed=count))) == failed


def test_a_lost_answer_fails():
    """After an overflow a model gives no answer; such segments must not drop out of the comparison."""
    coarse = answers()
    coarse[7]["mms"] = Unscored(Fault("not_finite", "language_p is nan"))
    assert failures(answers(), coarse) == {"mms answers lost": 1}
    assert failures(coarse, answers()) == {}


def test_without_transcripts_the_text_of_single_precision_is_the_reference():
    """Audio without transcripts is enough to find a recogniser that writes something else."""
    asked = [Utterance(silence(1.0), "", "hi")] * 400
    checks = compare_precisions(asked, answers(), answers(conformer={"text": "नमस्ते"}), ROLES)
    (rate,) = [check for check in checks if check.measure == "mean CER change"]
    assert not rate.passed
    assert rate.found == pytest.approx(7 / 13)


def test_better_and_worse_texts_do_not_cancel_out():
    """An overflow that improves one segment and ruins the next fails, though the mean rate stays."""
    asked = [Utterance(silence(1.0), "नमस्ते दुनिया", "hi")] * 400
    better, worse = {"text": "नमस्ते दुनिया"}, {"text": "नमस्ते दुनियां"}
    fine = answers(conformer=worse, changed=200)
    coarse = [*answers(conformer=better)[:200], *answers(conformer=worse)[:200]]
    (rate,) = [c for c in compare_precisions(asked, fine, coarse, ROLES) if c.measure == "mean CER change"]
    assert rate.found == pytest.approx(1 / 13)
    assert not rate.passed


def test_a_suite_without_half_precision_is_refused(speech, capsys):
    """Two runs of the same computation agree and prove nothing."""
    assert main(["check-precision", str(speech), "--suite", "vad"]) == 2
    assert "no model of suite vad computes in half precision" in capsys.readouterr().err


@pytest.fixture
def speech(tmp_path, clips, monkeypatch, weights_root):
    """A clip with its transcript beside it, a tar of one segment, and a file that is no audio."""
    monkeypatch.setenv("VFLEET_WEIGHTS", str(weights_root))
    monkeypatch.setenv("VFLEET_PRECISION", "auto")  # put back afterwards
    monkeypatch.setenv("VFLEET_CONFORMER_ENGINE", "onnx")
    clip = clips["hi_ginti"]
    shutil.copy(str(files("validation.local") / "clips" / "hi_ginti.flac"), tmp_path)
    (tmp_path / "hi_ginti.txt").write_text(clip.text)
    (tmp_path / "more.tar").write_bytes(pack_video(Video("more", "hi", 1), [PackedSegment(clip.audio[:20_000], "एक")]))
    (tmp_path / "broken.wav").write_bytes(b"nothing to hear")
    return tmp_path


def test_the_command_scores_the_same_speech_at_both_precisions(speech, capsys, monkeypatch):
    """Exit code 0 and one line per comparison if all are within their limits; 1 if one is not."""
    scored = {}
    monkeypatch.setattr(
        command,
        "score_with_precision",
        lambda at, *what: scored.get(at) or scored.setdefault(at, score_with_precision(at, *what)),
    )
    assert main(["check-precision", str(speech), "--language", "hi"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("broken.wav is left out")
    assert told[1].startswith("float16 against float32 on 2 segments")
    assert [line.split()[1] for line in told[2:5]] == ["voxlingua", "dnsmos", "silero"]
    assert all(line.endswith("not in half precision") for line in told[2:5])
    assert told[5].split() == ["model", "measure", "found", "limit"]
    assert {line.split()[1] for line in told[6:]} == {"conformer", "mms"}
    assert all(line.startswith("pass") for line in told[6:])
    conformers = {precision: suite.revisions["conformer"] for precision, (suite, _) in scored.items()}
    assert {at: revision.partition("-")[2] for at, revision in conformers.items()} == {
        "float32": "torch-float32",
        "float16": "torch-float16",
    }
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32

    # The same answers are judged again, by a limit that nothing keeps.
    monkeypatch.setattr(precision, "MAX_P_CHANGE", 0.0)
    assert main(["check-precision", str(speech), "--language", "hi"]) == 1
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")] == [
        *[["FAIL", "conformer"]] * 2,
        *[["FAIL", "mms"]] * 2,
    ]


def test_a_folder_without_speech_is_refused(tmp_path, capsys):
    """An empty folder must not pass."""
    assert main(["check-precision", str(tmp_path)]) == 2
    assert "holds no tar and no audio file" in capsys.readouterr().err

"""Canaries from their generation to the quarantine of a worker that answers them wrongly."""

import json
import re
import shlex
import shutil
from dataclasses import dataclass, replace
from uuid import uuid4

import numpy as np
import pytest

from tests.support.ledger_helpers import execute, fetch, statuses
from tests.support.result_helpers import violated_invariants
from validation.analysis.selection.open import open_segments
from validation.analysis.selection.sources import find_committed_shards
from validation.calibration.trusted_clips import load_trusted_clips
from validation.canaries.generate import generate_canaries, is_stable, list_conditions, make_probes, make_variants
from validation.cli.main import main
from validation.control.audit import audit
from validation.control.compact import compact_all
from validation.corpus.fetch import fetch_video
from validation.domain import Scored, Video
from validation.errors import BadInput
from validation.ledger.canaries import read_canary_results, read_quarantined_shards, read_quarantined_workers
from validation.ledger.rpc import WorkerQuarantined
from validation.ledger.workers import heartbeat_worker
from validation.local.sample_corpus import CLIPS
from validation.models.scorer import SyncScorerMixin
from validation.models.suite import load_suite
from validation.scoring.verdict import Condition, Rules
from validation.worker.chunk.context import run_chunk

LANGUAGES = {"en", "hi"}
ORDINARY_VIDEOS = ("dQw4w9WgXcQ", "9bZkp7q19f0", "kJQP7kiw5Fk", "OPf0YbXqDm0")
"""Ordinary videos of the queue."""


@pytest.fixture(scope="module")
def trusted(tmp_path_factory):
    """Clips of two languages."""
    folder = tmp_path_factory.mktemp("trusted")
    entries = [each for each in json.loads((CLIPS / "manifest.json").read_text()) if each["lang"] in LANGUAGES]
    for entry in entries:
        shutil.copy(CLIPS / entry["file"], folder)
    (folder / "manifest.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture(scope="module")
def suite():
    return load_suite("vad")


@pytest.fixture(scope="module")
def probes(suite, trusted):
    return make_probes(suite, make_variants(load_trusted_clips(trusted)))


@dataclass
class SuiteDescription:
    """The name and rules of a suite, which are known without its models."""

    name: str
    rules: Rules


@dataclass
class SpeechlessScorer(SyncScorerMixin):
    """The suite on a defective GPU: it finds no speech in any audio."""

    suite: object

    def __getattr__(self, name):
        return getattr(self.suite, name)

    def score(self, utterances):
        evaluated = self.suite.score(utterances)
        return [
            {"silero": Scored({**each["silero"].values, "speech_ratio": 0.0, "speech_s": 0.0})} for each in evaluated
        ]


@pytest.fixture
def workers(box, suite, trusted, monkeypatch, capsys):
    """Worker ann is correct and worker bob is defective; twelve canaries are queued among four videos."""
    monkeypatch.setenv("VFLEET_SUITE", "vad")
    box.add_videos(*ORDINARY_VIDEOS)
    assert main(["canaries", "add", str(trusted), "--count", "12", "--seed", "3"]) == 0
    assert "12 of 12 canaries, with" in capsys.readouterr().out
    settings = box.context.settings.model_copy(update={"suite": "vad"})
    ann = replace(box.context, scorer=suite, settings=settings)
    bob = replace(ann, scorer=SpeechlessScorer(suite), settings=settings.model_copy(update={"worker_id": "bob"}))
    return ann, bob


def readable(box):
    """The videos that a reader of the results finds."""
    source = find_committed_shards(box.engine, "vad", box.context.settings)
    return set(open_segments(source).collect()["video_id"])


def outcomes(box):
    """The outcomes of the canaries, by worker."""
    found = {}
    for row in read_canary_results(box.engine):
        found.setdefault(row.worker_id, set()).add(row.outcome)
    return found


def test_worker_with_wrong_canaries_is_quarantined_and_its_videos_requeued(box, workers, capsys, tmp_path):
    """The whole way: the list names the worker's shards, the printed command requeues them, and a correct worker redoes
    them."""
    ann, bob = workers
    for worker in (ann, bob):  # eight of sixteen each: four canaries at least
        run_chunk(worker, size=8)
    assert main(["sweep"]) == 0
    assert outcomes(box) == {"ann": {"right"}, "bob": {"wrong"}}

    with pytest.raises(WorkerQuarantined, match="worker bob is quarantined"):
        run_chunk(bob, size=1)
    capsys.readouterr()
    assert main(["canaries", "list"]) == 0
    output = capsys.readouterr().out
    assert "shards/bob/validation_bob_shard_0001.parquet: 8 videos" in output
    assert main(["status"]) == 0
    assert "quarantined" in capsys.readouterr().out

    (command,) = re.findall("requeue their videos: vfleet (.+)", output)
    assert main(shlex.split(command)) == 0
    assert "8 videos back in the queue" in capsys.readouterr().out
    assert read_quarantined_shards(box.engine) == []
    run_chunk(ann)
    assert main(["sweep"]) == 0
    assert set(statuses(box.engine).values()) == {"validated"}
    assert outcomes(box) == {"ann": {"right"}, "bob": {"wrong"}}, "judged again, by another machine"

    assert readable(box) == set(ORDINARY_VIDEOS)
    assert len(list(compact_all(box.engine, box.context.results))) == 1
    assert readable(box) == set(ORDINARY_VIDEOS), "nor after a compaction"
    assert list(audit(box.engine, box.context.results)) == []

    assert main(["report", str(tmp_path / "r.html"), "--silent"]) == 0
    page = (tmp_path / "r.html").read_text()
    assert "<h2>Canaries</h2>" in page
    assert "12 videos with known answers" in page
    assert main(["canaries", "clear", "bob"]) == 0
    assert run_chunk(bob) is None, "nothing is left, and nothing is held against it"


def test_open_chunk_of_a_quarantined_worker_is_released(box, workers):
    """Its open chunk is released without an attempt, and its next heartbeat is refused."""
    _, bob = workers
    run_chunk(bob, size=13)  # one canary at least
    held = bob.claim(uuid4(), flow_run_id=None, size=3, languages=())
    assert len(held.videos) == 3
    assert main(["sweep"]) == 0
    assert fetch(box.engine, "SELECT state FROM validation_chunks WHERE chunk_id = :c", c=held.chunk_id) == [
        ("released",)
    ]
    back = {video.video_id for video in held.videos}
    assert {video for video, status in statuses(box.engine).items() if status == "pending"} == back
    with pytest.raises(WorkerQuarantined):
        heartbeat_worker(box.engine, "bob", instance="bob-1")
    assert violated_invariants(box.engine) == []


def test_canary_looks_like_any_video(box, workers, suite):
    """Its id has the pattern of the queue, its language is one of the queue, and its tar reads like any other."""
    entered = {row.video_id for row in read_canary_results(box.engine)}
    rows = {
        v: (lang, n) for v, lang, n in fetch(box.engine, "SELECT video_id, language, segment_count FROM video_queue")
    }
    for video_id in entered:
        assert re.fullmatch(r"[A-Za-z0-9]{11}", video_id)
        language, count = rows[video_id]
        assert (language, count) == ("hi", 2)
        decoded = fetch_video(box.context.source, f"{video_id}.tar", Video(video_id, language, count))
        assert len(decoded.segments) == 2
        assert {each.segment.video_id for each in decoded.segments} == {video_id}


def test_other_models_and_failures_are_inconclusive(box, workers):
    """A box is not quarantined for another model revision or for a tar that is gone."""
    ann, bob = workers
    bob.scorer.suite.revisions, kept = {"silero": "another"}, bob.scorer.suite.revisions
    try:
        run_chunk(bob, size=13)
    finally:
        bob.scorer.suite.revisions = kept
    execute(box.engine, "UPDATE video_queue SET video_id = 'gone-' || video_id WHERE validation_status = 'pending'")
    execute(
        box.engine, "UPDATE validation.canaries SET video_id = 'gone-' || video_id WHERE 'gone-' || video_id IN "
        "(SELECT video_id FROM video_queue)"
    )  # fmt: skip
    box.add_videos("found")  # where no object of a chunk exists, no video is charged
    run_chunk(ann)
    assert "validation_failed" in statuses(box.engine).values()
    assert main(["sweep"]) == 0
    assert set().union(*outcomes(box).values()) == {"inconclusive"}
    assert read_quarantined_workers(box.engine) == []


def test_no_canary_is_added_without_videos_of_its_language(box, trusted, monkeypatch):
    """In a queue without a video of the probes' languages a canary could be recognised, so none is added."""
    monkeypatch.setenv("VFLEET_SUITE", "vad")
    assert main(["canaries", "add", str(trusted), "--count", "2"]) == 2
    assert read_canary_results(box.engine) == []
    assert main(["canaries", "clear", "ann"]) == 2


def test_probes_cover_every_language_and_many_clips(probes):
    """Each probe has a known answer with numbers."""
    assert {probe.language for probe in probes} == LANGUAGES
    assert len({probe.clip for probe in probes}) >= 6
    assert all(probe.answer.signals["duration_s"] > 0 for probe in probes)


def test_canaries_differ_and_depend_on_the_seed_only(probes):
    """Each clip occurs once per canary, and equal seeds make equal tars."""
    templates = [Video(f"v{n:03d}", "en", 4) for n in range(8)]
    canaries, again = (list(generate_canaries(templates, probes, np.random.default_rng(1))) for _ in range(2))
    assert len({canary.tar for canary in canaries}) == len({canary.video.video_id for canary in canaries}) == 8
    assert [canary.tar for canary in canaries] == [canary.tar for canary in again]
    assert {len(canary.answers) for canary in canaries} == {4}
    assert not {canary.video.video_id for canary in canaries} & {template.video_id for template in templates}


@pytest.mark.parametrize(
    ("row", "perturbed", "stable"),
    [
        ({"ear_p": 0.5}, {"ear_p": 0.5}, True),
        ({"ear_p": 0.25}, {"ear_p": 0.25}, False),  # within a tenth of the limit
        ({"ear_p": 0.5}, {"ear_p": 0.8}, False),  # moved by what half precision rounds
        ({"ear_p": 0.85}, {"ear_p": 0.85}, False),  # another box might be confident and skip the model
        ({"ear_p": 0.99, "nose_fault": "not_asked: x"}, {"ear_p": 0.99}, True),
        ({"ear_p": 0.5, "ear_fault": "model_failed: x"}, {"ear_p": 0.5}, False),
        ({"ear_p": 0.5, "verdict": "accept"}, {"ear_p": 0.5, "verdict": "review"}, False),
    ],
)
def test_probe_numbers_are_not_near_a_limit(row, perturbed, stable):
    """An answer is stable if two correct boxes cannot differ about it: complete, not near a limit, unchanged by
    noise."""
    limit, bound = Condition(column="ear_p", op="<", value=0.2), Condition(column="ear_p", op=">=", value=0.9)
    rows = [{"verdict": "accept", "fault": None, **each} for each in (row, perturbed)]
    assert is_stable(*rows, [limit, bound], {"ear_p": "probability"}) is stable


def test_probe_numbers_are_not_near_a_cascade_bound(suite):
    """The bounds of a cascade are conditions on columns, like those of the rules."""
    found = {
        (each.column, each.op, each.value) for each in list_conditions(SuiteDescription("indic-cascade", suite.rules))
    }
    assert {("conformer_declared_p", ">=", 0.5), ("voxlingua_declared_p", ">=", 0.8)} <= found
    assert list_conditions(suite) == [each for rule in suite.rules.effective for each in rule.when]


def test_no_probes_without_clips(suite):
    """Without clips there are no probes, and a missing folder of clips is refused."""
    assert make_probes(suite, []) == []
    with pytest.raises(BadInput):
        load_trusted_clips(CLIPS / "nowhere")

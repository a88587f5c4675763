"""`report_progress` on a real Prefect server."""

from html import unescape

from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from flows.progress import report_progress
from tests.support.ledger_helpers import claim
from validation.domain import Video
from validation.ledger.seed import seed_videos


def artifacts(prefect, run_id):
    """The artifacts of a flow run, by key."""
    found = prefect.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id])))
    return {artifact.key: artifact for artifact in found}


def test_status_is_published_as_artifacts(prefect, flow_box):
    """A page, a table of workers and a progress bar per language; the state message is the headline."""
    flow_box.add_videos("a", "b")
    claim(flow_box.engine, size=1)
    state = report_progress(return_state=True)
    left = artifacts(prefect, state.state_details.flow_run_id)
    assert {key: artifact.type for key, artifact in left.items()} == {
        "fleet": "markdown", "fleet-workers": "table", "language-hi": "progress",
    }  # fmt: skip
    assert left["language-hi"].data == 0
    assert state.result() in unescape(left["fleet"].data)
    assert "of 2 videos done" in state.result()
    assert '"worker": "ann"' in left["fleet-workers"].data


def test_every_language_label_has_its_own_bar(prefect, flow_box):
    """Labels that differ in case or script have different keys, and the key of a plain code is the code."""
    labels = ["hi", "हिन्दी", "বাংলা", "Hi", "hi_IN", "hi-in", "__"]
    seed_videos(flow_box.engine, [Video(f"v{n}", label, 1) for n, label in enumerate(labels)])
    state = report_progress(return_state=True)
    left = artifacts(prefect, state.state_details.flow_run_id)
    bars = {key: artifact.description for key, artifact in left.items() if key.startswith("language")}
    assert {unescape(description).split(":")[0] for description in bars.values()} == set(labels)
    assert len(bars) == len(labels)
    assert {"language-hi", "language-hi-in"} <= bars.keys()


def test_empty_fleet_has_a_page_without_bars(prefect, flow_box):
    """The page says that the queue is empty."""
    state = report_progress(return_state=True)
    left = artifacts(prefect, state.state_details.flow_run_id)
    assert "The queue is empty" in left["fleet"].data
    assert [key for key in left if key.startswith("language")] == []

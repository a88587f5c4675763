"""The page of `vfleet explore` in a real browser, over shards of a local folder."""

import threading
import urllib.error
import urllib.request
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.support.browser import in_browser, open_browser
from tests.support.report_helpers import RULES_TOML, sample_rows, write_shards, write_tar
from validation.analysis.explore.database import default_cache, prepare_database
from validation.analysis.explore.reviews import Review, Reviews
from validation.analysis.explore.revisions import RevisionComparison
from validation.analysis.explore.server import make_explore_server
from validation.analysis.segment_address import segment_address
from validation.analysis.selection.sources import find_in_folder
from validation.cli.explore import open_context
from validation.scoring.rules_io import parse_rules

pytestmark = pytest.mark.timeout(300)
TOTALS = "document.querySelector('#totals')?.innerText"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The page of 201 sample segments. The source has the tar of video v0 only. At revision r0, v0/3 was noisy."""
    folder = tmp_path_factory.mktemp("explore")
    write_shards(folder / "results", sample_rows())
    (folder / "source").mkdir()
    write_tar(folder / "source", "v0", 20)
    (folder / "sample.toml").write_text(RULES_TOML)
    (folder / "strict.toml").write_text(RULES_TOML.replace("sample-1", "strict").replace("value = 2.0", "value = 3.0"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("VFLEET_SOURCE_URL", f"file://{folder / 'source'}")
        context = open_context(
            str(folder / "sample.toml"), [str(folder / "strict.toml")], folder / "reviews.jsonl",
            suite=None, shards=folder / "results", bucket=None, revision=None,
        )  # fmt: skip
        earlier = [row | {"scale_ovr": 1.0, "ear_text": "noise"} if (row["video_id"], row["segment_index"]) == ("v0", 3)
                   else row for row in sample_rows()]  # fmt: skip
        write_shards(folder / "earlier", earlier)
        (now,) = default_cache().glob("*.duckdb")
        before = prepare_database(find_in_folder(folder / "earlier"), context.rules, default_cache())
        context = replace(context, revisions=RevisionComparison("r0", before, now))
    server, address = make_explore_server(context)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield SimpleNamespace(address=address, folder=folder, context=context)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(served, browser):
    """The page in a tab of its own, as it is when it is opened."""
    with browser.open_tab() as page:
        page.open(served.address)
        page.wait(f"{TOTALS} == '201 segments, 0.28 h'")
        yield page


def open_tab(page, label):
    page.run(f"[...document.querySelectorAll('[role=tab], .tab')].find(e => e.innerText == {label!r}).click()")


def middle_of(page, script):
    page.wait(f"!!({script})")
    return page.run(
        f"(e => {{e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect();"
        f"return [b.x, b.y + b.height / 2, b.width]}})({script})"
    )


@in_browser
def test_brushing_a_histogram_filters_the_table_and_the_counts(page):
    """Dragging across a histogram keeps the segments of the range; clearing shows all again."""
    page.wait("document.querySelectorAll('#table .ag-center-cols-container .ag-row').length > 3")
    for _ in range(5):  # a drag that begins while the histograms are drawn anew is lost
        left, y, width = middle_of(page, "document.querySelectorAll('#histograms .nsewdrag')[1]")
        page.drag([left + width * 0.6, y], [left + width * 0.99, y])
        if page.run(f"new Promise(done => setTimeout(() => done({TOTALS}), 1500))").startswith("29 "):
            break
    page.wait(f"{TOTALS}?.startsWith('29 ')")
    page.wait("document.querySelectorAll('#table .ag-center-cols-container .ag-row').length > 3")
    page.click("#clear")
    page.wait(f"{TOTALS}?.startsWith('201')")


@in_browser
def test_a_filter_in_sql_is_applied_and_a_wrong_one_is_explained(page):
    """A condition in SQL filters; one that cannot be parsed gives one sentence and no traceback."""
    page.type("#where", "lang = 'ta' AND cer > 0.2")
    page.wait(f"{TOTALS}?.startsWith('19 ')")
    page.type("#where", "cer > AND")
    page.wait("document.querySelector('#message').innerText.startsWith('the filter cannot be read')")
    page.type("#where", "text IN (SELECT content FROM read_text('/etc/passwd'))")
    page.wait("document.querySelector('#message').innerText.startsWith('the filter is refused')")


@in_browser
def test_a_segment_is_heard_compared_and_decided(page, served):
    """A row opens its segment with player, texts and signals; a decision is in the file at once."""
    page.wait("document.querySelectorAll('#table .ag-center-cols-container .ag-row').length > 3")
    page.click("#table .ag-center-cols-container .ag-row[row-index='3'] [col-id='video_id']")
    page.wait("document.querySelector('#player')?.duration == 0.5")
    page.wait("document.querySelectorAll('#segment-body .main-svg').length > 1")
    assert "noisy (reject) if scale_ovr < 2.0" in page.run("document.querySelector('.signals').innerText")
    assert page.run("document.querySelector('.diff .heard').innerText.trim()") == "what was heard"
    page.type("#note", "clear")
    page.click("#accept")
    page.wait("document.querySelector('#review-state').innerText.startsWith('accept')")
    kept = Reviews(served.folder / "reviews.jsonl").get("v0", 3)
    assert kept is not None
    assert (kept.decision, kept.note) == ("accept", "clear")


@in_browser
def test_the_words_of_a_segment_are_heard_where_they_lie(page):
    """The words fill the audio in order, and a click on a word plays from its beginning."""
    open_tab(page, "One segment")
    page.type("#segment-name", "v0/3")
    page.wait("document.querySelector('#player')?.duration == 0.5")
    starts = page.run("[...document.querySelectorAll('#words .word')].map(e => Number(e.dataset.start))")
    assert starts == sorted(starts)
    assert 0 <= starts[0] < starts[-1] < 0.5
    page.run("document.querySelector('#player').play = function () { window.playedFrom = this.currentTime; }")
    page.click("#words .word:last-child")
    assert page.run("window.playedFrom") == pytest.approx(starts[-1], abs=0.01)


@in_browser
def test_two_revisions_are_shown_side_by_side(page):
    """The verdicts of both revisions are counted, and a segment lists what has changed."""
    open_tab(page, "Compare revisions")
    page.wait("document.querySelectorAll('#revised .ag-row').length > 0")
    page.click("#revised .ag-row[row-index='0'] [col-id='video_id']")
    page.wait("document.querySelector('#segment-name')?.value == 'v0/3'")
    page.wait("document.querySelector('#differences')?.innerText.includes('scale_ovr')")


@in_browser
def test_a_link_of_the_report_opens_its_segment(page, served):
    """Once the page is open in a browser, an address with a segment shows that segment."""
    base = served.address.partition("/?")[0]
    page.open(base + "/?" + segment_address("v0", 3).partition("?")[2])
    page.wait("document.querySelector('#player')?.duration == 0.5")
    assert page.run("document.querySelector('#segment-name').value") == "v0/3"


@in_browser
def test_a_segment_without_audio_says_so_in_one_sentence(page):
    """Without its tar a segment still shows its texts and signals."""
    open_tab(page, "One segment")
    page.type("#segment-name", "v5/3")
    page.wait("document.querySelector('#no-audio')?.innerText.includes(\"'v5.tar' does not exist\")")
    page.type("#segment-name", "nosuch/1")
    page.wait("document.querySelector('#segment-message').innerText.includes('no segment is of video')")


@in_browser
def test_a_moved_limit_shows_the_hours_at_once(page):
    """Raising the limit of a rejecting rule loses hours, and the page's counts follow."""
    open_tab(page, "Limits")
    page.wait("document.querySelector('#kept-hours').innerText.includes('+0.00 h')")
    left, y, width = middle_of(page, "document.querySelector('.rule [role=slider]')")
    page.drag([left + width / 2, y], [left + width / 2 + 150, y])
    page.wait("document.querySelector('#kept-hours').innerText.includes('-0.')")
    page.click("#reset-rules")
    page.wait("document.querySelector('#kept-hours').innerText.includes('+0.00 h')")


@in_browser
def test_every_page_fills_without_an_error_and_without_the_network(page, served):
    """Each tab shows rows, the browser reports no error, and every request goes to this server."""
    served.context.reviews.add(Review("v1", 0, "segments/000000", "reject"))
    tabs = {
        "Compare rules": "changed",
        "Videos, speakers, workers, days": "groups",
        "Words and characters": "words-table",
        "Compare revisions": "revised",
        "Reviews": "reviews-table",
    }
    for label, table in tabs.items():
        open_tab(page, label)
        page.wait(f"document.querySelectorAll('#{table} .ag-row').length > 0")
    assert page.problems == []
    base = served.address.partition("/?")[0]
    assert [each for each in page.requests if not each.startswith((base, "data:", "blob:"))] == []


@pytest.mark.parametrize("path", ["/", "/?token=wrong", "/audio?video_id=v0&segment=segments/000000", "/_dash-layout"])
@pytest.mark.attack
def test_a_request_without_the_token_is_refused(served, path):
    """Another user of the machine, and a page of another site, see nothing."""
    base = served.address.partition("/?")[0]
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(base + path, timeout=20)
    assert refused.value.code == 403
    refused.value.close()


@pytest.mark.attack
def test_a_request_under_another_name_is_refused(served):
    """A site whose name resolves to this machine is refused even with the token."""
    request = urllib.request.Request(served.address, headers={"Host": "evil.example:80"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=20)
    assert refused.value.code == 403
    refused.value.close()


def test_a_saved_rules_file_has_the_moved_limit_and_no_other_change(served):
    """What the page saves, `vfleet select` reads."""
    from validation.analysis.explore.limits_page import _set_limits, render_edited_rules

    places = [{"rule": 0, "condition": 0}, {"rule": 1, "condition": 0}]
    edited = _set_limits(served.context, served.context.rules, places, [2.5, 0.5])
    read = parse_rules(render_edited_rules(served.context, edited, "mine-1"), file="edited.toml")
    assert [rule.when[0].value for rule in read.rules] == [2.5, 0.5]
    assert read.version == "mine-1"
    assert read.rules[1] == served.context.rules.rules[1]

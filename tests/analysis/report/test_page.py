"""The report page as `vfleet report` writes it, checked in a real browser."""

import json
import re
import resource
import subprocess
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import av
import numpy as np
import pytest

from tests.support.browser import CHROMIUM, in_browser
from tests.support.hostile_words import HOSTILE_WORDS
from tests.support.ledger_helpers import fetch
from tests.support.report_helpers import MODELS, RULES_TOML, make_row, sample_rows, write_shards, write_tar
from validation.analysis.charts.svg import DARK, LIGHT
from validation.cli.main import main
from validation.ledger.canaries import KnownAnswer, insert_canaries
from validation.ledger.engine import open_engine
from validation.worker.chunk.context import run_chunk

PROBE = """<script>
const sounds = [...document.querySelectorAll('audio')];
const ready = sounds.map(a => a.readyState ? 0 : new Promise(done => { a.onloadedmetadata = a.onerror = done }));
Promise.all(ready).then(() => document.body.dataset.seen = JSON.stringify({
    overflows: document.documentElement.scrollWidth > innerWidth,
    sounds: sounds.map(a => a.duration),
    pictures: [...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect().height > 40),
}))
</script>"""


def vfleet(*arguments, **environment) -> int:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def rules_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("rules") / "sample.toml"
    path.write_text(RULES_TOML)
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory, rules_file):
    """The page of the sample rows. The source has the tar of one video only."""
    folder = tmp_path_factory.mktemp("page")
    write_shards(folder / "results", sample_rows())
    (folder / "source").mkdir()
    write_tar(folder / "source", "v0", 20)
    source = f"file://{folder / 'source'}"
    out = folder / "report.html"
    assert vfleet("report", out, "--shards", folder / "results", "--rules", rules_file, VFLEET_SOURCE_URL=source) == 0
    return out


class Reader(HTMLParser):
    """Collects the URLs that a page loads, those that it links to, and the elements that are not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attributes):
        found = self.links if tag == "a" else self.loads
        found += [value for name, value in attributes if name in {"src", "href", "srcset"}]
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        """An element of SVG that closes itself."""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_well_formed_and_loads_nothing(page):
    """The page is well-formed, loads no URL, names its origin, and escapes text."""
    html = page.read_text()
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    assert all(address.startswith("data:audio/flac;base64,") for address in reader.loads)
    assert "http://127.0.0.1:8653/?segment=v0%2F0" in reader.links
    assert all(address.startswith("http://127.0.0.1:8653/?segment=v") for address in reader.links)
    assert "url(" not in html
    assert "<script" not in html
    for shown in ("suite sample", "sample-1", *MODELS, "r1", "noisy", "It says &lt;something&gt; else.", "undecodable"):
        assert shown in html
    assert "words 0 &lt;of&gt; v0" in html
    assert "No audio:" in html  # for the videos whose tar is missing
    assert re.search(r"<del>words \d+ &lt;of&gt; v\d+</del> <ins>what was heard</ins>", html)
    assert re.search(r'class="verdict reject">reject</span>\s+\d+: It is noise', html)


@in_browser
@pytest.mark.parametrize(("scheme", "palette"), [(1, LIGHT), (0, DARK)], ids=["light", "dark"])
def test_page_follows_light_and_dark_mode(page, tmp_path, scheme, palette):
    """Each mode shows the colours of its palette."""
    screenshot = tmp_path / "page.png"
    browse(page, tmp_path, f"--screenshot={screenshot}", f"--blink-settings=preferredColorScheme={scheme}")
    pixels = next(av.open(screenshot).decode(video=0)).to_ndarray(format="rgb24").reshape(-1, 3)
    for name in ("paper", "raised", "accept", "review", "reject"):
        assert count_pixels(pixels, palette[name]) > 200, name


@in_browser
def test_page_fits_its_window_and_plays_audio(page, tmp_path):
    """Nothing overflows; every chart has a size; every player knows its duration."""
    probed = page.with_name("probed.html")
    probed.write_text(allow_scripts(page.read_text()).replace("</body>", f"{PROBE}</body>"))
    dom = browse(probed, tmp_path, "--dump-dom", "--virtual-time-budget=10000")
    seen = json.loads(re.search(r'data-seen="([^"]*)"', dom)[1].replace("&quot;", '"'))
    assert not seen["overflows"]
    assert seen["pictures"]
    assert all(seen["pictures"])
    assert seen["sounds"]
    assert all(duration == pytest.approx(0.5, abs=0.01) for duration in seen["sounds"])


def allow_scripts(html: str) -> str:
    """The page without its own prohibition of scripts and requests, so that only its escapes protect it."""
    permitted = html.replace("default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:", "")
    assert permitted != html
    return permitted


@in_browser
def test_hostile_words_run_no_script_and_request_nothing(tmp_path, rules_file):
    """Labels, ids, names, transcripts and heard texts are shown as text, with the page's prohibition and without."""
    requests = []

    class Trap(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_error(404)

    with ThreadingHTTPServer(("127.0.0.1", 0), Trap) as trap:
        Thread(target=trap.serve_forever).start()
        address = f"http://127.0.0.1:{trap.server_port}"
        script = "document.body.dataset.owned=1"
        words = [
            *(word[:300] for word in HOSTILE_WORDS.values() if word.isascii()), f"<script>{script}</script>",
            f"<img src={address}/image onerror={script}>", f"</text></svg><svg onload={script}>",
            f"</style><style>@import '{address}/style'", f"'\"><iframe src={address}/frame>",
            f"<audio src={address}/audio>", f"![]({address}/markdown)",
        ]  # fmt: skip
        rows = [
            make_row(f"{n:02d}{word}", 0, language=word, ovr=1.0, text=word, ear_text=word, ear_language=word,
                     segment=word or "s", speaker=word)
            for n, word in enumerate(words)
        ]  # fmt: skip
        write_shards(tmp_path / "results", rows)
        out = tmp_path / "report.html"
        options = ["--shards", tmp_path / "results", "--rules", rules_file, "--silent", "--worst", len(rows)]
        assert vfleet("report", out, *options) == 0
        for html in (out.read_text(), allow_scripts(out.read_text())):
            out.write_text(html)
            dom = browse(out, tmp_path, "--dump-dom", "--virtual-time-budget=3000")
            assert "data-owned" not in dom
            assert "&lt;script&gt;document.body" in dom
            assert not re.search(r'<(script|img|iframe|a(?! href="http://127\.0\.0\.1:8653/\?segment=)) ', dom)
        trap.shutdown()
    assert requests == []


def browse(page, folder, *options) -> str:
    assert CHROMIUM is not None, "no Chromium on this machine, and in CI the page must be rendered"
    profile = folder / "profile"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
               "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
               f"--user-data-dir={profile}", "--window-size=1280,2400", *options, page.as_uri()]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def count_pixels(pixels, colour: str) -> int:
    return int(np.all(pixels == [int(colour[n : n + 2], 16) for n in (1, 3, 5)], axis=1).sum())


def test_report_without_shards_is_refused(ledger, tmp_path, capsys):
    """If no shard is committed or in the folder, the command prints one sentence, exits with 2 and writes no page."""
    (tmp_path / "empty").mkdir()
    url = ledger.url.render_as_string(hide_password=False)
    for arguments, environment, says in (
        (["--shards", tmp_path / "empty"], {}, "holds no shard"),
        ([], {"DATABASE_URL": url, "VFLEET_RESULTS_URL": "file:///tmp"}, "no committed shard"),
    ):
        assert vfleet("report", tmp_path / "out.html", *arguments, **environment) == 2
        assert says in capsys.readouterr().err
        assert not (tmp_path / "out.html").exists()
    open_engine(url).dispose()


def test_report_over_canaries_only_is_refused(box, tmp_path, capsys):
    """Rows of canaries are not counted, even if their shard is committed: one sentence, exit code 2, and no page."""
    insert_canaries(box.engine, "tiny", {"ear": "1"}, {"a": (KnownAnswer("accept", {}),) * 2}, basis={})
    box.add_videos("a")
    run_chunk(box.context)
    assert vfleet("report", tmp_path / "out.html", "--suite", "tiny", "--rules", write_tiny_rules(tmp_path)) == 2
    assert "suite tiny has no segment in a committed shard yet" in capsys.readouterr().err
    assert not (tmp_path / "out.html").exists()
    open_engine(box.environment["DATABASE_URL"]).dispose()


def write_tiny_rules(folder):
    """Rules of the tests' suite that accept every segment with an answer."""
    rules = folder / "tiny.toml"
    rules.write_text('version = "tiny-1"\nrequired_models = ["ear"]\nrules = []\n')
    return rules


def test_foreign_or_damaged_shard_is_refused_by_name(tmp_path, rules_file, capsys):
    """The error names the file: it is no shard, or its bytes differ from the manifest."""
    write_shards(tmp_path, [make_row("a", 0)])
    (shard,) = tmp_path.rglob("*.parquet")
    good = shard.read_bytes()
    for payload in (b"PAR1 not parquet PAR1", good[:-60] + bytes(60)):
        shard.write_bytes(payload)
        assert vfleet("report", tmp_path / "out.html", "--shards", tmp_path, "--rules", rules_file) != 0
        assert shard.name in capsys.readouterr().err


def test_full_disk_keeps_the_previous_page(tmp_path, rules_file, capsys):
    """If the disk is full, the previous page stays, and the error names the file."""
    write_shards(tmp_path / "results", [make_row("a", 0)])
    out = tmp_path / "report.html"
    out.write_text("older")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        code = vfleet("report", out, "--shards", tmp_path / "results", "--rules", rules_file, "--silent")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (code, out.read_text()) == (2, "older")
    assert f"{out} cannot be written: File too large" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "results"]


def test_report_reads_the_shards_that_the_ledger_lists(box, tmp_path):
    """A committed chunk's shard is read from the object store."""
    box.add_videos("one", "two")
    run_chunk(box.context)
    assert vfleet("report", tmp_path / "out.html", "--suite", "tiny", "--rules", write_tiny_rules(tmp_path)) == 0
    html = (tmp_path / "out.html").read_text()
    assert "From 1 committed shard." in html
    assert "ear_peak" in html
    assert "Loudest sample." in html
    assert html.count("<audio") == 0  # no segment is rejected or borderline
    (tally,) = fetch(box.engine, "SELECT audio_s, segments_accepted FROM validation_chunks")
    assert tuple(tally) == (2.0, 4)
    open_engine(box.environment["DATABASE_URL"]).dispose()

"""The page: one HTML file with everything in it, legible in light and in dark, that needs no server and no script."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from html import escape
from importlib.resources import files

from validation.analysis.charts.histogram import draw_histogram
from validation.analysis.charts.numbers import format_count, format_rate, format_share
from validation.analysis.charts.style import FONT, SHAPES_CSS, palette_css
from validation.analysis.charts.svg import tag
from validation.analysis.report.agreement import write_agreement
from validation.analysis.report.audio_samples import Place
from validation.analysis.report.canaries import write_canaries
from validation.analysis.report.distributions import describe_distribution
from validation.analysis.report.findings import VERDICTS, Findings, Row
from validation.analysis.report.segments import write_segments
from validation.analysis.report.signals import Signal
from validation.analysis.report.tables import draw_bar, format_hour_count, table
from validation.canaries.evaluate import CanaryTally
from validation.domain import Fault
from validation.scoring.verdict import Rules

CSS = (files("validation.analysis.report") / "page.css").read_text()


@dataclass(frozen=True, slots=True)
class Origin:
    """What the numbers depend on."""

    suite: str
    models: Mapping[str, str]
    """Revisions by model; of several, the newest."""
    layers: int
    """How many sets of revisions were joined."""
    shards: int
    rules: Rules
    written_at: datetime


def write_page(
    origin: Origin,
    findings: Findings,
    signals: list[Signal],
    audio: Mapping[Place, str | Fault],
    canaries: CanaryTally | None = None,
) -> str:
    """Write the page of a suite.

    ``audio`` has what the shown segments sound like, as far as it was fetched; ``canaries`` is None where no ledger
    was asked.
    """
    title = f"Validation by suite {origin.suite}"
    head = tag(
        "head",
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{escape(title)}</title><style>{palette_css()}:root{{--font:{FONT}}}{CSS}{SHAPES_CSS}</style>",
    )
    trust = write_canaries(canaries) if canaries else ()
    main = tag("main", *_sections(title, origin, findings, signals, audio), *trust)
    return f'<!doctype html>\n<html lang="en">{head}<body>{main}</body></html>\n'


def _sections(
    title: str, origin: Origin, findings: Findings, signals: list[Signal], audio: Mapping[Place, str | Fault]
) -> Iterator[str]:
    yield tag("h1", escape(title))
    yield tag("p", _describe_origin(origin), class_="lead")
    yield _write_figures(findings)
    yield tag("h2", "Verdicts by language")
    yield _KEY + tag("div", _write_languages(findings), class_="card scroll")
    yield tag("h2", "Reasons against acceptance")
    yield tag("p", "A segment may have several. “Alone” is what lifting this one rule would win.", class_="lead")
    yield tag("div", _write_reasons(findings, origin.rules), class_="card scroll")
    yield tag("h2", "Agreement between the models")
    yield write_agreement(findings, origin.rules)
    yield tag("h2", "Distributions")
    yield tag("p", _HOW_TO_READ, class_="lead") + _KEY
    yield tag("div", *_write_signals(findings, signals, origin.rules), class_="signals")
    yield tag("h2", "The worst")
    yield tag("p", "For each reason that comes first, the segments furthest from acceptance.", class_="lead")
    yield write_segments(findings.worst, origin.rules, audio)
    yield tag("h2", "The borderline")
    yield tag("p", _HOW_NEAR, class_="lead")
    yield write_segments(findings.borderline, origin.rules, audio)


_KEY = tag("div", *(tag("span", f'<i class="{verdict}"></i>', verdict) for verdict in VERDICTS), class_="key")
_HOW_TO_READ = (
    "All segments that have the signal, stacked by verdict; dashed lines are limits that rules draw. Below, by "
    "language: the line spans the middle 90 % of segments, the box the middle half, the tick is the median. Values "
    "beyond the axis are in its outermost bars."
)
_HOW_NEAR = (
    "The segments whose verdict hangs by the least. One is the way from a limit to the signal's median: +0.1 would be "
    "accepted if a signal moved by a tenth of that, -0.1 would not be any more."
)


def _describe_origin(origin: Origin) -> str:
    models = ", ".join(f"{escape(model)} <code>{escape(rev)}</code>" for model, rev in origin.models.items())
    joined = f", {origin.layers} sets of revisions joined, the newest answer counting" if origin.layers > 1 else ""
    return (
        f"From {origin.shards:,} committed shard{'s' if origin.shards > 1 else ''}{joined}. Models: {models}. "
        f"Rules: <code>{escape(origin.rules.version)}</code>. Written {origin.written_at:%d %B %Y, %H:%M} UTC."
    )


def _write_figures(findings: Findings) -> str:
    total, segments = findings.hours(), findings.segments
    cards = [("", format_hour_count(total), f"of audio in {format_count(segments)} segments")]
    for verdict, said in zip(VERDICTS, ("accepted", "for review", "rejected"), strict=True):
        count = sum(row[verdict] for row in findings.languages)
        cards.append((verdict, format_share(count / segments), f"{said}: {format_hour_count(findings.hours(verdict))}"))
    return tag("div", *(_figure(*card) for card in cards), class_="figures")


def _figure(kind: str, number: str, caption: str) -> str:
    return tag("div", tag("b", number), tag("span", caption), class_=f"card figure {kind}".strip())


def _write_languages(findings: Findings) -> str:
    def cells(row: Row) -> Iterator[str]:
        yield escape(row["language"])
        yield draw_bar([(verdict, row[verdict]) for verdict in VERDICTS], row["segments"])
        yield format_share(row["accept"] / row["segments"])
        yield format_count(row["segments"])
        yield format_hour_count(row["hours"])
        yield format_hour_count(row["accept_hours"])

    header = ["language", "", "accepted", "segments", "audio", "accepted audio"]
    return table(header, map(cells, findings.languages), numbers_from=2)


def _write_reasons(findings: Findings, rules: Rules) -> str:
    sentences = {rule.reason: rule.sentence for rule in reversed(rules.effective)}
    most = max((reason.segments for reason in findings.reasons), default=1)
    rows = [
        [
            f"<b>{escape(reason.reason)}</b><br><span class=small>{escape(sentences.get(reason.reason, ''))}</span>",
            draw_bar([("blue", reason.segments)], most),
            format_count(reason.segments),
            format_share(reason.segments / findings.segments),
            format_hour_count(reason.hours),
            format_hour_count(reason.hours_alone),
        ]
        for reason in findings.reasons
    ]
    if not rows:
        return tag("p", "There is none: every segment is accepted.")
    return table(["reason", "", "segments", "share", "audio", "alone"], rows, numbers_from=2)


def _write_signals(findings: Findings, signals: list[Signal], rules: Rules) -> Iterator[str]:
    languages = [row["language"] for row in findings.languages]
    for signal in signals:
        counts = findings.histograms[signal.name]
        chart = describe_distribution(signal, counts, rules, languages)
        known = counts["count"].sum() / findings.segments
        unit = f" <span class=small>{escape(signal.unit)}</span>" if signal.unit else ""
        note = f"{escape(signal.description)} Known of {format_share(known)}, median {format_rate(signal.usual)}."
        picture = draw_histogram(chart)
        yield tag("div", tag("h3", escape(signal.name), unit), tag("p", note), picture, class_="card")

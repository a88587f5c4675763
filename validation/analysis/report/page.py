"""Write the report as one HTML file. The file embeds its styles and audio, and needs no server and no script.

The markup is in ``templates/``; this module computes what the templates show. Jinja2 escapes every value.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeAlias

import soundfile
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from obstore.store import ObjectStore

from validation.analysis.charts.histogram import draw_histogram
from validation.analysis.charts.numbers import UNKNOWN, format_count, format_duration, format_rate, format_share
from validation.analysis.charts.svg import FONT, SHAPES_CSS, palette_css
from validation.analysis.report.findings import Findings, Row
from validation.analysis.report.rule_margin import MARGIN
from validation.analysis.report.signals import VERDICTS, Signal, describe_distribution
from validation.analysis.segment_address import segment_address
from validation.analysis.word_diff import diff_words
from validation.canaries.evaluate import CanaryTally
from validation.corpus.fetch import fetch_video
from validation.domain import SAMPLE_RATE, Fault, Seconds, Video, Waveform
from validation.errors import FleetError
from validation.escape import plain_text
from validation.scoring.verdict import Condition, Rules

MAX_SAMPLE_S: Seconds = 30.0
"""The page holds at most the first 30 s of a segment. 30 s of audio add about half a megabyte to the page."""

SegmentKey: TypeAlias = tuple[str, str]
"""A video's id and a segment's name."""


def fetch_audio(
    rows: Iterable[Mapping[str, Any]], store: ObjectStore, source_key: str
) -> dict[SegmentKey, str | Fault]:
    """Fetch the first 30 s of some segments as data URIs. Each video's tar is read once.

    Args:
        rows: one mapping per segment, with the keys ``video_id`` and ``segment``.
        store: the object store that holds the tars.
        source_key: the template of a tar's key, with the placeholder ``{video_id}``.

    Returns:
        For each segment, its audio as a FLAC data URI, or a fault if the audio could not be read. FLAC is lossless, so
        noise and clipping stay audible.
    """
    keys = sorted({(row["video_id"], row["segment"]) for row in rows})
    samples: dict[SegmentKey, str | Fault] = {}
    for video_id, group in groupby(keys, key=itemgetter(0)):
        audio = _fetch_segments(video_id, store, source_key.format(video_id=video_id))
        missing = audio if isinstance(audio, Fault) else Fault("no_segment", "the tar no longer holds this segment")
        for key in group:
            found = missing if isinstance(audio, Fault) else audio.get(key[1], missing)
            samples[key] = found if isinstance(found, Fault) else encode_audio(found)
    return samples


def encode_audio(samples: Waveform) -> str:
    """Encode the first 30 s of the samples as a FLAC data URI."""
    flac = BytesIO()
    soundfile.write(flac, samples[: int(MAX_SAMPLE_S * SAMPLE_RATE)], SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return f"data:audio/flac;base64,{b64encode(flac.getvalue()).decode()}"


def _fetch_segments(video_id: str, store: ObjectStore, key: str) -> dict[str, Waveform | Fault] | Fault:
    """Return the audio or the fault of each segment of a video by name, or a fault if the video cannot be read."""
    try:
        decoded = fetch_video(store, key, Video(video_id, None, None))
    except FleetError as error:
        return Fault("not_fetched", str(error))
    return {segment.segment.name: segment.audio for segment in decoded.segments}


VOTE_COLOURS = {"agrees": "accept", "differs": "reject", "abstains": "review", "unscored": "muted"}
"""The four votes of a LID model on the declared language, with the names of their colours in ``palette_css``."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The suite, models, shards and rules from which the numbers of the page were computed."""

    suite: str
    models: Mapping[str, str]
    """The newest revision of each model, by the model's name."""
    revisions: int
    """Number of suite revisions whose results were joined."""
    shards: int
    rules: Rules
    written_at: datetime


def render_report(
    origin: Origin,
    findings: Findings,
    signals: list[Signal],
    audio: Mapping[SegmentKey, str | Fault],
    canaries: CanaryTally | None = None,
) -> str:
    """Return the HTML page of a suite.

    Args:
        origin: the suite, models, shards and rules behind the numbers.
        findings: the aggregates of ``gather_findings``.
        signals: the signals to draw, from ``find_signals``.
        audio: the audio of the shown segments, from ``fetch_audio``. A segment without an entry has no player.
        canaries: the canaries' results; None if no ledger was read.
    """
    return _environment().get_template("page.html.j2").render(
        origin=origin,
        findings=findings,
        lid_votes=_sort_votes(findings),
        correlations=list(_correlation_rows(findings)),
        charts=list(_draw_signals(findings, signals, origin.rules)),
        worst=[_describe_segment(row, origin.rules, audio) for row in findings.worst],
        borderline=[_describe_segment(row, origin.rules, audio) for row in findings.borderline],
        canaries=canaries if canaries and canaries.planted else None,
        verdicts=VERDICTS,
        vote_colours=VOTE_COLOURS,
        palette=f"{palette_css()}:root{{--font:{FONT}}}",
        shapes=SHAPES_CSS,
    )  # fmt: skip


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("validation.analysis.report"),
        autoescape=True,
        finalize=_make_visible,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "format_count": format_count,
        "format_hours": format_hours,
        "format_rate": format_rate,
        "format_share": format_share,
    }
    return environment


def _make_visible(value: object) -> object:
    """Escape the control characters of a plain string. ``Markup`` and values of other types are returned unchanged."""
    return value if not isinstance(value, str) or isinstance(value, Markup) else plain_text(value, max_chars=None)


def format_hours(hours: float) -> str:
    """Format a duration in hours, or in minutes and seconds if it is shorter than one hour."""
    return format_duration(hours * 3600) if hours < 1 else f"{format_rate(hours)} h"


def _sort_votes(findings: Findings) -> list[Row]:
    """Return the LID votes in the order of the languages, then of the models."""
    order = {row["language"]: number for number, row in enumerate(findings.languages)}
    return sorted(findings.lid_votes, key=lambda row: (order[row["language"]], row["model"]))


def _correlation_rows(findings: Findings) -> Iterator[tuple[str, list[float | None]]]:
    """Yield each signal with its row of the lower triangle of the correlation matrix. The first row is empty."""
    names = list(dict.fromkeys(name for pair in findings.correlations for name in pair))
    known = {frozenset(pair): r for pair, r in findings.correlations.items()}
    for number, name in enumerate(names):
        yield name, [known[frozenset((name, other))] for other in names[:number]]


def _draw_signals(findings: Findings, signals: list[Signal], rules: Rules) -> Iterator[dict[str, Any]]:
    """Yield per signal the chart of its distribution, and the share of segments that have the signal."""
    languages = [row["language"] for row in findings.languages]
    for signal in signals:
        counts = findings.histograms[signal.name]
        yield {
            "signal": signal,
            "known_share": counts["count"].sum() / findings.segments,
            "svg": draw_histogram(describe_distribution(signal, counts, rules, languages)),
        }


def _describe_segment(row: Row, rules: Rules, audio: Mapping[SegmentKey, str | Fault]) -> dict[str, Any]:
    """Return the values that the card of a segment shows."""
    sample = audio.get((row["video_id"], row["segment"]))
    return {
        "row": row,
        "address": segment_address(row["video_id"], row["segment_index"]),
        "margin": _format_margin(row[MARGIN]),
        "sample": None if isinstance(sample, Fault) else sample,
        "no_sample": sample.message if isinstance(sample, Fault) else None,
        "heard": [
            (name.removesuffix("_text"), list(diff_words(row["text"], row[name])))
            for name in row
            if name.endswith("_text") and row[name] is not None
        ],
        "details": list(_segment_details(row, rules)),
    }


def _format_margin(margin: float) -> str:
    """Format a margin with its sign; an infinite margin is an empty text."""
    return "" if margin in {float("inf"), float("-inf")} else f"{margin:+.2f}".replace("-", "−")


def _segment_details(row: Row, rules: Rules) -> Iterator[tuple[str, str]]:
    """Yield pairs of a name and a text: language and length, reasons, and the comparisons of the rules that fire."""
    yield "language", f"{row['language'] or UNKNOWN}, {format_rate(row['duration_s'])} s"
    if row["reasons"]:
        yield "because", ", ".join(row["reasons"])
    fired = [rule for rule in rules.effective if rule.reason in row["reasons"] and rule.matches(row)]
    for condition in dict.fromkeys(condition for rule in fired for condition in rule.when):
        if condition.op not in {"missing", "present"}:
            yield condition.column, _format_condition(condition, row[condition.column])


def _format_condition(condition: Condition, value: object) -> str:
    written = format_rate(value) if isinstance(value, int | float) else repr(value)
    return f"{written} ({condition.op} {condition.value})"

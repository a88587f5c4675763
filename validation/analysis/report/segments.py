"""Segments to read and to hear."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from validation.analysis.charts.numbers import UNKNOWN, format_rate
from validation.analysis.charts.svg import tag
from validation.analysis.report.audio_samples import Place
from validation.analysis.report.findings import Row
from validation.analysis.report.rule_margin import DOUBT
from validation.domain import Fault
from validation.scoring.verdict import Condition, Rules


def write_segments(rows: Sequence[Row], rules: Rules, audio: Mapping[Place, str | Fault]) -> str:
    """Write a card a segment; one without sound says why."""
    if not rows:
        return tag("p", "There is none.")
    return tag("div", *(_write_segment(row, rules, audio) for row in rows), class_="segments")


def _write_segment(row: Row, rules: Rules, audio: Mapping[Place, str | Fault]) -> str:
    name = f"{row['video_id']}/{row['segment']}"
    header = tag(
        "header", tag("h3", escape(name)), tag("span", escape(_say_verdict(row)), class_=f"verdict {row['verdict']}")
    )
    details = [tag("dt", escape(key)) + tag("dd", escape(value)) for key, value in _details(row, rules)]
    sound = _write_player(audio.get((row["video_id"], row["segment"])))
    text = tag("q", escape(row["text"]) or "&nbsp;", lang=row["language_code"])
    return tag("article", header, sound, text, tag("dl", *details), class_="card segment")


def _say_verdict(row: Row) -> str:
    margin = row[DOUBT]
    near = "" if margin in {float("inf"), float("-inf")} else f" {margin:+.2f}".replace("-", "−")
    return f"{row['verdict']}{near}"


def _write_player(sound: str | Fault | None) -> str:
    match sound:
        case str():
            return tag("audio", "", controls="", preload="metadata", src=sound)
        case Fault():
            return tag("p", escape(f"No audio: {sound.message}"), class_="small")
        case None:
            return ""


def _details(row: Row, rules: Rules) -> Iterator[tuple[str, str]]:
    """What decides: the reasons, the comparisons that made them, and what was heard."""
    for name in row:
        if name.endswith("_text") and row[name] is not None:
            yield f"{name.removesuffix('_text')} heard", row[name] or UNKNOWN
    yield "language", f"{row['language'] or UNKNOWN}, {format_rate(row['duration_s'])} s"
    if row["reasons"]:
        yield "because", ", ".join(row["reasons"])
    told = {
        c: None for rule in rules.effective if rule.reason in row["reasons"] and rule.matches(row) for c in rule.when
    }
    for condition in told:
        if condition.op not in {"missing", "present"}:
            yield condition.column, _say_condition(condition, row)


def _say_condition(condition: Condition, row: Row) -> str:
    value = row[condition.column]
    said = format_rate(value) if isinstance(value, int | float) else repr(value)
    return f"{said} ({condition.op} {condition.value})"

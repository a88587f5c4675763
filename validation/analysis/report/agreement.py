"""Do the models agree, with the declared language and with each other?"""

from collections.abc import Iterator
from html import escape

from validation.analysis.charts.numbers import format_count, format_share
from validation.analysis.charts.svg import tag
from validation.analysis.report.findings import Findings, Row
from validation.analysis.report.tables import draw_bar, table
from validation.scoring.verdict import Rules

VOTE_COLOURS = {"agrees": "accept", "differs": "reject", "abstains": "review", "silent": "muted"}
"""What a judge may say of the declared language, with its colour."""


def write_agreement(findings: Findings, rules: Rules) -> str:
    """Set judges against the declared language and each other, and show how signals go together."""
    cards = [_write_judges(findings), _write_pairs(findings) + _write_confusions(findings)]
    drawn = [tag("div", card, class_="card scroll") for card in cards if card]
    heat = _write_heat(findings, rules)
    return tag("div", *drawn, *([tag("div", heat, class_="card scroll wide")] if heat else []), class_="two")


def _write_judges(findings: Findings) -> str:
    if not findings.judges:
        return ""

    def cells(row: Row) -> Iterator[str]:
        known = row["agrees"] + row["differs"]
        yield escape(row["language"])
        yield escape(row["judge"])
        yield draw_bar(
            [(colour, row[stance]) for stance, colour in VOTE_COLOURS.items()], sum(row[s] for s in VOTE_COLOURS)
        )
        yield format_share(row["agrees"] / known if known else None)

    order = {row["language"]: place for place, row in enumerate(findings.languages)}
    rows = sorted(findings.judges, key=lambda row: (order[row["language"]], row["judge"]))
    key = tag("div", *(tag("span", f'<i class="{c}"></i>', s) for s, c in VOTE_COLOURS.items()), class_="key")
    body = table(["declared", "judge", "", "agrees"], map(cells, rows), numbers_from=3)
    note = tag("p", "A judge that does not know the language abstains; the share is of those that do.", class_="small")
    return tag("h3", "Is it the declared language?") + note + key + body


def _write_pairs(findings: Findings) -> str:
    if not findings.pairs:
        return ""
    rows = [
        [escape(pair["one"]), escape(pair["other"]),
         format_share(pair["same"] / pair["both"] if pair["both"] else None),
         format_count(pair["both"])]
        for pair in findings.pairs
    ]  # fmt: skip
    return tag("h3", "Do two judges hear the same language?") + table(
        ["one", "other", "same", "segments"], rows, numbers_from=2
    )


def _write_confusions(findings: Findings) -> str:
    if not findings.confusions:
        return ""
    rows = [
        [escape(row["judge"]), escape(row["declared"]), escape(row["heard"]), format_count(row["count"])]
        for row in findings.confusions
    ]
    return tag("h3", "Heard instead of the declared language") + table(
        ["judge", "declared", "heard", "segments"], rows, numbers_from=3
    )


def _write_heat(findings: Findings, rules: Rules) -> str:
    """Correlations as a coloured triangle: blue together, red against each other."""
    names = list(dict.fromkeys(name for pair in findings.correlations for name in pair))
    if not names:
        return ""
    known = {frozenset(pair): r for pair, r in findings.correlations.items()}
    head = tag("tr", tag("th", ""), *(tag("th", escape(name)) for name in names[:-1]))
    body = [
        tag("tr", tag("th", escape(name)), *(_shade(known[frozenset((name, other))]) for other in names[:place]))
        for place, name in enumerate(names)
        if place
    ]
    note = f"Pearson’s r of the signals that {escape(rules.version)} reads, over the segments that have both."
    return (
        tag("h3", "Which signals go together?")
        + tag("p", note, class_="small")
        + tag("table", tag("thead", head), tag("tbody", *body), class_="heat")
    )


def _shade(correlation: float | None) -> str:
    if correlation is None:
        return tag("td", "–")
    colour = "blue" if correlation > 0 else "reject"
    strength = round(abs(correlation) * 70)
    style = f"background:color-mix(in srgb, var(--{colour}) {strength}%, transparent)"
    return tag("td", f"{correlation:.1f}".replace("-0.0", "0.0").replace("-", "−"), style=style)

"""Build the page of one segment: audio player, waveform, spectrogram, texts, signals with rules, and review form."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from dash import Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.exceptions import PreventUpdate

from validation.analysis.explore.context import ExploreContext
from validation.analysis.explore.figures import CONFIG, draw_spectrogram, draw_waveform
from validation.analysis.explore.queries import Row
from validation.analysis.explore.reviews import Review
from validation.analysis.explore.word_times import WordTime, estimate_word_times
from validation.analysis.segment_address import read_segment
from validation.analysis.word_diff import diff_words
from validation.domain import SAMPLE_RATE
from validation.errors import BadInput
from validation.scoring.verdict import Rule, Rules

_NOT_SIGNALS = frozenset({"id", "fired", "reasons", "verdict", "stored_reasons"})
"""Columns of a row that the table of signals leaves out."""


def make_segment_page() -> html.Div:
    name = dcc.Input(id="segment-name", type="text", debounce=True, placeholder="VIDEO/SEGMENT", size="44")
    buttons = [
        html.Button("Previous", id="previous", n_clicks=0),
        html.Button("Next", id="next", n_clicks=0),
        html.Span("in its video", className="hint"),
    ]
    return html.Div(
        [
            html.Div([name, *buttons], className="row"),
            html.Div(id="segment-message", className="message"),
            html.Div(id="segment-body"),
            _make_review_form(),
        ]
    )


def _make_review_form() -> html.Div:
    return html.Div(
        [
            html.H2("Your decision"),
            dcc.Textarea(id="corrected", placeholder="The right text, if the stored one is wrong"),
            html.Div(
                [
                    dcc.Input(id="note", type="text", placeholder="Note", size="50"),
                    html.Button("Accept", id="accept", n_clicks=0),
                    html.Button("Reject", id="reject", n_clicks=0),
                    html.Span(id="review-state", className="hint"),
                ],
                className="row",
            ),
        ],
        className="panel",
    )


def add_callbacks(app: Dash, context: ExploreContext) -> None:
    app.callback(
        Output("segment-name", "value"),
        Output("tabs", "value"),
        Input("table", "cellClicked"),
        Input("previous", "n_clicks"),
        Input("next", "n_clicks"),
        State("segment-name", "value"),
        prevent_initial_call=True,
    )(_choose_segment)
    app.callback(
        Output("segment-name", "value", allow_duplicate=True),
        Output("tabs", "value", allow_duplicate=True),
        Input("address", "search"),
        prevent_initial_call="initial_duplicate",
    )(_open_address)

    @app.callback(
        Output("segment-body", "children"),
        Output("segment-message", "children"),
        Output("corrected", "value"),
        Output("note", "value"),
        Input("segment-name", "value"),
        Input("rules", "data"),
        prevent_initial_call=True,
    )
    def show(name: str | None, rules_json: str | None) -> tuple[Any, Any, Any, Any]:
        if not name:
            raise PreventUpdate
        rules = context.read_rules(rules_json)
        try:
            row = context.table.find_segment(name, rules)
        except BadInput as error:
            return [], str(error), "", ""
        review = context.reviews.get(row["video_id"], row["segment_index"])
        return (
            list(_make_body(context, row, rules)),
            "",
            review.corrected_text if review else "",
            review.note if review else "",
        )

    @app.callback(
        Output("review-state", "children"),
        Output("reviewed", "data"),
        Input("accept", "n_clicks"),
        Input("reject", "n_clicks"),
        Input("segment-body", "children"),
        State("segment-name", "value"),
        State("corrected", "value"),
        State("note", "value"),
        State("rules", "data"),
        prevent_initial_call=True,
    )
    def decide(
        _accepts: int, _rejects: int, _body: Any, name: str | None, corrected: str | None, note: str | None, rules: Any
    ) -> tuple[Any, Any]:
        if not name:
            raise PreventUpdate
        try:
            row = context.table.find_segment(name, context.read_rules(rules))
            if ctx.triggered_id in {"accept", "reject"}:
                context.reviews.add(_make_review(row, ctx.triggered_id, corrected, note))
        except BadInput as error:
            return str(error), no_update
        review = context.reviews.get(row["video_id"], row["segment_index"])
        return f"{review.decision} at {review.at}" if review else "not reviewed yet", review.at if review else no_update


def _choose_segment(clicked: Any, _previous: int, _next: int, name: str | None) -> tuple[Any, Any]:
    """Return the segment and the tab to show after a click on a row, on Previous or on Next."""
    if ctx.triggered_id == "table":
        if not clicked or not clicked.get("rowId"):
            raise PreventUpdate
        return clicked["rowId"], "segment"
    video_id, _, segment = (name or "").partition("/")
    if not segment.isdigit():
        raise PreventUpdate
    moved = int(segment) + (1 if ctx.triggered_id == "next" else -1)
    return f"{video_id}/{max(moved, 0)}", no_update


def _open_address(query: str | None) -> tuple[str, str]:
    """Open the segment that the address of the page names, as links of the report do."""
    name = read_segment(query or "")
    if name is None:
        raise PreventUpdate
    return name, "segment"


def _make_review(row: Row, decision: Any, corrected: str | None, note: str | None) -> Review:
    """Return a review decision on the segment in ``row``. Empty inputs of the form are left out."""
    return Review(
        video_id=row["video_id"],
        segment_index=row["segment_index"],
        segment=row["segment"],
        decision=decision,
        language=row["language_code"] or row["language"],
        text=row["text"],
        corrected_text=(corrected or "").strip() or None,
        note=(note or "").strip(),
    )


def _make_body(context: ExploreContext, row: Row, rules: Rules) -> Iterator[Any]:
    """Yield the parts of the page of one segment, from top to bottom."""
    fired = [rule for rule in rules.effective if rule.matches(row)]
    head: list[Any] = [html.Span(row["verdict"], className=f"verdict {row['verdict']}")]
    head += [html.B(f"{row['video_id']}/{row['segment_index']} ({row['segment']})"), html.Span(row["lang"])]
    head += [html.Span(f"{row['duration_s']:.2f} s" if row["duration_s"] is not None else "no audio")]
    yield html.Div(head, className="row")
    yield html.Ul([html.Li(f"{rule.verdict}, {rule.reason}: {rule.sentence}") for rule in fired])
    yield from _show_audio(context, row)
    yield html.H2("Text")
    yield from _show_texts(row)
    yield from _show_differences(context, row)
    yield html.H2("Signals")
    yield _list_signals(context, row, rules)


def _show_audio(context: ExploreContext, row: Row) -> Iterator[Any]:
    samples = context.audio.read(row["video_id"], row["segment"])
    if isinstance(samples, str):
        yield html.P(samples, className="message", id="no-audio")
        return
    address = "/audio?" + urlencode({"video_id": row["video_id"], "segment": row["segment"]})
    yield html.Audio(src=address, controls=True, id="player")
    words = estimate_word_times(row, len(samples) / SAMPLE_RATE)
    yield html.P([_make_word(word) for word in words], id="words", title="Click a word to hear it.")
    yield dcc.Graph(figure=dict(draw_waveform(samples, words)), config=CONFIG)
    yield dcc.Graph(figure=dict(draw_spectrogram(samples)), config=CONFIG)
    yield html.P(
        "Times of words are estimated from their lengths and from where speech begins and ends: shards hold no times "
        "of words. Click a word to hear it.",
        className="hint",
    )


def _make_word(word: WordTime) -> html.Span:
    """Make a word that ``explore.js`` plays on a click and marks while it is played."""
    times: dict[str, Any] = {"data-start": f"{word.start:.3f}", "data-end": f"{word.end:.3f}"}
    return html.Span(word.word + " ", className="word", **times)


def _show_differences(context: ExploreContext, row: Row) -> Iterator[Any]:
    """Show the columns whose values differ from the earlier revision that the page is compared with."""
    if context.revisions is None:
        return
    yield html.H2(f"Compared with revision {context.revisions.revision}")
    found = context.revisions.find_differences(row)
    differences = None if found is None else list(found)
    if not differences:
        absent = "That revision has no answer for this segment." if differences is None else "All answers are equal."
        yield html.P(absent, id="no-differences")
        return
    lines = [html.Tr([html.Th("column"), html.Th("then"), html.Th("now")])]
    lines += [
        html.Tr([html.Td(each.column), html.Td(_format_value(each.earlier)), html.Td(_format_value(each.now))])
        for each in differences
    ]
    yield html.Table(lines, className="differences", id="differences")


def _format_value(value: Any) -> str:
    """Format the value of a column; a float has five significant digits."""
    return f"{value:.5g}" if isinstance(value, float) else "none" if value is None else str(value)


def _show_texts(row: Row) -> Iterator[Any]:
    yield html.P([html.B("stored: "), html.Span(row["text"], id="stored-text")])
    heard = {name: row[name] for name in row if name.endswith("_text") and isinstance(row[name], str)}
    for name, text in heard.items():
        runs = [html.Span(run.words + " ", className=run.kind) for run in diff_words(row["text"], text)]
        yield html.P([html.B(f"{name}: "), text])
        yield html.P(runs, className="diff")
    if heard:
        yield html.P(
            [html.Span("struck out", className="stored"), " is in the stored text only; ",
             html.Span("green", className="heard"), " was heard only."], className="hint diff-key"
        )  # fmt: skip


def _list_signals(context: ExploreContext, row: Row, rules: Rules) -> html.Table:
    """Make the table of a segment's columns, with the rules that read each column."""
    lines = [html.Tr([html.Th("signal"), html.Th("value"), html.Th("rules that read it")])]
    for name, value in row.items():
        if name in _NOT_SIGNALS:
            continue
        unit, description = context.described.get(name, ("", ""))
        reading = [rule for rule in rules.effective if any(condition.column == name for condition in rule.when)]
        shown = _format_value(value)
        lines.append(
            html.Tr(
                [
                    html.Td(name, title=f"{description} ({unit})" if description else ""),
                    html.Td(shown, className="value", title=shown),
                    html.Td([_describe_rule(rule, row) for rule in reading]),
                ]
            )
        )
    return html.Table(lines, className="signals")


def _describe_rule(rule: Rule, row: Row) -> html.Div:
    """Describe the conditions of a rule, and whether the rule fires for the segment."""
    conditions = " and ".join(f"{c.column} {c.op}" + ("" if c.value is None else f" {c.value}") for c in rule.when)
    state = "fires" if rule.matches(row) else ""
    return html.Div(f"{rule.reason} ({rule.verdict}) if {conditions}" + (": fires" if state else ""), className=state)

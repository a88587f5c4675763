"""Build the pages with plain tables: groups, words and characters, comparison of rules, and review decisions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import dash_ag_grid
from dash import Dash, Input, Output, State, dcc, html
from dash.exceptions import PreventUpdate

from validation.analysis.explore.context import ExploreContext
from validation.analysis.explore.queries import GROUPS, Row
from validation.analysis.explore.revisions import RevisionComparison
from validation.errors import BadInput

WORDS, CHARACTERS = "words", "characters"


def make_groups_page() -> html.Div:
    """Make the page with one row per video, speaker, worker, day or language."""
    by = dcc.RadioItems(
        id="group-by",
        value="video_id",
        inline=True,
        options=[{"value": k, "label": f" {v} "} for k, v in GROUPS.items()],
    )
    hint = "The filters of the first page hold here too. Click a row to filter by it."
    return html.Div([html.Div([by, html.Span(hint, className="hint")], className="row"), _make_table("groups")])


def make_words_page(context: ExploreContext) -> html.Div:
    """Make the page that counts the words or the characters of a language."""
    languages = [row.lang for row in context.table.compare_hours(context.rules, context.rules)]
    controls = [
        dcc.RadioItems([WORDS, CHARACTERS], WORDS, id="word-kind", inline=True),
        dcc.Dropdown(languages, languages[0] if languages else None, id="word-language", style={"width": "160px"}),
        dcc.Input(id="word-search", type="text", debounce=True, placeholder="Words that contain"),
    ]
    return html.Div([html.Div(controls, className="row"), _make_table("words-table")])


def make_compare_page(context: ExploreContext) -> html.Div:
    """Make the page that compares the verdicts of the page's rules with those of other rules."""
    names = list(context.other_rules)
    choice = dcc.Dropdown(names, names[0] if names else None, id="other-rules", style={"width": "320px"})
    return html.Div(
        [
            html.Div([html.Span("Compare the rules of this page with"), choice], className="row"),
            html.Div(id="compare-message", className="message"),
            html.Div([html.Div(_make_table("changes"), className="panel"),
                      html.Div(_make_table("hours-table"), className="panel")], className="columns"),
            html.H2("Segments whose verdict differs (the first 200)"),
            _make_table("changed"),
        ]
    )  # fmt: skip


def make_revisions_page(revision: str) -> html.Div:
    """Make the page that compares the present answers with those at an earlier revision."""
    return html.Div(
        [
            html.P(
                f"Both columns of verdicts are by the rules of this page: on the answers as they were at revision "
                f"{revision}, and on the present answers. One segment shows all of its changed columns.",
                className="hint",
            ),
            html.Div(_make_table("revision-changes"), className="panel"),
            html.H2("Segments with another verdict or another heard text (the first 200)"),
            _make_table("revised"),
        ]
    )


def make_reviews_page(context: ExploreContext) -> html.Div:
    """Make the page that lists the review decisions."""
    hint = (
        f"Decisions are appended to {context.reviews.path}; the last one on a segment counts. "
        "`vfleet reviews clips` writes the accepted and corrected segments with their audio, for `vfleet calibrate`."
    )
    buttons = [html.Button("Download as JSON lines", id="save-reviews", n_clicks=0), dcc.Download(id="reviews-file")]
    return html.Div([html.P(hint, className="hint"), html.Div(buttons, className="row"), _make_table("reviews-table")])


def add_callbacks(app: Dash, context: ExploreContext) -> None:
    _add_groups(app, context)
    _add_words(app, context)
    _add_comparison(app, context)
    if context.revisions is not None:
        _add_revisions(app, context, context.revisions)
    _add_reviews(app, context)


def _add_groups(app: Dash, context: ExploreContext) -> None:
    @app.callback(
        *_outputs("groups"),
        Input("group-by", "value"),
        Input("filter", "data"),
        Input("rules", "data"),
        Input("tabs", "value"),
        State("table", "filterModel"),
    )
    def group(by: str, stored: Any, rules_json: Any, tab: str, grid: Any) -> tuple[Any, Any]:
        if tab != "groups":
            return [], []
        try:
            return _contents(context.table.group(by, context.read_filter(stored, grid), context.read_rules(rules_json)))
        except BadInput:  # ``overview`` shows the message above the tabs
            return [], []

    @app.callback(
        Output("filter", "data", allow_duplicate=True),
        Output("tabs", "value", allow_duplicate=True),
        Input("groups", "cellClicked"),
        State("groups", "rowData"),
        State("group-by", "value"),
        State("filter", "data"),
        prevent_initial_call=True,
    )
    def open_group(clicked: Any, rows: Sequence[Row], by: str, stored: Any) -> tuple[Any, str]:
        if not clicked:
            raise PreventUpdate
        row = rows[int(clicked["rowId"])]
        names = ("video_id", "speaker") if by == "speaker" else (by,)
        chosen = {name: [row[name]] for name in names if row[name] is not None}
        stored = {"ranges": {}, "values": {}, "where": ""} | dict(stored or {})
        return stored | {"values": stored["values"] | chosen}, "table-tab"


def _add_words(app: Dash, context: ExploreContext) -> None:
    @app.callback(
        *_outputs("words-table"),
        Input("word-kind", "value"),
        Input("word-language", "value"),
        Input("word-search", "value"),
        Input("tabs", "value"),
    )
    def count(kind: str, lang: str | None, search: str | None, tab: str) -> tuple[Any, Any]:
        if tab != "words":
            return [], []
        if kind == CHARACTERS:
            return _contents(context.table.count_characters(lang))
        return _contents(context.table.count_words(lang, (search or "").strip().casefold()))


def _add_comparison(app: Dash, context: ExploreContext) -> None:
    @app.callback(
        *_outputs("changes"),
        *_outputs("hours-table"),
        *_outputs("changed"),
        Output("compare-message", "children"),
        Input("other-rules", "value"),
        Input("rules", "data"),
        Input("tabs", "value"),
    )
    def compare(name: str | None, rules_json: Any, tab: str) -> tuple[Any, ...]:
        if tab != "compare" or name is None:
            return ([], [], [], [], [], [], "" if context.other_rules else "No other rules fit these segments.")
        rules, other = context.read_rules(rules_json), context.other_rules[name]
        changes = [
            {"this page": after, name: before, "segments": segments, "hours": round(hours, 3)}
            for before, after, segments, hours in context.table.count_changes(rules, other)
        ]
        hours = [
            {"language": row.lang, "hours": round(row.hours, 3), "this page keeps": round(row.kept, 3),
             f"{name} keeps": round(row.kept_before, 3)}
            for row in context.table.compare_hours(rules, other)
        ]  # fmt: skip
        return (
            *_contents(changes),
            *_contents(hours),
            *_contents(context.table.find_changed(rules, other)),
            "",
        )


def _add_revisions(app: Dash, context: ExploreContext, revisions: RevisionComparison) -> None:
    @app.callback(
        *_outputs("revision-changes"),
        *_outputs("revised"),
        Input("rules", "data"),
        Input("tabs", "value"),
    )
    def compare(rules_json: Any, tab: str) -> tuple[Any, ...]:
        if tab != "revisions":
            return [], [], [], []
        rules = context.read_rules(rules_json)
        changes = [
            {f"at {revisions.revision}": each.earlier, "now": each.now, "segments": each.segments,
             "hours": round(each.hours, 3)}
            for each in revisions.count_changes(rules)
        ]  # fmt: skip
        return (*_contents(changes), *_contents(revisions.find_changed(rules)))

    @app.callback(
        Output("segment-name", "value", allow_duplicate=True),
        Output("tabs", "value", allow_duplicate=True),
        Input("revised", "cellClicked"),
        State("revised", "rowData"),
        prevent_initial_call=True,
    )
    def open_revised(clicked: Any, rows: Sequence[Row]) -> tuple[str, str]:
        if not clicked:
            raise PreventUpdate
        row = rows[int(clicked["rowId"])]
        return f"{row['video_id']}/{row['segment_index']}", "segment"


def _add_reviews(app: Dash, context: ExploreContext) -> None:
    @app.callback(*_outputs("reviews-table"), Input("tabs", "value"), Input("reviewed", "data"))
    def list_reviews(_tab: str, _at: Any) -> tuple[Any, Any]:
        return _contents([asdict(review) for review in context.reviews.all()])

    @app.callback(Output("reviews-file", "data"), Input("save-reviews", "n_clicks"), prevent_initial_call=True)
    def save(_clicks: int) -> Any:
        lines = [json.dumps(asdict(review), ensure_ascii=False) + "\n" for review in context.reviews.all()]
        return {"content": "".join(lines), "filename": "reviews.jsonl"}


def _outputs(table: str) -> tuple[Output, Output]:
    """Return the outputs of a callback that sets the rows and the columns of a table."""
    return Output(table, "rowData"), Output(table, "columnDefs")


def _make_table(name: str) -> dash_ag_grid.AgGrid:
    return dash_ag_grid.AgGrid(
        id=name,
        columnDefs=[],
        rowData=[],
        defaultColDef={"sortable": True, "resizable": True, "filter": True, "minWidth": 90},
        dashGridOptions={"rowHeight": 30, "enableCellTextSelection": True, "suppressFieldDotNotation": True},
        style={
            "height": "60vh" if name in {"groups", "words-table", "changed", "revised", "reviews-table"} else "300px"
        },
    )


def _contents(rows: Sequence[Row]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return the rows and the column definitions of an AG Grid table. Lists in cells become comma-separated text."""
    shown: list[Mapping[str, Any]] = [
        {name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in row.items()}
        for row in rows
    ]
    wide = {"text": 320, "corrected_text": 260}
    columns: list[Mapping[str, Any]] = [
        {"field": name, "headerName": name, "flex": 1, "minWidth": wide.get(name, 90),
         "filter": "agNumberColumnFilter" if _is_number(shown, name) else "agTextColumnFilter"}
        for name in (shown[0] if shown else ())
    ]  # fmt: skip
    return shown, columns


def _is_number(rows: Sequence[Row], name: str) -> bool:
    value = next((row[name] for row in rows if row[name] is not None), None)
    return isinstance(value, int | float) and not isinstance(value, bool)

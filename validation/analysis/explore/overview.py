"""Build the first page: bar charts and histograms that set the filter, and the table of segments."""

from collections.abc import Mapping
from typing import Any

import dash_ag_grid
from dash import ALL, ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.exceptions import PreventUpdate

from validation.analysis.explore.context import ExploreContext
from validation.analysis.explore.figures import CONFIG, Figure, draw_counts, draw_histogram
from validation.analysis.explore.queries import Row
from validation.analysis.explore.sql import Filter
from validation.errors import BadInput
from validation.scoring.verdict import Rules

COUNTED = ("verdict", "reasons", "lang", "worker")
"""Columns that have a bar chart with one bar per value."""
_FIRST = ("review_decision", "verdict", "reasons", "lang", "video_id", "segment_index", "duration_s", "text")
"""The first columns of the segment table, in this order."""
_HIDDEN = frozenset({"stored_reasons", "text_normalised", "fired", "language", "language_code"})
"""Columns that the segment table does not show."""
_WIDTHS = {"text": 340, "reasons": 180, "video_id": 140, "segment_index": 110, "verdict": 95, "lang": 80}
"""Widths of columns in pixels."""
_PREFERRED = ("duration_s", "cer", "rms_dbfs", "script_fraction", "chars_per_s")
"""Columns whose histograms are shown at the start, besides those that end with ``_ovr``; at most six in all."""


def make_overview(context: ExploreContext) -> html.Div:
    """Make the first page: the filter, its bar charts and histograms, and the segment table."""
    shown = [name for name in context.table.numbers if name in _PREFERRED or name.endswith("_ovr")][:6]
    picker = dcc.Dropdown(
        options=list(context.table.numbers), value=shown, multi=True, id="shown-columns", placeholder="Columns to draw"
    )
    where = dcc.Input(
        id="where", type="text", debounce=True, placeholder="Filter in SQL, such as: cer > 0.2 AND lang = 'hi'"
    )
    return html.Div(
        [
            html.Div([where, html.Button("Clear filters", id="clear", n_clicks=0)], className="row"),
            html.Div(id="chips", className="chips"),
            html.Div([_graph({"type": "bars", "column": name}) for name in COUNTED], id="counts", className="grid"),
            html.Details([html.Summary("Columns to draw"), picker]),
            html.Div(id="histograms", className="grid"),
            html.P(
                "Drag across a histogram to filter, double-click to clear it. Click a bar to filter by its value. "
                "Dotted lines are limits of rules. Click a row to open the segment.",
                className="hint",
            ),
            _make_table(context),
        ]
    )


def _make_table(context: ExploreContext) -> dash_ag_grid.AgGrid:
    present = [*context.table.columns, "verdict", "reasons", "review_decision"]
    ordered = [name for name in _FIRST if name in present]
    texts = [name for name in present if name.endswith("_text") and name not in ordered]
    ordered += texts + [name for name in present if name not in {*ordered, *texts}]
    return dash_ag_grid.AgGrid(
        id="table",
        rowModelType="infinite",
        columnDefs=[_define_column(context, name) for name in ordered],
        defaultColDef={"sortable": True, "resizable": True, "filter": True, "floatingFilter": True, "minWidth": 70},
        getRowId="params.data.key",
        dashGridOptions={
            "cacheBlockSize": 50,
            "maxBlocksInCache": 40,
            "rowHeight": 30,
            "enableCellTextSelection": True,
        },
        style={"height": "70vh"},
    )


def _define_column(context: ExploreContext, name: str) -> Mapping[str, Any]:
    """Return the AG Grid definition of one column of the segment table."""
    is_number = name in context.table.numbers or context.table.columns.get(name) in {"DOUBLE", "BIGINT"}
    unit, description = context.described.get(name, ("", ""))
    column: dict[str, Any] = {
        "field": name,
        "headerName": name,
        "headerTooltip": f"{description} ({unit})" if description else name,
    }
    column["filter"] = "agNumberColumnFilter" if is_number else "agTextColumnFilter"
    column["width"] = _WIDTHS.get(name, 260 if name.endswith("_text") else 110 if is_number else 130)
    if context.table.columns.get(name) == "DOUBLE":
        column["valueFormatter"] = {"function": "params.value == null ? '' : d3.format('.4~g')(params.value)"}
    if name == "review_decision":
        column |= {"headerName": "reviewed", "sortable": False, "filter": False}
    column["hide"] = name in _HIDDEN
    return column


def add_callbacks(app: Dash, context: ExploreContext) -> None:
    @app.callback(
        Output("filter", "data"),
        Output("where", "value"),
        Input({"type": "brush", "column": ALL}, "relayoutData"),
        Input({"type": "bars", "column": ALL}, "clickData"),
        Input({"type": "chip", "column": ALL}, "n_clicks"),
        Input("where", "value"),
        Input("clear", "n_clicks"),
        State("filter", "data"),
        prevent_initial_call=True,
    )
    def change_filter(
        _brushes: Any, _bars: Any, _chips: Any, where: str | None, _clear: Any, stored: Any
    ) -> tuple[Any, Any]:
        return _change_filter(context, where, stored)

    @app.callback(Output("histograms", "children"), Input("shown-columns", "value"))
    def add_histograms(shown: list[str] | None) -> list[html.Div]:
        return [_graph({"type": "brush", "column": name}) for name in shown or ()]

    @app.callback(
        Output("chips", "children"),
        Output("message", "children"),
        Output({"type": "bars", "column": ALL}, "figure"),
        Output({"type": "brush", "column": ALL}, "figure"),
        Input("filter", "data"),
        Input("table", "filterModel"),
        Input("rules", "data"),
        Input("histograms", "children"),
        State({"type": "brush", "column": ALL}, "id"),
    )
    def draw_charts(stored: Any, grid: Any, rules_json: Any, _placed: Any, ids: list[Any]) -> tuple[Any, Any, Any, Any]:
        rules, chosen = context.read_rules(rules_json), context.read_filter(stored, grid)
        try:
            totals = context.table.count(chosen, rules)
            bars = [_draw_bars(context, name, chosen, rules) for name in COUNTED]
            histograms = [_draw_histogram(context, each["column"], chosen, rules) for each in ids]
        except BadInput as error:
            return no_update, str(error), [no_update] * len(COUNTED), [no_update] * len(ids)
        found = html.B(f"{totals.segments:,} segments, {totals.hours:,.2f} h", id="totals")
        return [found, *_make_chips(stored or {})], "", bars, histograms

    @app.callback(
        Output("table", "getRowsResponse"),
        Input("table", "getRowsRequest"),
        State("filter", "data"),
        State("rules", "data"),
        prevent_initial_call=True,
    )
    def find_rows(request: Any, stored: Any, rules_json: Any) -> Mapping[str, Any]:
        if request is None:
            raise PreventUpdate
        rules, chosen = context.read_rules(rules_json), context.read_filter(stored, request.get("filterModel"))
        start, end = request["startRow"], request["endRow"]
        try:
            rows = context.table.find_rows(chosen, rules, request.get("sortModel") or (), start, end)
        except BadInput:  # ``draw_charts`` shows the message
            return {"rowData": [], "rowCount": 0}
        is_last = len(rows) < end - start
        return {
            "rowData": [_describe_row(context, row) for row in rows],
            "rowCount": start + len(rows) if is_last else None,
        }

    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("explore", "refreshTable"),
        Output("table", "id"),
        Input("filter", "data"),
        Input("rules", "data"),
        Input("reviewed", "data"),
        prevent_initial_call=True,
    )


def _change_filter(context: ExploreContext, where: str | None, stored: Mapping[str, Any] | None) -> tuple[Any, Any]:
    """Apply the user's last action to the stored filter. Return the new filter and the new text of the SQL field."""
    stored = {"ranges": {}, "values": {}, "where": ""} | dict(stored or {})
    changed, value = ctx.triggered_id, ctx.triggered[0]["value"]
    if changed == "clear":
        return {"ranges": {}, "values": {}, "where": ""}, ""
    if changed == "where":
        return stored | {"where": where or ""}, no_update
    if not isinstance(changed, dict) or not value:
        raise PreventUpdate
    name = changed["column"]
    if changed["type"] == "chip":
        ranges = {key: each for key, each in stored["ranges"].items() if key != name}
        values = {key: each for key, each in stored["values"].items() if key != name}
        return stored | {"ranges": ranges, "values": values}, no_update
    if changed["type"] == "bars":
        clicked = value["points"][0]["y"]
        kept = set(stored["values"].get(name, ())) ^ {clicked}
        values = {key: each for key, each in stored["values"].items() if key != name}
        return stored | {"values": values | ({name: sorted(kept)} if kept else {})}, no_update
    ranges = {key: each for key, each in stored["ranges"].items() if key != name}
    if (brushed := _read_brush(value)) is not None:
        ranges[name] = context.table.numbers[name].snap(*brushed)
    elif "xaxis.autorange" not in value and "xaxis.showspikes" not in value:
        raise PreventUpdate
    return stored | {"ranges": ranges}, no_update


def _read_brush(moved: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the brushed range in Plotly's ``relayoutData``; None if the change was not a brush."""
    if "xaxis.range[0]" in moved:
        return float(moved["xaxis.range[0]"]), float(moved["xaxis.range[1]"])
    return (float(moved["xaxis.range"][0]), float(moved["xaxis.range"][1])) if "xaxis.range" in moved else None


def _draw_bars(context: ExploreContext, name: str, chosen: Filter, rules: Rules) -> Figure:
    by_value = context.table.count_values
    found = context.table.count_reasons(chosen, rules) if name == "reasons" else by_value(name, chosen, rules)
    return draw_counts(name, found, list(chosen.values.get(name, ())))


def _draw_histogram(context: ExploreContext, name: str, chosen: Filter, rules: Rules) -> Figure:
    found = context.table.make_histogram(name, chosen, rules)
    return draw_histogram(found, chosen.ranges.get(name), context.limits_of(name, rules))


def _graph(name: Mapping[str, str]) -> html.Div:
    """Make an empty graph. Callbacks replace only its figure, because a new graph would lose the user's next click."""
    return html.Div(dcc.Graph(id=dict(name), figure={"layout": {"height": 150}}, config=CONFIG), className="card")


def _make_chips(stored: Mapping[str, Any]) -> list[html.Button]:
    """Make one button per column with a range or with values in the stored filter. A click on it removes both.

    The SQL condition has no button.
    """
    parts = {name: f"{name}: {low:.4g} to {high:.4g}" for name, (low, high) in (stored.get("ranges") or {}).items()}
    parts |= {name: f"{name}: {', '.join(values)}" for name, values in (stored.get("values") or {}).items()}
    return [
        html.Button(f"{text} ×", id={"type": "chip", "column": name}, n_clicks=0, className="chip")
        for name, text in parts.items()
    ]


def _describe_row(context: ExploreContext, row: Row) -> Row:
    """Return a row as the segment table shows it, with its key and its review decision."""
    review = context.reviews.get(row["video_id"], row["segment_index"])
    shown = {name: ", ".join(value) if isinstance(value, list) else value for name, value in row.items()}
    return shown | {
        "key": f"{row['video_id']}/{row['segment_index']}",
        "review_decision": review.decision if review else None,
    }

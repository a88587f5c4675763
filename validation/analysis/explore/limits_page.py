"""Build the limits page: the user moves limits of rules, sees the kept hours per language, and saves a rules file."""

from collections.abc import Iterator, Sequence
from math import ceil, log10
from typing import Any

from dash import ALL, Dash, Input, Output, State, ctx, dcc, html
from dash.exceptions import PreventUpdate

from validation.analysis.explore.context import ExploreContext
from validation.analysis.explore.figures import CONFIG, draw_hours
from validation.scoring.rules_io import rewrite_rules
from validation.scoring.verdict import Condition, Rule, Rules

_STEPS = 400
"""Approximate maximum number of positions of a slider for a fractional limit."""


def make_limits_page(context: ExploreContext) -> html.Div:
    """Make the page with a slider per limit, the kept hours per language, and a button to save the rules."""
    sliders = [
        each for place, rule in enumerate(context.rules.rules) if (each := _make_rule_panel(context, place, rule))
    ]
    save = html.Div(
        [
            dcc.Input(id="new-version", type="text", value=f"{context.rules.version}-edited", size="24"),
            html.Button("Save as a rules file", id="save-rules", n_clicks=0),
            html.Button("Back to the limits of the file", id="reset-rules", n_clicks=0),
            dcc.Download(id="rules-file"),
        ],
        className="row",
    )
    hint = (
        "The whole page judges by these limits as soon as a slider is moved. `vfleet select --rules FILE` and "
        "`vfleet export --rules FILE` read the saved file."
    )
    return html.Div(
        [
            html.Div([html.P(hint, className="hint"), html.Div(sliders, id="sliders")], className="panel"),
            html.Div(
                [save, html.P(id="kept-hours", className="hint"), dcc.Graph(id="hours", config=CONFIG)],
                className="panel sticky",
            ),
        ],
        className="columns",
    )


def add_callbacks(app: Dash, context: ExploreContext) -> None:
    @app.callback(
        Output("rules", "data"),
        Input({"type": "limit", "rule": ALL, "condition": ALL}, "value"),
        State("rules", "data"),
        prevent_initial_call=True,
    )
    def change_limits(values: Sequence[float], stored: str | None) -> str | None:
        places = [each["id"] for each in ctx.inputs_list[0]]
        edited = _set_limits(context, context.rules, places, values)
        described = None if edited == context.rules else edited.model_dump_json()
        if described == stored:
            raise PreventUpdate
        return described

    @app.callback(
        Output({"type": "limit", "rule": ALL, "condition": ALL}, "value"),
        Input("reset-rules", "n_clicks"),
        State({"type": "limit", "rule": ALL, "condition": ALL}, "id"),
        prevent_initial_call=True,
    )
    def reset_limits(_clicks: int, places: Sequence[Any]) -> list[float]:
        return [_limit_of(context.rules, place) for place in places]

    @app.callback(
        Output("hours", "figure"),
        Output("kept-hours", "children"),
        Input("rules", "data"),
    )
    def draw_kept_hours(rules_json: str | None) -> tuple[Any, str]:
        hours = context.table.compare_hours(context.read_rules(rules_json), context.rules)
        kept, before = sum(row.kept for row in hours), sum(row.kept_before for row in hours)
        total = sum(row.hours for row in hours)
        sentence = f"{kept:,.2f} of {total:,.2f} h kept, {kept - before:+,.2f} h by the changes"
        return draw_hours(hours), sentence

    @app.callback(
        Output("rules-file", "data"),
        Input("save-rules", "n_clicks"),
        State("new-version", "value"),
        State("rules", "data"),
        prevent_initial_call=True,
    )
    def save_rules(_clicks: int, version: str | None, rules_json: str | None) -> Any:
        version = (version or "").strip() or f"{context.rules.version}-edited"
        return {
            "content": render_edited_rules(context, context.read_rules(rules_json), version),
            "filename": f"{version}.toml",
        }


def render_edited_rules(context: ExploreContext, edited: Rules, version: str) -> str:
    """Return the text of the rules file with the edited limits and a new version. Comments of the file are kept."""
    preface = f"Limits chosen in `vfleet explore`, from the rules {context.rules.version}."
    return rewrite_rules(context.rules_text, edited.with_rules(edited.rules, version), preface=preface, notes={})


def _make_rule_panel(context: ExploreContext, place: int, rule: Rule) -> html.Div | None:
    """Make the panel of a rule with its sliders; None if no limit of the rule has a slider."""
    sliders = list(_make_sliders(context, place, rule))
    if not sliders:
        return None
    others = [_describe_condition(each) for each in rule.when if not _is_movable(context, each)]
    also = f" Only if {' and '.join(others)}." if others else ""
    return html.Div(
        [html.B(f"{rule.reason} ({rule.verdict})"), html.Span(f" {rule.sentence}{also}", className="hint"), *sliders],
        className="rule",
    )


def _make_sliders(context: ExploreContext, place: int, rule: Rule) -> Iterator[html.Div]:
    """Yield one slider per limit of a rule that can be moved."""
    for number, condition in enumerate(rule.when):
        if _is_movable(context, condition) and isinstance(condition.value, int | float):
            low, high, step = _slider_range(context, condition)
            slider = dcc.Slider(
                id={"type": "limit", "rule": place, "condition": number},
                min=low,
                max=high,
                step=step,
                value=condition.value,
                marks=None,
                tooltip={"placement": "bottom"},
            )
            yield html.Div([html.Code(f"{condition.column} {condition.op}"), slider])


def _is_movable(context: ExploreContext, condition: Condition) -> bool:
    """Return whether the limit of a condition gets a slider: it is a number, and the column is numeric."""
    is_comparison = condition.op in {"<", "<=", ">", ">="}
    return is_comparison and condition.column in context.table.numbers


def _slider_range(context: ExploreContext, condition: Condition) -> tuple[float, float, float]:
    """Return minimum, maximum and step of a slider. The current limit is one of the slider's positions."""
    column, value = context.table.numbers[condition.column], float(condition.value or 0)
    low, high = min(column.low, value), max(column.high, value)
    if isinstance(condition.value, int):
        return float(int(low)), float(ceil(high)), 1.0
    step = 10.0 ** ceil(log10((high - low or 1.0) / _STEPS))
    below, above = ceil((value - low) / step), ceil((high - value) / step)
    return round(value - below * step, 9), round(value + above * step, 9), step


def _set_limits(context: ExploreContext, rules: Rules, places: Sequence[Any], values: Sequence[float | None]) -> Rules:
    """Return the rules with the values of the sliders as limits. A change of less than half a step is ignored.

    Args:
        context: the page, whose columns give the steps of the sliders.
        rules: the rules before the change.
        places: the ``rule`` and ``condition`` index of each slider.
        values: the value of each slider; None for a slider without a value.
    """
    changed = [list(rule.when) for rule in rules.rules]
    for place, value in zip(places, values, strict=True):
        condition = changed[place["rule"]][place["condition"]]
        step = _slider_range(context, condition)[2]
        if value is None or abs(value - float(condition.value or 0)) < step / 2:
            continue
        limit = int(value) if isinstance(condition.value, int) else round(float(value), 9)
        changed[place["rule"]][place["condition"]] = condition.model_copy(update={"value": limit})
    edited = tuple(
        rule.model_copy(update={"when": tuple(when)}) for rule, when in zip(rules.rules, changed, strict=True)
    )
    return rules if edited == rules.rules else rules.with_rules(edited, f"{rules.version}-edited")


def _limit_of(rules: Rules, place: Any) -> float:
    """Return the limit of the condition to which a slider belongs."""
    return float(rules.rules[place["rule"]].when[place["condition"]].value or 0)


def _describe_condition(condition: Condition) -> str:
    return f"{condition.column} {condition.op}" + ("" if condition.value is None else f" {condition.value}")

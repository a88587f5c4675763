"""Rules as the text of a rules file, which ``parse_rules`` reads back."""

import json
from collections.abc import Mapping

from validation.domain import Scalar
from validation.scoring.verdict import Condition, Rule, Rules


def dump_rules(rules: Rules, *, preface: str = "", notes: Mapping[int, str] | None = None) -> str:
    """Spell rules as TOML.

    Args:
        rules: what to spell.
        preface: lines that stand above, as comments.
        notes: lines that stand above a rule, by its place, as comments.
    """
    head = f"{_comment(preface)}version = {_spell(rules.version)}\n"
    models = ", ".join(map(_spell, rules.required_models))
    parts = [_comment((notes or {}).get(place, "")) + _spell_rule(rule) for place, rule in enumerate(rules.rules)]
    return "\n".join([f"{head}required_models = [{models}]\n", *parts])


def _spell_rule(rule: Rule) -> str:
    conditions = "".join(f"    {_spell_condition(condition)},\n" for condition in rule.when)
    return (
        f"[[rules]]\nreason = {_spell(rule.reason)}\nverdict = {_spell(rule.verdict)}\n"
        f"sentence = {_spell(rule.sentence)}\nwhen = [\n{conditions}]\n"
    )


def _spell_condition(condition: Condition) -> str:
    value = "" if condition.value is None else f", value = {_spell(condition.value)}"
    return f"{{ column = {_spell(condition.column)}, op = {_spell(condition.op)}{value} }}"


def _spell(value: Scalar) -> str:
    """JSON's spelling of a text, a number or a truth value is also TOML's, but for the sign that JSON leaves bare."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())

"""Verdict rules from and to TOML. What would silently never match is refused when the rules are read.

New limits are written into the text of a rules file; its comments, sentences and order stay as they are.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.resources import files

from pydantic import ValidationError

from validation.domain import ColumnType, Scalar
from validation.errors import BadInput
from validation.scoring.verdict import LANGUAGE, Condition, Rule, Rules

_FOLDER = files("validation.scoring") / "rules"
_TYPE_NAMES: dict[ColumnType, str] = {"float": "number", "int": "number", "str": "text", "bool": "bool"}


class BadRules(BadInput):
    """A rules file cannot be read as rules, or its rules do not fit the columns."""

    def __init__(self, file: str, place: str, problem: str) -> None:
        self.file, self.place, self.problem = file, place, problem
        super().__init__(f"rules {file}: {place}: {problem}")


def load_rules(name: str) -> Rules:
    """Read a rules file of this package by its version, such as ``local-1``.

    Raises:
        BadInput: there is no such file.
        BadRules: the file does not hold rules.
    """
    return parse_rules(read_packaged(name), file=f"{name}.toml")


def read_packaged(name: str) -> str:
    """Read the text of a rules file of this package by its version.

    Raises:
        BadInput: there is no such file.
    """
    known = known_rules()
    if name not in known:
        raise BadInput(f"no rules are called {name!r}; known are {', '.join(known)}")
    return (_FOLDER / f"{name}.toml").read_text(encoding="utf-8")


def known_rules() -> list[str]:
    """The versions of the rules files of this package."""
    return sorted(entry.name.removesuffix(".toml") for entry in _FOLDER.iterdir() if entry.name.endswith(".toml"))


def parse_rules(toml: str, file: str) -> Rules:
    """Read rules from the text of a file; ``file`` names it in errors.

    Raises:
        BadRules: the text is not TOML, or a key is unknown, missing or of the wrong type. Names the first.
    """
    try:
        content = tomllib.loads(toml)
    except tomllib.TOMLDecodeError as error:
        raise BadRules(file, "syntax", str(error)) from None
    try:
        return Rules.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        problem = first["msg"].removeprefix("Value error, ")
        raise BadRules(file, _describe_location(first["loc"], content), problem) from None


def check_columns(rules: Rules, columns: Mapping[str, ColumnType]) -> None:
    """Refuse rules that read a missing column, or that compare a column with a value of another type.

    Such a condition never holds, and its rule would look like a rule that never had a reason.

    Raises:
        BadRules: names the rule, the column and the nearest existing column, or the two types.
    """
    if unknown := sorted(set(rules.typical) - set(columns)):
        raise BadRules(rules.version, "typical", f"no column {unknown[0]}")
    for rule in rules.effective:
        if rule.languages and LANGUAGE not in columns:
            raise BadRules(rules.version, f"rule {rule.reason}", f"rules by language need the column {LANGUAGE}")
        for condition in rule.when:
            if problem := _type_error(condition, columns):
                raise BadRules(rules.version, f"rule {rule.reason}", problem)


def _type_error(condition: Condition, columns: Mapping[str, ColumnType]) -> str | None:
    column, value = condition.column, condition.value
    if condition.by_language and LANGUAGE not in columns:
        return f"limits by language need the column {LANGUAGE}"
    if column not in columns:
        near = get_close_matches(column, columns, n=1, cutoff=0)
        return f"no column {column}" + (f"; the nearest is {near[0]}" if near else "")
    if value is not None and _type_name(value) != _TYPE_NAMES[columns[column]]:
        return f"column {column} is of type {columns[column]}, {value!r} is not"
    return None


def _type_name(value: float | str | bool) -> str:
    if isinstance(value, bool):
        return "bool"
    return "text" if isinstance(value, str) else "number"


def _describe_location(location: tuple[int | str, ...], content: Mapping[str, object]) -> str:
    """Turn ``("rules", 2, "when", 0, "op")`` into ``rule 3 (noisy), key when.0.op``."""
    match location:
        case ("rules", int(index), *key):
            entries = content["rules"]
            entry = entries[index] if isinstance(entries, list) else None
            reason = f" ({entry['reason']})" if isinstance(entry, dict) and "reason" in entry else ""
            return f"rule {index + 1}{reason}" + (f", key {'.'.join(map(str, key))}" if key else "")
        case _:
            return f"key {'.'.join(map(str, location))}"


def dump_condition(condition: Condition) -> str:
    """Write one condition as an inline table."""
    value = "" if condition.value is None else f", value = {_dump_value(condition.value)}"
    limits = ", ".join(f"{_dump_value(name)} = {_dump_value(limit)}" for name, limit in condition.by_language)
    by_language = f", by_language = {{ {limits} }}" if limits else ""
    return f"{{ column = {_dump_value(condition.column)}, op = {_dump_value(condition.op)}{value}{by_language} }}"


def _dump_value(value: Scalar) -> str:
    """Write a text, a number or a truth value: JSON and TOML agree, except on U+007F, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


_RULE = re.compile(r"^[ \t]*\[\[rules\]\][ \t]*$", re.MULTILINE)
_VERSION = re.compile(r"^[ \t]*version\s*=.*$", re.MULTILINE)
_TABLE = re.compile(r"\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")
"""An inline table that holds at most tables without tables."""


def rewrite_rules(text: str, rules: Rules, *, preface: str, notes: Mapping[int, str]) -> str:
    """Write the limits and the version of ``rules`` into the text of the file that they were made from.

    Args:
        text: the file, with the same rules in the same order.
        rules: the rules with other limits.
        preface: a line written above the file, as a comment.
        notes: lines written above single rules, as comments, by the rule's position.

    Raises:
        BadInput: the file is laid out in a way that cannot be rewritten.
    """
    head, *blocks = _RULE.split(text)
    head = _VERSION.sub(f'version = "{rules.version}"', head, count=1)
    parts = [f"# {preface}\n{head}"]
    for place, (block, rule) in enumerate(zip(blocks, rules.rules, strict=True)):
        note = "".join(f"# {line}\n" for line in notes.get(place, "").splitlines())
        parts.append(f"{note}[[rules]]{_rewrite_block(block, rule)}")
    rewritten = "".join(parts)
    if parse_rules(rewritten, "the rewritten file") != rules:
        raise BadInput(
            "the rules file cannot be rewritten: write each condition as { column = ..., op = ..., value = ... }"
        )
    return rewritten


def _rewrite_block(block: str, rule: Rule) -> str:
    """Replace the conditions of one rule, which stand after ``when``."""
    start = re.search(r"^[ \t]*when\s*=", block, re.MULTILINE)
    if start is None:
        return block
    conditions = iter(rule.when)
    return block[: start.start()] + _TABLE.sub(
        lambda found: dump_condition(next(conditions)) if "column" in found[0] else found[0], block[start.start() :]
    )

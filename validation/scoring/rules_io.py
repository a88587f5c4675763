"""Read verdict rules from TOML, check them against the columns, and write new limits into a rules file.

Rules that read a missing column, or compare a column with a value of another type, are refused. New limits are written
into the text of a rules file; its comments, sentences and order stay unchanged.
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
"""The type of the values with which rules compare a column, by the type of the column."""


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
    return parse_rules(read_packaged_text(name), file=f"{name}.toml")


def read_packaged_text(name: str) -> str:
    """Return the text of a rules file of this package, by its version.

    Raises:
        BadInput: there is no such file.
    """
    known = packaged_versions()
    if name not in known:
        raise BadInput(f"no rules are called {name!r}; known are {', '.join(known)}")
    return (_FOLDER / f"{name}.toml").read_text(encoding="utf-8")


def packaged_versions() -> list[str]:
    """Return the versions of the rules files of this package."""
    return sorted(entry.name.removesuffix(".toml") for entry in _FOLDER.iterdir() if entry.name.endswith(".toml"))


def parse_rules(toml: str, file: str) -> Rules:
    """Read rules from the text of a file; ``file`` is its name in error messages.

    Raises:
        BadRules: the text is not TOML; a key is unknown or missing; or a value is of the wrong type or not allowed.
            The message describes the first error.
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

    Such a comparison never holds, so its rule would silently never match. Rules with a ``typical`` value of a missing
    column are refused too.

    Raises:
        BadRules: the message contains the rule or ``typical``, and what is wrong.
    """
    if unknown := sorted(set(rules.typical) - set(columns)):
        raise BadRules(rules.version, "typical", f"no column {unknown[0]}")
    for rule in rules.effective:
        if rule.languages and LANGUAGE not in columns:
            raise BadRules(rules.version, f"rule {rule.reason}", f"rules by language need the column {LANGUAGE}")
        for condition in rule.when:
            if problem := _describe_misfit(condition, columns):
                raise BadRules(rules.version, f"rule {rule.reason}", problem)


def _describe_misfit(condition: Condition, columns: Mapping[str, ColumnType]) -> str | None:
    """Return why a condition does not fit the columns: a missing column or another type. None if it fits."""
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
    """Return the name of a value's type, as ``_TYPE_NAMES`` has it for columns."""
    if isinstance(value, bool):
        return "bool"
    return "text" if isinstance(value, str) else "number"


def _describe_location(location: tuple[int | str, ...], content: Mapping[str, object]) -> str:
    """Describe a location: ``("rules", 2, "when", 0, "op")`` becomes ``rule 3 (noisy), key when.0.op``."""
    match location:
        case ("rules", int(index), *key):
            entries = content["rules"]
            entry = entries[index] if isinstance(entries, list) else None
            reason = f" ({entry['reason']})" if isinstance(entry, dict) and "reason" in entry else ""
            return f"rule {index + 1}{reason}" + (f", key {'.'.join(map(str, key))}" if key else "")
        case _:
            return f"key {'.'.join(map(str, location))}"


def dump_condition(condition: Condition) -> str:
    """Return one condition as a TOML inline table."""
    value = "" if condition.value is None else f", value = {_dump_value(condition.value)}"
    limits = ", ".join(f"{_dump_value(name)} = {_dump_value(limit)}" for name, limit in condition.by_language)
    by_language = f", by_language = {{ {limits} }}" if limits else ""
    return f"{{ column = {_dump_value(condition.column)}, op = {_dump_value(condition.op)}{value}{by_language} }}"


def _dump_value(value: Scalar) -> str:
    """Return a value in TOML. JSON and TOML agree on the form, except that TOML requires U+007F to be escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


_RULE = re.compile(r"^[ \t]*\[\[rules\]\][ \t]*$", re.MULTILINE)
_VERSION = re.compile(r"^[ \t]*version\s*=.*$", re.MULTILINE)
_TABLE = re.compile(r"\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")
"""Matches an inline table, which may hold tables but no deeper nesting."""


def rewrite_rules(text: str, rules: Rules, *, preface: str, notes: Mapping[int, str]) -> str:
    """Return the text of a rules file, with its limits and its version replaced by those of ``rules``.

    Args:
        text: the text of the file, which holds the same rules in the same order.
        rules: the rules with other limits.
        preface: a line written above the file, as a comment.
        notes: lines written above single rules, as comments, by the index of the rule.

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
    """Replace the conditions in the text of one rule by those of ``rule``: the inline tables after ``when``."""
    start = re.search(r"^[ \t]*when\s*=", block, re.MULTILINE)
    if start is None:
        return block
    conditions = iter(rule.when)
    return block[: start.start()] + _TABLE.sub(
        lambda found: dump_condition(next(conditions)) if "column" in found[0] else found[0], block[start.start() :]
    )

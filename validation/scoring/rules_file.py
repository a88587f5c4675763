"""Reading verdict rules from TOML, and refusing what would silently never fire."""

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.resources import files

from pydantic import ValidationError

from validation.domain import ColumnType
from validation.errors import BadInput
from validation.scoring.verdict import Condition, Rules

_FOLDER = files("validation.scoring") / "rules"
_FAMILIES: dict[ColumnType, str] = {"float": "number", "int": "number", "str": "text", "bool": "bool"}


class BadRules(BadInput):
    """A rules file says something that no rule can mean."""

    def __init__(self, file: str, place: str, problem: str) -> None:
        self.file, self.place, self.problem = file, place, problem
        super().__init__(f"rules {file}: {place}: {problem}")


def load_rules(name: str) -> Rules:
    """Read a rules file of this package by its version, such as ``local-1``.

    Raises:
        BadInput: there is no such file.
        BadRules: the file does not hold rules.
    """
    known = sorted(entry.name.removesuffix(".toml") for entry in _FOLDER.iterdir() if entry.name.endswith(".toml"))
    if name not in known:
        raise BadInput(f"no rules are called {name!r}; known are {', '.join(known)}")
    return parse_rules((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"), file=f"{name}.toml")


def parse_rules(toml: str, file: str) -> Rules:
    """Read rules from the text of a file; ``file`` names it in errors.

    Raises:
        BadRules: the text is not TOML, or a key is unknown, missing or of the wrong kind. Names the first.
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
        raise BadRules(file, _name_place(first["loc"], content), problem) from None


def check_columns(rules: Rules, columns: Mapping[str, ColumnType]) -> None:
    """Refuse rules that read a column which does not exist, or compare one with a value of another type.

    Such a condition would never hold, and its rule would look like one that never had a reason.

    Raises:
        BadRules: names the rule, the column and the nearest column that exists, or the two types.
    """
    for rule in rules.effective:
        for condition in rule.when:
            if problem := _misfit(condition, columns):
                raise BadRules(rules.version, f"rule {rule.reason}", problem)


def _misfit(condition: Condition, columns: Mapping[str, ColumnType]) -> str | None:
    column, value = condition.column, condition.value
    if column not in columns:
        near = get_close_matches(column, columns, n=1, cutoff=0)
        return f"no column {column}" + (f"; the nearest is {near[0]}" if near else "")
    if value is not None and _family(value) != _FAMILIES[columns[column]]:
        return f"column {column} is of type {columns[column]}, {value!r} is not"
    return None


def _family(value: float | str | bool) -> str:
    if isinstance(value, bool):
        return "bool"
    return "text" if isinstance(value, str) else "number"


def _name_place(location: tuple[int | str, ...], content: Mapping[str, object]) -> str:
    """Turn ``("rules", 2, "when", 0, "op")`` into ``rule 3 (noisy), key when.0.op``."""
    match location:
        case ("rules", int(index), *key):
            entries = content["rules"]
            entry = entries[index] if isinstance(entries, list) else None
            reason = f" ({entry['reason']})" if isinstance(entry, dict) and "reason" in entry else ""
            return f"rule {index + 1}{reason}" + (f", key {'.'.join(map(str, key))}" if key else "")
        case _:
            return f"key {'.'.join(map(str, location))}"

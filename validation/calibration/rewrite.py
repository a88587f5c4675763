"""New limits in the text of a rules file: its comments, sentences and order stay as they are."""

import re
from collections.abc import Mapping

from validation.errors import BadInput
from validation.scoring.rules_io import dump_condition, parse_rules
from validation.scoring.verdict import Rule, Rules

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

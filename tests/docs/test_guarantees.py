"""The page of guarantees names tests and commands that exist."""

import ast
import re

from tests.support.doc_pages import DOCS

ROOT = DOCS.parent
PAGE = (DOCS / "guarantees.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| guarantee", "| rule"))]


def test_every_named_test_exists():
    """A guarantee whose test was renamed or deleted is found here."""
    named = set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE))
    assert len(named) > 100
    missing = [f"{file}::{name}" for file, name in sorted(named) if not _exists(file, name)]
    assert missing == []


def test_every_named_folder_and_make_target_exists():
    """`tests/docs` is a folder, and `make chaos-short` is a target of the Makefile."""
    folders = set(re.findall(r"`(tests/[\w/]+?)/?`", PAGE))
    assert [folder for folder in sorted(folders) if not (ROOT / folder).is_dir()] == []
    targets = set(re.findall(r"`make ([\w-]+)`", PAGE))
    assert targets <= set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_guarantee_names_its_proof():
    """The last cell of each row names a test, a folder of tests or a make target."""
    assert [row for row in ROWS if "`tests/" not in row and "`make " not in row] == []


def _exists(file: str, name: str) -> bool:
    path = ROOT / file
    if not path.is_file():
        return False
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return not name or any(isinstance(n, functions) and n.name == name for n in ast.walk(ast.parse(path.read_text())))

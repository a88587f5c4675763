"""The project's structure: layers, entrypoints, file sizes, where things live, what ships, and plain prose."""

import io
import re
import subprocess
import sys
import tokenize
import tomllib
from pathlib import Path

import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint

ROOT = Path(__file__).resolve().parents[2]
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
TRACKED = [
    ROOT / name
    for name in subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    if name and (ROOT / name).is_file()
]
SOURCES = [path for path in TRACKED if path.suffix in {".py", ".sql", ".md", ".yaml", ".toml", ""}]
MAX_LINES = 400


def test_imports_point_downwards():
    """Flows, tasks, blocks, core: no package imports from a layer above, and the core does not import Prefect."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_every_entrypoint_loads(deployment, monkeypatch):
    """`prefect deploy` would silently deploy a placeholder for a flow file whose imports fail."""
    monkeypatch.chdir(ROOT)
    flow = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    assert flow.name == deployment["name"]
    assert deployment["description"]
    assert flow.description


@pytest.mark.parametrize(
    "path", [path for path in TRACKED if path.suffix == ".py"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_python_files_have_at_most_400_lines(path):
    """A longer file holds two subjects and is split."""
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_every_sql_function_and_view_is_documented():
    """A file of sql/ begins with the name of its object and what it does."""
    for path in [*(ROOT / "sql/functions").glob("*.sql"), *(ROOT / "sql/views").glob("*.sql")]:
        assert path.read_text().startswith(f"-- {path.stem}: "), path


def test_sql_statements_are_in_sql_files():
    """Python calls functions of the ledger and reads its views by name; statements that write are in .sql files."""
    statement = re.compile(r"\b(INSERT INTO|UPDATE \w+ SET|DELETE FROM|CREATE TABLE)\b")
    not_of_the_ledger = ("tests", "bench", "validation/analysis")  # analysis writes DuckDB files of its own
    core = [
        path
        for path in TRACKED
        if path.suffix == ".py" and not str(path.relative_to(ROOT)).startswith(not_of_the_ledger)
    ]
    assert [path for path in core if statement.search(path.read_text())] == []


def test_nothing_points_outside_the_project():
    """No file names a user's folder or the address of a package index."""
    outside = re.compile(r"/(?:home|root|Users)/\w|--(?:extra-)?index-url|https?://[^ ]*/simple\b")
    own = Path(__file__)
    found = [path for path in SOURCES if path != own and outside.search(path.read_text(errors="replace"))]
    assert found == []


def test_lock_pins_every_requirement():
    """Demo, tests and image install from one lock; a requirement that it lacks would float."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {re.split(r"[\[<>=!~ ]", requirement)[0].lower().translate({95: 45, 46: 45}) for requirement in wanted}
    pinned = {line.split("==")[0].translate({46: 45}) for line in (ROOT / "constraints.lock").read_text().splitlines()}
    assert names <= pinned


def test_wheel_holds_no_simulation():
    """The wheel is made of the packages that ship. Hatch includes all their tracked files, templates among them."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {"packages": ["blocks", "deploy", "flows", "sql", "tasks", "validation"]}


def test_image_holds_no_simulation():
    """The build context of the image leaves out everything but the packages that a box runs."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    included = {line[1:].split("/")[0] for line in lines if line.startswith("!")}
    assert included.isdisjoint({"simulation", "tests", "bench", "docs"})


PRIVATE_WORDS = re.compile(
    r"\b(nobody|whoever|whom|somebody|nought|befalls?|shall|hearken|pardon(?:s|ed)?|errands?)\b", re.IGNORECASE
)
QUOTED = re.compile(r"`[^`\n]*`|[\"']nobody[\"']|account_nobody")
"""Code in prose, and the Unix account ``nobody``."""
EXEMPT = {Path(__file__).name, "LICENCES.md", "ledger_0_1.sql"}
"""This file, and licences and a dump of an earlier release, which are quoted."""


def prose_of(path: Path) -> str:
    """The comments and strings of Python, the comments of SQL and TOML, and the text of Markdown without code."""
    text = path.read_text()
    if path.suffix == ".py":
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
        return "\n".join(token.string for token in tokens if token.type in kinds)
    if path.suffix == ".md":
        return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    mark = "--" if path.suffix == ".sql" else "#"
    return "\n".join(line.partition(mark)[2] for line in text.splitlines() if mark in line)


def test_prose_uses_plain_words():
    """Comments, docstrings, messages and pages use the words of docs/glossary.md."""
    checked = [path for path in TRACKED if path.suffix in {".py", ".sql", ".md", ".toml"} and path.name not in EXEMPT]
    offenders = {
        str(path.relative_to(ROOT)) for path in checked if PRIVATE_WORDS.search(QUOTED.sub("", prose_of(path)))
    }
    assert sorted(offenders) == []

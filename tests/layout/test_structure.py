"""The house keeps its own rules."""

import re
import subprocess
import sys
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


def test_imports_fall_one_way():
    """Flows, tasks, blocks, core: nothing reaches upwards, and the core does not know Prefect."""
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
def test_no_file_has_become_two_things(path):
    """A file of over 400 lines is two things: find them."""
    assert len(path.read_text().splitlines()) <= 400


def test_every_sql_function_is_documented_and_every_view_too():
    """A file of sql/ begins with its own name and what it does."""
    for path in [*(ROOT / "sql/functions").glob("*.sql"), *(ROOT / "sql/views").glob("*.sql")]:
        assert path.read_text().startswith(f"-- {path.stem}: "), path


def test_sql_lives_in_sql():
    """Statements stand in sql/; Python calls functions and reads views by name."""
    statement = re.compile(r"\b(INSERT INTO|UPDATE \w+ SET|DELETE FROM|CREATE TABLE)\b")
    core = [
        path for path in TRACKED if path.suffix == ".py" and path.relative_to(ROOT).parts[0] not in {"tests", "bench"}
    ]
    assert [path for path in core if statement.search(path.read_text())] == []


def test_nothing_points_outside_the_project():
    """The project stands alone: no folder of somebody's machine, no address of a package index."""
    outside = re.compile(r"/(?:home|root|Users)/\w|--(?:extra-)?index-url|https?://[^ ]*/simple\b")
    own = Path(__file__)
    found = [path for path in SOURCES if path != own and outside.search(path.read_text(errors="replace"))]
    assert found == []


def test_the_lock_pins_everything_the_project_asks_for():
    """Demo, tests and image install from one lock; a dependency that it lacks would float."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {re.split(r"[\[<>=!~ ]", requirement)[0].lower().translate({95: 45, 46: 45}) for requirement in wanted}
    pinned = {line.split("==")[0].translate({46: 45}) for line in (ROOT / "constraints.lock").read_text().splitlines()}
    assert names <= pinned

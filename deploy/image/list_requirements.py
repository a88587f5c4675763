"""Print what the project and some of its extras ask for, one requirement a line: `list_requirements.py gpu,models`.

So that the image can install all of it before the code is there, in a layer that code does not change.
"""

# ruff: noqa: INP001 - a program of the image's build
import sys
import tomllib
from pathlib import Path


def list_requirements(extras: list[str]) -> list[str]:
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *(name for extra in extras for name in project["optional-dependencies"][extra])]


if __name__ == "__main__":
    sys.stdout.write("\n".join(list_requirements([extra for extra in sys.argv[1].split(",") if extra])) + "\n")

"""Print the requirements of the project and of some of its extras, one per line: `list_requirements.py gpu,models`.

The image installs them before it copies the code, so that a change of the code does not rebuild that layer.
"""

# ruff: noqa: INP001 - a program of the image build
import sys
import tomllib
from pathlib import Path


def list_requirements(extras: list[str]) -> list[str]:
    """The requirements of pyproject.toml in the present folder, those of the extras last."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *(name for extra in extras for name in project["optional-dependencies"][extra])]


if __name__ == "__main__":
    sys.stdout.write("\n".join(list_requirements([extra for extra in sys.argv[1].split(",") if extra])) + "\n")

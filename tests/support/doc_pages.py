"""The fenced blocks of a page, by what they are."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
_FENCE = re.compile(r"^```(?P<kind>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^##+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    page: str
    heading: str
    kind: str
    body: str

    @property
    def lines(self) -> list[str]:
        return [line for line in self.body.splitlines() if line.strip()]


def read_blocks(page: str) -> list[Block]:
    text = (DOCS / page).read_text()
    headings = [(match.start(), match.group(1)) for match in _HEADING.finditer(text)]
    blocks = []
    for match in _FENCE.finditer(text):
        above = [name for at, name in headings if at < match.start()]
        blocks.append(Block(page, above[-1] if above else "", match["kind"], match["body"]))
    return blocks


def words_of(line: str) -> list[str]:
    """A command's words, without what a shell does with its output."""
    return shlex.split(re.split(r"\s[>&]", line)[0])

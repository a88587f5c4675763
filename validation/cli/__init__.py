"""The commands of `vfleet`, one module per subject.

A command imports what it needs when it runs, so that `vfleet --help` and shell completion stay fast. Types of those
modules are therefore imported under TYPE_CHECKING only.
"""

from typing import Annotated, TypeAlias

import typer

JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print strict JSON, one object per line.")]

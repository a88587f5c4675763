"""The commands of `vfleet`, one module per subject. Each function ``add_commands`` adds the commands of a module.

Each command imports its modules when it runs, so that `vfleet --help` and shell completion stay fast. For the same
reason, types of these modules are imported under TYPE_CHECKING only.
"""

from typing import Annotated, TypeAlias

import typer

JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print strict JSON, one object per line.")]

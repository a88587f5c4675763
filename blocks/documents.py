"""Block documents, which the control plane reads for settings that its environment lacks.

The environment takes precedence, and no block is read if it is complete. So a command that is run by hand uses what its
environment says, a block cannot redirect it unnoticed, and a box, which has its environment only, needs no right to
read blocks.
"""

from typing import TypeVar

from prefect.blocks.core import Block

Kind = TypeVar("Kind", bound=Block)


def find_block(kind: type[Kind], name: str) -> Kind | None:
    """Load a document; None if no document has this name."""
    try:
        return kind.load(name)  # type: ignore[return-value]  # synchronous here, although its signature says otherwise
    except ValueError:
        return None

"""The commands of `vfleet`, one module a family, which imports what a command needs when it runs."""

import argparse
from typing import TypeAlias

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - argparse has no public name for it
"""Where a family adds its parsers."""

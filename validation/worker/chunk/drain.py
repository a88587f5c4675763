"""How a worker asks its flow runs to stop early: a file that does not exist until it does."""

import os
from pathlib import Path

DRAIN_FILE_VARIABLE = "VFLEET_DRAIN_FILE"
"""Names, in a flow run's environment, the file whose existence is the wish. A signal cannot carry it: Prefect turns
a SIGTERM of the flow process into a crash of the run."""


def drain_requested() -> bool:
    """Whether the worker wants this flow run to finish the video in hand, commit and end. Costs one stat.

    A process that no worker started is never asked to drain.
    """
    path = os.environ.get(DRAIN_FILE_VARIABLE)
    return path is not None and Path(path).exists()

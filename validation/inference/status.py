"""What the host says of itself."""

import os
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from validation.inference.executor import BatchExecutor
from validation.inference.scheduler import RequestScheduler
from validation.models.suite import Suite


@dataclass(slots=True)
class InferenceStatus:
    """Gathers the counters of everything in the host."""

    suite: Suite
    desk: RequestScheduler
    mill: BatchExecutor
    clients: int = 0
    started_s: float = field(default_factory=time.monotonic)

    def describe(self) -> dict[str, Any]:
        """Everything at this moment, in JSON's types. Counters run from the host's start."""
        suite, work, fill = self.suite, self.mill.work, self.suite.padding
        models_s = sum(meter.wall_s for meter in suite.stats.values())
        return {
            "suite": suite.name,
            "pid": os.getpid(),
            "uptime_s": time.monotonic() - self.started_s,
            "clients": self.clients,
            "budget_s": suite.budget.seconds,
            "overruns": suite.budget.overruns,
            "batches": work.batches,
            "busy_s": work.busy_s,
            "present_batch_s": work.present_s,
            "audio_s": fill.real_s,
            "padded_s": fill.padded_s,
            "padded_per_real": fill.padded_s / fill.real_s if fill.real_s else None,
            "audio_s_per_busy_s": fill.real_s / work.busy_s if work.busy_s else None,
            "queue": asdict(self.desk.queue()),
            "models": {
                name: asdict(meter) | {"share": meter.wall_s / models_s if models_s else None}
                for name, meter in suite.stats.items()
            },
        }

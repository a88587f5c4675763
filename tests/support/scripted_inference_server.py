"""The model host with the suite `toy`, which does what its transcripts say.

    python toy_host.py

`poison` fails, `crash` takes the process along, `card` fails as a card does, `wait` waits for the file TOY_GATE; all
else is said back, with the loudest sample. While a file `broken` lies beside TOY_LOG everything fails, in words of no
library. TOY_MEMORY_S is how much padded audio fits the memory, TOY_BUDGET_S what the suite hopes for. Batches are
written to TOY_LOG, one a line.
"""

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from threading import Event

from validation.domain import SAMPLE_RATE, Answer, Column, Scored
from validation.hardware.gpu_errors import GpuOutOfMemory
from validation.inference.__main__ import end, main
from validation.models import suite
from validation.models.base import Batch

RECIPE = suite.SuiteSpec(
    models={"silero": "scripted_inference_server:EchoScorer"},
    transcriber=None,
    judges=(),
    rules="vad-1",
    budget_s=float(os.environ.get("TOY_BUDGET_S", "10")),
    min_padded_s=0.5,
    extra="test",
)


class EchoScorer:
    """Goes by Silero's name, because some verdict rules must fit it."""

    name = "silero"
    columns = (
        Column("speech_ratio", "float", "ratio", "The loudest sample."),
        Column("said", "str", "text", "The transcript."),
        Column("language", "str", "text", "The declared language."),
    )
    languages = None
    revision = os.environ.get("TOY_REVISION", "1")

    def __init__(self, *, threads: int) -> None:
        self._log = Path(os.environ["TOY_LOG"])
        self._broken = self._log.with_name("broken")
        self._memory_s = float(os.environ.get("TOY_MEMORY_S", "inf"))

    def score(self, batch: Batch) -> Sequence[Answer]:
        with self._log.open("a") as log:
            log.write(json.dumps([batch.waveforms.shape[1], list(batch.texts)]) + "\n")
        if batch.waveforms.size > self._memory_s * SAMPLE_RATE:
            raise GpuOutOfMemory(f"{batch.waveforms.size} samples are too many")
        if self._broken.exists():
            raise ValueError("nothing works any more")
        if "card" in batch.texts:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if "poison" in batch.texts:
            raise RuntimeError("I cannot bear it")
        if "crash" in batch.texts:
            os.kill(os.getpid(), signal.SIGKILL)
        while "wait" in batch.texts and not Path(os.environ["TOY_GATE"]).exists():
            Event().wait(0.01)
        peaks = [float(abs(row).max()) for row in batch.waveforms]
        told = zip(batch.texts, batch.languages, peaks, strict=True)
        return [Scored({"speech_ratio": peak, "said": text, "language": language}) for text, language, peak in told]


if __name__ == "__main__":
    suite.SUITES = {**suite.SUITES, "toy": RECIPE}
    end(main())

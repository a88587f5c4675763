"""An inference server with the suite `scripted`, whose model does what the transcripts say.

    python scripted_inference_server.py

| transcript or file | effect |
|---|---|
| `poison` | the model fails on the batch |
| `crash` | the model kills the process |
| `card` | the model fails with an error that says that the GPU is lost |
| `wait` | the model waits until the file SCRIPTED_GATE exists |
| any other | the answer is the transcript, with the loudest sample |
| a file `broken` beside SCRIPTED_LOG | the model fails on every batch |

SCRIPTED_MEMORY_S: padded seconds that fit the memory. SCRIPTED_BUDGET_S: batch budget at the start. SCRIPTED_REVISION:
revision of the model. SCRIPTED_PREPARATION_S: how long the preparation of a batch takes at least. SCRIPTED_OVERLAP: two
batches are in flight, as on a GPU. SCRIPTED_LOG: file to which each batch is appended, as one line of JSON.
"""

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any

from validation.domain import SAMPLE_RATE, Answer, Column, Scored
from validation.hardware.gpu import GpuOutOfMemory
from validation.inference import executor
from validation.inference.__main__ import exit_at_once, main
from validation.models import suite, suites
from validation.models.base import Batch
from validation.models.batching import pad_batch

SPEC = suites.SuiteSpec(
    models={"silero": "scripted_inference_server:EchoScorer"},
    asr_model=None,
    lid_models=(),
    rules="vad-1",
    budget_s=float(os.environ.get("SCRIPTED_BUDGET_S", "10")),
    min_padded_s=0.5,
    extra="test",
)


class EchoScorer:
    """Has the name and a column of Silero, because the suite needs verdict rules."""

    name = "silero"
    columns = (
        Column("speech_ratio", "float", "ratio", "The loudest sample."),
        Column("said", "str", "text", "The transcript."),
        Column("language", "str", "text", "The declared language."),
    )
    languages = None
    revision = os.environ.get("SCRIPTED_REVISION", "1")

    def __init__(self, *, threads: int) -> None:
        self._log = Path(os.environ["SCRIPTED_LOG"])
        self._broken = self._log.with_name("broken")
        self._memory_s = float(os.environ.get("SCRIPTED_MEMORY_S", "inf"))

    def score(self, batch: Batch) -> Sequence[Answer]:
        with self._log.open("a") as log:
            log.write(json.dumps([batch.waveforms.shape[1], list(batch.texts)]) + "\n")
        if batch.waveforms.size > self._memory_s * SAMPLE_RATE:
            raise GpuOutOfMemory(f"{batch.waveforms.size} samples are too many")
        if self._broken.exists():
            raise ValueError("the model is broken")
        if "card" in batch.texts:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if "poison" in batch.texts:
            raise RuntimeError("poison is in the batch")
        if "crash" in batch.texts:
            os.kill(os.getpid(), signal.SIGKILL)
        while "wait" in batch.texts and not Path(os.environ["SCRIPTED_GATE"]).exists():
            Event().wait(0.01)
        peaks = [float(abs(row).max()) for row in batch.waveforms]
        rows = zip(batch.texts, batch.languages, peaks, strict=True)
        return [Scored({"speech_ratio": peak, "said": text, "language": language}) for text, language, peak in rows]


def prepare_slowly(*args: Any, **options: Any) -> Batch:
    time.sleep(float(os.environ.get("SCRIPTED_PREPARATION_S", "0")))
    return pad_batch(*args, **options)


if __name__ == "__main__":
    executor.pad_batch = prepare_slowly
    if "SCRIPTED_OVERLAP" in os.environ:
        executor.overlaps_batches = lambda _suite: True
    suite.SUITES = suites.SUITES = {**suites.SUITES, "scripted": SPEC}
    exit_at_once(main())

"""DNSMOS P.835: predict listener ratings of the speech, the background and the recording overall."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from validation.domain import Answer, Column, Scored, Waveform
from validation.models.base import Batch
from validation.models.onnx import create_onnx_session
from validation.models.weights import find_weights

WINDOW_SAMPLES = 144_160
"""The only input length that the network accepts: 9.01 s."""

_POLYNOMIALS = (
    np.poly1d([-0.08397278, 1.22083953, 0.0052439]),
    np.poly1d([-0.13166888, 1.60915514, -0.39604546]),
    np.poly1d([-0.06766283, 1.11546468, 0.04602535]),
)
"""The polynomials that map the network's raw outputs to the ratings sig, bak and ovr. They are those of Microsoft's
``dnsmos.py`` for the model that is not personalised."""


class Dnsmos:
    """DNSMOS P.835 on windows that do not overlap. The model revision states this variant.

    A segment that is shorter than a window is repeated to fill the window, as upstream does. A longer segment is cut
    into whole windows, and the rest is ignored; the answer is the mean over the windows. Upstream instead moves the
    window by one second. That costs five times as much per segment and gives the middle of long segments more weight.
    So the ratings differ from upstream's ratings in the second decimal.

    Digital silence gets ratings too, but they have no meaning. Silero VAD detects whether a segment contains speech.
    """

    name: ClassVar[str] = "dnsmos"
    columns: ClassVar[tuple[Column, ...]] = (
        Column("sig", "float", "MOS 1-5", "Quality of the speech itself, over windows of 9.01 s side by side."),
        Column("bak", "float", "MOS 1-5", "Quietness of the background; 5 is no noise."),
        Column("ovr", "float", "MOS 1-5", "Overall quality."),
    )
    languages: frozenset[str] | None = None

    def __init__(
        self,
        *,
        threads: int,
        windows_per_run: int = 1,
        device: Literal["cpu", "cuda"] = "cpu",
        tf32: bool = False,
    ) -> None:
        """Load the network.

        Args:
            threads: the number of CPU threads; not used on a GPU.
            windows_per_run: windows per run of the network. One is fastest on a CPU: each further window takes 240 MB,
                and with eight windows cache misses double the time per window.
            device: the device to compute on.
            tf32: whether a GPU may multiply in TF32; the revision says so.
        """
        weights, graph = find_weights("dnsmos-p835"), "sig_bak_ovr.onnx"
        self._session = create_onnx_session(weights.read(graph), threads=threads, device=device, tf32=tf32)
        self._windows_per_run, self._device = windows_per_run, device
        self.revision = f"{weights.revision}-side-by-side{'-tf32' if tf32 else ''}"

    def score(self, batch: Batch) -> Sequence[Answer]:
        """Rate the segments of a batch, and wait for the device. Every segment of at least one sample gets ratings."""
        counts = [max(1, int(n) // WINDOW_SAMPLES) for n in batch.lengths]
        if self._device == "cuda":
            raw = self._run_uploaded(batch, counts)
        else:
            windows = [cut_windows(row[:n]) for row, n in zip(batch.waveforms, batch.lengths, strict=True)]
            raw = self._run(np.concatenate(windows))
        rated = np.stack([fit(column) for fit, column in zip(_POLYNOMIALS, raw.T, strict=True)], axis=1)
        return [_make_answer(own.mean(axis=0)) for own in np.split(rated, np.cumsum(counts)[:-1])]

    def _run(self, windows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the (W, 3) raw outputs for (W, WINDOW_SAMPLES) windows on the host."""
        starts = range(0, len(windows), self._windows_per_run)
        runs = [windows[start : start + self._windows_per_run] for start in starts]
        return np.concatenate([self._session.run(None, {"input_1": run})[0] for run in runs]).astype(np.float64)

    def _run_uploaded(self, batch: Batch, counts: Sequence[int]) -> NDArray[np.float64]:
        """Return the (W, 3) raw outputs for the windows of a batch on a GPU, ``counts[i]`` of segment i.

        The windows are cut on the GPU from the audio that all models share. They are cut in the side queue, and ONNX
        Runtime computes in a queue of its own. So this thread waits for its own work only, not for other models.
        """
        import torch  # noqa: PLC0415 - the suite `local` lacks torch

        from validation.hardware.streams import Mark, side_queue  # noqa: PLC0415
        from validation.models.upload import cut_windows_on_device, upload  # noqa: PLC0415

        audio, runs = upload(batch, self._device), []
        with side_queue(self._device, audio.ready, [audio.waveforms]):
            windows = cut_windows_on_device(audio, counts, WINDOW_SAMPLES)
            Mark(self._device).wait()  # ONNX Runtime has a queue of its own
            for part in torch.split(windows, self._windows_per_run):
                binding = self._session.io_binding()
                binding.bind_input("input_1", self._device, 0, np.float32, list(part.shape), part.data_ptr())
                binding.bind_output(self._session.get_outputs()[0].name, "cpu")
                self._session.run_with_iobinding(binding)
                runs.append(binding.copy_outputs_to_cpu()[0])
        return np.concatenate(runs).astype(np.float64)


def load_dnsmos(*, threads: int) -> Dnsmos:
    """Load DNSMOS on the device of the settings. On a GPU one run of the network takes eight windows and 2 GB."""
    from validation.hardware.device import device_from_settings  # noqa: PLC0415 - torch, which the suite `local` lacks

    config = device_from_settings()
    windows_per_run = 8 if config.device == "cuda" else 1
    return Dnsmos(threads=threads, windows_per_run=windows_per_run, device=config.device, tf32=config.tf32)


def cut_windows(audio: Waveform) -> NDArray[np.float32]:
    """Cut audio into its whole windows, (W, WINDOW_SAMPLES); audio shorter than a window is repeated to fill one."""
    count = max(1, len(audio) // WINDOW_SAMPLES)
    return np.resize(audio, (count, WINDOW_SAMPLES))


def _make_answer(ratings: NDArray[np.float64]) -> Scored:
    """Make the answer from the (3,) ratings of one segment."""
    sig, bak, ovr = map(float, ratings)
    return Scored({"sig": sig, "bak": bak, "ovr": ovr})

"""DNSMOS P.835: how listeners would rate the speech, the background, and both together."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from validation.domain import Answer, Column, Scored, Waveform
from validation.models.base import Batch
from validation.models.onnx import open_session
from validation.models.weights import find_weights

WINDOW_SAMPLES = 144_160
"""9.01 s: the one length that the network takes."""

_POLYNOMIALS = (
    np.poly1d([-0.08397278, 1.22083953, 0.0052439]),
    np.poly1d([-0.13166888, 1.60915514, -0.39604546]),
    np.poly1d([-0.06766283, 1.11546468, 0.04602535]),
)
"""From the network's raw outputs to ratings (sig, bak, ovr): the fit of Microsoft's own ``dnsmos.py``, for speech
that is not personalised."""


class Dnsmos:
    """DNSMOS on windows that do not overlap: a metric version of its own.

    A segment shorter than a window is repeated to fill it, as upstream does; of a longer one each whole window
    counts, and what is left over does not; the answer is the mean over windows. Upstream moves its window by one
    second instead, which costs five times as much a segment and weighs the middle of long segments most: its
    ratings and these are not to be compared to the second decimal.

    Digital silence has ratings too, of no meaning: whether somebody speaks is for a voice detector to say.
    """

    name: ClassVar[str] = "dnsmos"
    columns: ClassVar[tuple[Column, ...]] = (
        Column("sig", "float", "MOS 1-5", "Quality of the speech itself, over windows of 9.01 s side by side."),
        Column("bak", "float", "MOS 1-5", "Quietness of the background; 5 is no noise."),
        Column("ovr", "float", "MOS 1-5", "Overall quality."),
    )
    languages: frozenset[str] | None = None

    def __init__(self, *, threads: int, windows_a_run: int = 1, device: Literal["cpu", "cuda"] = "cpu") -> None:
        """Load the network.

        Args:
            threads: threads to compute with on a CPU.
            windows_a_run: windows that go through the network together. One is fastest on a CPU: each further one
                takes 240 MB, and at eight the caches miss so often that a window costs twice the time.
            device: where to compute.
        """
        weights = find_weights("dnsmos-p835")
        self._session = open_session(weights.read("sig_bak_ovr.onnx"), threads=threads, device=device)
        self._windows_a_run = windows_a_run
        self.revision = f"{weights.revision}-side-by-side"

    def score(self, batch: Batch) -> Sequence[Answer]:
        """Rate a batch. Any length from one sample on has an answer."""
        windows = [cut_windows(row[:n]) for row, n in zip(batch.waveforms, batch.lengths, strict=True)]
        rated = self._rate(np.concatenate(windows))
        ends = np.cumsum([len(own) for own in windows])[:-1]
        return [_describe(own.mean(axis=0)) for own in np.split(rated, ends)]

    def _rate(self, windows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Rate windows, (W, WINDOW_SAMPLES) -> (W, 3)."""
        starts = range(0, len(windows), self._windows_a_run)
        runs = [windows[start : start + self._windows_a_run] for start in starts]
        raw = np.concatenate([self._session.run(None, {"input_1": run})[0] for run in runs]).astype(np.float64)
        return np.stack([fit(column) for fit, column in zip(_POLYNOMIALS, raw.T, strict=True)], axis=1)


def place_dnsmos(*, threads: int) -> Dnsmos:
    """Load DNSMOS where the settings place the large networks. On a card eight windows go together, in 2 GB."""
    from validation.hardware.device import place_by_settings  # noqa: PLC0415 - torch, which the suite `local` lacks

    device = place_by_settings().device
    return Dnsmos(threads=threads, windows_a_run=8 if device == "cuda" else 1, device=device)


def cut_windows(audio: Waveform) -> NDArray[np.float32]:
    """Cut audio into its whole windows, (W, WINDOW_SAMPLES); audio shorter than one is repeated to fill it."""
    count = max(1, len(audio) // WINDOW_SAMPLES)
    return np.resize(audio, (count, WINDOW_SAMPLES))


def _describe(ratings: NDArray[np.float64]) -> Scored:
    sig, bak, ovr = map(float, ratings)
    return Scored({"sig": sig, "bak": bak, "ovr": ovr})

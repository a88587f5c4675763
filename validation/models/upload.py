"""Copy the audio of a batch to a device once, for all models of a suite, and cut it there.

On a GPU the functions queue their work and do not wait for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from validation.domain import SAMPLE_RATE, Seconds
from validation.hardware.device import Device
from validation.hardware.streams import Mark
from validation.models.base import Batch
from validation.models.batching import split_evenly


@dataclass(frozen=True, slots=True)
class DeviceAudio:
    """B items of audio on a device. Models share them, so no model may change them."""

    waveforms: Tensor
    """(B, T) float32, zero-padded on the right."""
    lengths: Tensor
    """(B,) int64 lengths in samples, on the device too."""
    host_lengths: NDArray[np.int64]
    """(B,) the same lengths on the host. Shapes that are computed from them need no wait for the device."""
    ready: Mark
    """A mark behind the work that puts the audio on the device."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """Segments of a batch on a device, each cut into pieces of at most a given length."""

    audio: DeviceAudio
    """One item per piece: first the pieces of the first segment in the order of time, then those of the second, ..."""
    counts: Sequence[int]
    """The number of pieces of each segment; at least 1."""


def upload(batch: Batch, device: Device) -> DeviceAudio:
    """Return the audio of a batch on a device. Only the first call for a batch and a device copies the audio.

    The copy is queued. The host waits for it only if the audio of the batch is not in page-locked memory.
    """
    found: DeviceAudio | None = batch.uploads.get(device)
    if found is None:
        waveforms, lengths = (
            torch.from_numpy(array).to(device, non_blocking=True) for array in (batch.waveforms, batch.lengths)
        )
        found = batch.uploads.setdefault(device, DeviceAudio(waveforms, lengths, batch.lengths, Mark(device)))
    return found


def upload_pieces(batch: Batch, rows: Sequence[int], max_s: Seconds, device: Device) -> Pieces:
    """Return the segments ``rows`` of a batch on a device, cut into pieces as ``split_evenly`` cuts them.

    The pieces are cut on the device, from the audio that ``upload`` returns. If all segments are asked for and none is
    longer than ``max_s``, that audio itself is returned.
    """
    audio = upload(batch, device)
    if len(rows) == len(batch) and batch.waveforms.shape[1] <= round(max_s * SAMPLE_RATE):
        return Pieces(audio, [1] * len(batch))
    lengths = [[len(part) for part in split_evenly(batch.waveforms[row, : batch.lengths[row]], max_s)] for row in rows]
    flat = np.array([length for own in lengths for length in own], dtype=np.int64)
    cut = audio.waveforms.new_zeros(len(flat), int(flat.max(initial=0)))
    place = 0
    for row, own in zip(rows, lengths, strict=True):
        start = 0
        for length in own:
            cut[place, :length] = audio.waveforms[row, start : start + length]
            start, place = start + length, place + 1
    on_device = torch.from_numpy(flat).to(device, non_blocking=True)
    return Pieces(DeviceAudio(cut, on_device, flat, Mark(device)), [len(own) for own in lengths])


def cut_windows_on_device(audio: DeviceAudio, counts: Sequence[int], samples: int) -> Tensor:
    """Cut each item, from its start, into windows that do not overlap.

    An item that is shorter than its windows is repeated to fill them.

    Args:
        audio: B items.
        counts: the number of windows of each item, at least 1.
        samples: the length of a window.

    Returns:
        (W, samples) float32 windows of all items, one item after the other, on the device of the audio.
    """
    device = audio.waveforms.device
    rows = np.repeat(np.arange(len(counts)), counts)
    starts = np.concatenate([np.arange(count) * samples for count in counts])
    row, start, length = (
        torch.from_numpy(np.ascontiguousarray(one)).to(device, non_blocking=True)[:, None]
        for one in (rows, starts, audio.host_lengths[rows])
    )
    return audio.waveforms[row, (start + torch.arange(samples, device=device)) % length]

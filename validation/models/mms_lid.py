"""MMS-LID: which language is spoken, by Meta's wav2vec 2.0 of a billion parameters."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch

from validation.domain import Answer, Column
from validation.hardware.device import DeviceConfig, place_by_settings
from validation.models.base import Batch
from validation.models.language_id import LID_COLUMNS, LanguageLabels, classify_batch
from validation.models.mms_network import SHORTEST_SAMPLES, load_mms
from validation.models.weights_folder import open_weights_folder


class MmsLid:
    """MMS-LID, a judge of the suite ``indic``; how it computes is told by ``MmsNetwork``."""

    name: ClassVar[str] = "mms"
    columns: ClassVar[tuple[Column, ...]] = LID_COLUMNS

    def __init__(self, *, threads: int, root: Path | None = None, placement: DeviceConfig | None = None) -> None:
        """Load the network from its folder, as ``save_pretrained`` writes it. Nothing is ever fetched.

        Args:
            threads: threads to compute with on a CPU.
            root: where the folders of all weights lie; VFLEET_WEIGHTS if None.
            placement: where it computes, and in which precision; by the settings if None.

        Raises:
            WeightsRefused: a file is missing or altered.
            BadInput: the folder holds another kind of model, or none is named.
        """
        weights, placement = open_weights_folder("mms-lid-256", root), placement or place_by_settings()
        if placement.device == "cpu":
            torch.set_num_threads(threads)
        self._network = load_mms(weights.path, placement.device, placement.dtype)
        self._labels = LanguageLabels(self._network.labels)
        self.languages: frozenset[str] | None = frozenset(self._labels.codes)
        self.revision = f"{weights.revision}-{placement.precision}"

    def score(self, batch: Batch) -> Sequence[Answer]:
        """Name the language of each segment."""
        return classify_batch(batch, self._network.hear, self._labels, shortest=SHORTEST_SAMPLES)

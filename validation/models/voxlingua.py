"""VoxLingua107 ECAPA-TDNN: which language is spoken, by speechbrain's classifier of 107 languages."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from validation.domain import Answer, Column
from validation.errors import BadInput
from validation.hardware.device import DeviceConfig, place_by_settings
from validation.models.base import Batch
from validation.models.ecapa_padding import FrameCounts, reflect_pad_per_item
from validation.models.import_shims import importing_speechbrain
from validation.models.language_id import LID_COLUMNS, LanguageLabels, classify_batch
from validation.models.weights_folder import open_weights_folder


class VoxLingua107:
    """The ECAPA-TDNN of VoxLingua107, a judge of the suite ``indic``.

    It knows no Odia, Konkani, Maithili, Kashmiri, Dogri, Bodo, Santali or Manipuri, and abstains on them.

    As the library runs it, an answer depends on what else is in the batch. Here it does not: convolutions reflect at
    each item's own end, and the loudest frame, the mean and the pooling are of an item's own frames. It computes in
    single precision wherever it is: 3 % of the suite's work, and its pooling subtracts squares.
    """

    name: ClassVar[str] = "voxlingua"
    columns: ClassVar[tuple[Column, ...]] = LID_COLUMNS

    def __init__(self, *, threads: int, root: Path | None = None, placement: DeviceConfig | None = None) -> None:
        """Load the network from its folder, as speechbrain's ``from_hparams`` reads it. Nothing is ever fetched.

        Its ``hyperparams.yaml`` is code: what it builds and calls is as trusted as the lock that pins it.

        Args:
            threads: threads to compute with on a CPU.
            root: where the folders of all weights lie; VFLEET_WEIGHTS if None.
            placement: where it computes, by the settings if None; its precision is not this model's.

        Raises:
            WeightsRefused: a file is missing or altered.
            BadInput: the folder holds another kind of model, or none is named.
        """
        weights, device = open_weights_folder("voxlingua107-ecapa", root), (placement or place_by_settings()).device
        if device == "cpu":
            torch.set_num_threads(threads)
        classifier = _load_classifier(weights.path, device)
        self._network = _EcapaTdnn(classifier.mods, device)
        self._labels = LanguageLabels(_read_labels(classifier.hparams.label_encoder))
        self.languages: frozenset[str] | None = frozenset(self._labels.codes)
        self.revision = weights.revision

    def score(self, batch: Batch) -> Sequence[Answer]:
        """Name the language of each segment."""
        network = self._network
        return classify_batch(batch, network.listen, self._labels, shortest=network.shortest_samples)


class _EcapaTdnn:
    """The modules of an ``EncoderClassifier``, run so that items keep out of each other's way."""

    def __init__(self, modules: Any, device: str) -> None:
        self._features, self._norm = modules.compute_features, modules.mean_var_norm
        self._embed, self._classify = modules.embedding_model, modules.classifier
        self._device, self._counts = device, FrameCounts()
        _require_sentence_norm(self._norm, self._features)
        self._hop = self._features.compute_STFT.hop_length
        self.shortest_samples = reflect_pad_per_item(self._embed, self._counts) * self._hop

    @torch.inference_mode()
    def listen(self, waveforms: NDArray[np.float32], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
        """Hear (B, T) waveforms and give (B, L) probabilities of the labels."""
        counts = torch.from_numpy(lengths).to(self._device) // self._hop + 1
        features = self._describe(torch.from_numpy(waveforms).to(self._device), counts)
        # The library multiplies relative lengths by the frames again: from half a frame less it counts right.
        relative = (counts - 0.5) / features.shape[1]
        self._counts.of_items = counts
        embedded = self._embed(self._norm(features, relative), relative)
        log_p: Tensor = self._classify(embedded).squeeze(1)
        return log_p.double().exp().cpu().numpy()

    def _describe(self, audio: Tensor, counts: Tensor) -> Tensor:
        """Mel features in decibels, (B, F, M). Frames after an item's end are silenced first.

        They hear its last samples through the edge of their window, and decibels are cut off 80 below an item's
        loudest frame, which none of them may be.
        """
        from speechbrain.processing.features import spectral_magnitude  # noqa: PLC0415 - as speechbrain itself

        power = spectral_magnitude(self._features.compute_STFT(audio))
        real = torch.arange(power.shape[1], device=power.device) < counts[:, None]
        features: Tensor = self._features.compute_fbanks(power * real[..., None])
        return features


def _load_classifier(folder: Path, device: str) -> Any:
    # speechbrain gathers the files of a model in a folder of its own. Linking them there fails where that folder is
    # the source, and follows links that a store of weights may be made of; copies do neither.
    with importing_speechbrain(), tempfile.TemporaryDirectory(prefix="vfleet-voxlingua-") as gathered:
        from speechbrain.inference.classifiers import EncoderClassifier  # noqa: PLC0415 - see the context
        from speechbrain.utils.fetching import FetchConfig, LocalStrategy  # noqa: PLC0415

        return EncoderClassifier.from_hparams(
            source=str(folder),
            savedir=gathered,
            overrides={"pretrained_path": str(folder)},
            run_opts={"device": "cuda:0" if device == "cuda" else device},  # it reads an index out of the name
            local_strategy=LocalStrategy.COPY,
            fetch_config=FetchConfig(allow_network=False),
        )


def _read_labels(encoder: Any) -> list[str]:
    return [encoder.ind2lab[index] for index in range(len(encoder))]


def _require_sentence_norm(norm: Any, features: Any) -> None:
    found = (norm.norm_type, norm.std_norm, features.deltas, features.context)
    if found != ("sentence", False, False, False):
        raise BadInput(f"norm type, std norm, deltas and context are {found}; VoxLingua107 has sentence and none")

"""VoxLingua107 ECAPA-TDNN: identify the spoken language with speechbrain's classifier of 107 languages."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, ClassVar

import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional

from validation.domain import Answer, Column
from validation.errors import BadInput
from validation.hardware.device import DeviceConfig, allowing_tf32, device_from_settings
from validation.models.base import Answering, Batch
from validation.models.import_shims import importing_speechbrain
from validation.models.language_id import LID_COLUMNS, LanguageLabels, launch_classification, refuse_unknown_labels
from validation.models.mms_lid import require_exact_parameters
from validation.models.upload import DeviceAudio
from validation.models.weights_folder import open_weights_folder

_PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map"))
_ALLOWED_TAGS = _PLAIN_TAGS | {
    "!ref",
    "!copy",
    "!tuple",
    "!name:torch.nn.LeakyReLU",
    "!new:speechbrain.dataio.encoder.CategoricalEncoder",
    "!new:speechbrain.lobes.features.Fbank",
    "!new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN",
    "!new:speechbrain.lobes.models.Xvector.Classifier",
    "!new:speechbrain.processing.features.InputNormalization",
    "!new:speechbrain.utils.parameter_transfer.Pretrainer",
}
"""The YAML tags in the hyperparams.yaml of VoxLingua107. A tag that is added here must not run code from the folder."""


class UnsafeWeightsFolder(BadInput):
    """A weights folder would construct an object or call a function that its model does not need."""

    def __init__(self, path: Path, what: str) -> None:
        self.path, self.what = path, what
        super().__init__(f"{path} is not loaded: {what}; download the weights again from their source")


def check_hyperparams(folder: Path) -> None:
    """Check that ``hyperparams.yaml`` constructs the known objects only, and that the folder holds no Python module.

    Raises:
        UnsafeWeightsFolder: ``hyperparams.yaml`` constructs another object, calls a function or includes a file, or the
            folder holds a Python module.
        BadInput: ``hyperparams.yaml`` is not YAML.
    """
    for module in sorted(folder.rglob("*.py")):
        raise UnsafeWeightsFolder(module, "a weights folder holds no Python module, and speechbrain would import it")
    path = folder / "hyperparams.yaml"
    try:
        events = list(yaml.parse(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not YAML: {error}") from None
    for event in events:
        tag = getattr(event, "tag", None)
        if tag is not None and tag not in _ALLOWED_TAGS:
            mark = event.start_mark
            place = f"line {mark.line + 1}" if mark else "a line"
            raise UnsafeWeightsFolder(path, f"{place} has the tag {tag}, which is not on the list")


_UNSAFE_LOADING = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
"""The environment variable that makes ``torch.load`` run the code in a pickle."""


class VoxLingua107:
    """The ECAPA-TDNN of VoxLingua107, a LID model of the suite ``indic``.

    The model does not know Odia, Konkani, Maithili, Kashmiri, Dogri, Bodo, Santali and Manipuri, and abstains on them.

    In speechbrain an answer depends on the rest of the batch. Here it does not: convolutions reflect at each item's own
    end, and the loudest frame, the mean and the pooling cover an item's own frames only. The model computes in single
    precision on every device, because its pooling subtracts squares, which would lose accuracy in half precision. If
    the large networks compute in half precision on a GPU, this model multiplies in TF32, as its revision says.
    """

    name: ClassVar[str] = "voxlingua"
    columns: ClassVar[tuple[Column, ...]] = LID_COLUMNS

    def __init__(self, *, threads: int, root: Path | None = None, device_config: DeviceConfig | None = None) -> None:
        """Load the network from its folder with speechbrain's ``from_hparams``. Nothing is downloaded.

        Every file is checked against the lock first. ``hyperparams.yaml`` may construct only the objects of this
        network, and pickles may hold only tensors.

        Args:
            threads: the number of CPU threads; not used on a GPU.
            root: the folder of all weights folders; VFLEET_WEIGHTS if None.
            device_config: the device, and whether products may be in TF32; None reads them from the settings.

        Raises:
            WeightsRefused: a file is missing or altered.
            BadInput: the folder holds another kind of model or any code, VFLEET_WEIGHTS is not set, or the settings ask
                for a missing GPU.
        """
        weights = open_weights_folder("voxlingua107-ecapa", root)
        device_config = device_config or device_from_settings()
        self.device, self._tf32 = device_config.device, device_config.tf32
        if self.device == "cpu":
            torch.set_num_threads(threads)
        classifier = _load_classifier(weights.path, self.device)
        _require_exact_checkpoints(weights.path, classifier.mods)
        self._network = EcapaTdnn(classifier.mods, self.device)
        labels = _read_labels(classifier.hparams.label_encoder)
        refuse_unknown_labels(self.name, labels)
        self._labels = LanguageLabels(labels)
        self.languages: frozenset[str] | None = frozenset(self._labels.codes)
        self.revision = f"{weights.revision}-tf32" if self._tf32 else weights.revision

    def score(self, batch: Batch) -> Sequence[Answer]:
        """Identify the language of each segment."""
        return self.launch(batch)()

    def launch(self, batch: Batch) -> Answering:
        """Queue the network for a batch. The returned function waits for it and makes the answers."""
        with allowing_tf32(self._tf32):
            return launch_classification(
                batch, self._network.predict, self._labels, self.device, min_samples=self._network.min_samples
            )


class FrameCounts:
    """A holder of the number of frames of each item, which is set before each call and which the convolutions read."""

    def __init__(self) -> None:
        self.of_items = torch.zeros(0, dtype=torch.int64)
        """(B,) int64, on the device of the network."""


class ReflectingConv1d(nn.Module):
    """A speechbrain ``Conv1d`` (``same``, ``reflect``) whose right reflection starts at each item's own last frame.

    speechbrain reflects at the end of the batch, so the padding of a shorter item changes its embedding (cosine
    distances of 0.02 to 0.9 to the embedding of the item alone). For an item of n frames and a convolution of reach p,
    this module writes ``x[n-1-j]`` to index ``n-1+j`` for ``j = 1..p``, which is the reflection of the item alone. No
    frame of the item depends on frames further right.
    """

    def __init__(self, conv: nn.Module, reach: int, counts: FrameCounts) -> None:
        super().__init__()
        self._conv, self._reach, self._counts = conv, reach, counts

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, T) to (B, C', T)."""
        reach, last = self._reach, self._counts.of_items[:, None] - 1
        padded = functional.pad(x, (reach, reach))
        padded[:, :, :reach] = x[:, :, 1 : reach + 1].flip(-1)
        step = torch.arange(1, reach + 1, device=x.device)
        source, target = (last - step)[:, None, :], (last + step + reach)[:, None, :]
        mirrored = x.gather(2, source.expand(-1, x.shape[1], -1))
        padded.scatter_(2, target.expand(-1, x.shape[1], -1), mirrored)
        result: Tensor = self._conv(padded)
        return result


def reflect_pad_per_item(network: nn.Module, counts: FrameCounts) -> int:
    """Replace every convolution of a network that covers more than one frame by a ``ReflectingConv1d``.

    Returns:
        The greatest reach of a convolution to one side, in frames. An item needs at least one frame more.

    Raises:
        BadInput: a convolution pads in another way, so the network is not speechbrain's ECAPA-TDNN.
    """
    from speechbrain.nnet.CNN import Conv1d  # noqa: PLC0415 - torchaudio must have been allowed first

    max_reach = 0
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Conv1d) and child.kernel_size > 1:
                reach = _reach_of(child)
                setattr(parent, name, ReflectingConv1d(child.conv, reach, counts))
                max_reach = max(max_reach, reach)
    return max_reach


class EcapaTdnn:
    """A runner of the modules of an ``EncoderClassifier``. No item of a batch changes the answer for another item.

    On a GPU the host does not wait for the device.
    """

    def __init__(self, modules: Any, device: torch.device | str) -> None:
        """Prepare modules that are on the device already; they are changed in place.

        Raises:
            BadInput: the modules are not those of VoxLingua107.
        """
        self._features, norm = modules.compute_features, modules.mean_var_norm
        self._embed, self._classify = modules.embedding_model, modules.classifier
        self._counts = FrameCounts()
        _require_sentence_norm(norm, self._features)
        self._hop, self._filters = self._features.compute_STFT.hop_length, _read_filters(self._features).to(device)
        # speechbrain moves its window to the device at each call, which would wait for the device.
        self._features.compute_STFT.window = self._features.compute_STFT.window.to(device)
        self.min_samples = reflect_pad_per_item(self._embed, self._counts) * self._hop
        """The length of the shortest item in samples."""

    @torch.inference_mode()
    def predict(self, audio: DeviceAudio) -> Tensor:
        """Return the (B, L) float64 label probabilities of B items of audio, on the device of the audio.

        Each item has at least ``min_samples``.
        """
        counts = audio.lengths // self._hop + 1
        mask = torch.arange(audio.waveforms.shape[1] // self._hop + 1, device=counts.device) < counts[:, None]
        features = self._compute_features(audio.waveforms, mask)
        # The mean of each mel over an item's own frames is subtracted, as speechbrain's norm of a sentence does.
        # speechbrain itself reads the lengths on the host, which would wait for the device.
        mean = (features * mask[..., None]).sum(dim=1, keepdim=True) / counts[:, None, None]
        # speechbrain multiplies relative lengths by the number of frames. With half a frame less it rounds correctly.
        relative = (counts - 0.5) / features.shape[1]
        self._counts.of_items = counts
        log_p: Tensor = self._classify(self._embed(features - mean, relative)).squeeze(1)
        return log_p.double().exp()

    def _compute_features(self, audio: Tensor, mask: Tensor) -> Tensor:
        """Compute the (B, F, M) mel features of (B, T) audio in decibels, with zero power after each item's end.

        ``mask`` is (B, F) bool, True for the frames of the item. The power of the other frames is set to zero.
        The windows of those frames still cover the item's last samples, so one of those frames could be the loudest.
        speechbrain cuts features off at 80 dB below an item's loudest frame.
        """
        from speechbrain.processing.features import spectral_magnitude  # noqa: PLC0415 - as speechbrain itself

        power = spectral_magnitude(self._features.compute_STFT(audio))
        mels = (power * mask[..., None]) @ self._filters
        features: Tensor = self._features.compute_fbanks._amplitude_to_DB(mels)  # noqa: SLF001 - speechbrain's own
        return features


def _read_filters(features: Any) -> Tensor:
    """Return the (frequencies, mels) float32 filters, on the host. speechbrain itself computes them at each call.

    Raises:
        BadInput: the features are not in decibels.
    """
    fbanks = features.compute_fbanks
    if not fbanks.log_mel:
        raise BadInput("hyperparams.yaml sets log_mel to False; VoxLingua107 has features in decibels")
    fbanks.log_mel = False
    try:
        filters: Tensor = fbanks(torch.eye(fbanks.n_stft)[None])[0]
    finally:
        fbanks.log_mel = True
    return filters


def _load_classifier(folder: Path, device: str) -> Any:
    """Load the classifier from a folder whose hashes have been checked.

    Raises:
        BadInput: a file of the folder would construct more than the network and its tensors, or ``_UNSAFE_LOADING`` is
            set.
    """
    check_hyperparams(folder)
    if os.environ.get(_UNSAFE_LOADING):
        raise BadInput(f"{_UNSAFE_LOADING} is set: pickles would be loaded with their code; unset it")
    try:
        return _load_with_speechbrain(folder, device)
    except UnpicklingError as error:
        first = str(error).partition("\n")[0]
        raise BadInput(f"{folder} is not loaded: a checkpoint holds more than tensors ({first})") from None


def _load_with_speechbrain(folder: Path, device: str) -> Any:
    """Load the ``EncoderClassifier`` from a folder without access to the network."""
    # speechbrain gathers the files of a model in a folder, as links or as copies. Linking fails if that folder is the
    # source, and it follows the links that a weights folder may contain. Copying has neither problem.
    with importing_speechbrain(), tempfile.TemporaryDirectory(prefix="vfleet-voxlingua-") as gathered:
        from speechbrain.inference.classifiers import EncoderClassifier  # noqa: PLC0415 - see the context
        from speechbrain.utils.fetching import FetchConfig, LocalStrategy  # noqa: PLC0415

        return EncoderClassifier.from_hparams(
            source=str(folder),
            savedir=gathered,
            overrides={"pretrained_path": str(folder)},
            run_opts={"device": "cuda:0" if device == "cuda" else device},  # speechbrain parses an index in the name
            local_strategy=LocalStrategy.COPY,
            fetch_config=FetchConfig(allow_network=False),
        )


def _require_exact_checkpoints(folder: Path, modules: Any) -> None:
    """Check that checkpoints hold exactly the parameters of the modules. speechbrain only warns of differences."""
    for name in ("embedding_model", "classifier"):
        path = folder / f"{name}.ckpt"
        found, expected = (
            torch.load(path, map_location="meta", weights_only=True).keys(),
            modules[name].state_dict().keys(),
        )
        require_exact_parameters(path, expected - found, found - expected)


def _read_labels(encoder: Any) -> list[str]:
    """Return the labels in the order of the network's outputs."""
    return [encoder.ind2lab[index] for index in range(len(encoder))]


def _require_sentence_norm(norm: Any, features: Any) -> None:
    """Check that features are normalised by their mean over the item, and have no deltas; else raise ``BadInput``."""
    found = (norm.norm_type, norm.std_norm, features.deltas, features.context)
    if found != ("sentence", False, False, False):
        raise BadInput(
            f"hyperparams.yaml sets norm type, std norm, deltas and context to {found}; VoxLingua107 has "
            "('sentence', False, False, False)"
        )


def _reach_of(conv: Any) -> int:
    """Return how many frames a convolution reaches to one side; raise ``BadInput`` if it does not reflect."""
    padding = (conv.padding, conv.padding_mode, conv.stride, conv.skip_transpose)
    if padding != ("same", "reflect", 1, True):
        raise BadInput(f"a convolution of the embedding model pads as {padding}; an ECAPA-TDNN's does not")
    return int((conv.kernel_size - 1) * conv.dilation // 2)

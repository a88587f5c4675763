"""MMS-LID: identify the spoken language with Meta's wav2vec 2.0 of a billion parameters, built by transformers.

The convolutions of the front end are computed as matrix products on frames, which is faster and needs less memory.
"""

import os
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrize import remove_parametrizations

from validation.domain import SAMPLE_RATE, Answer, Column
from validation.errors import BadInput
from validation.hardware.device import DeviceConfig, device_from_settings
from validation.models.base import Answering, Batch
from validation.models.compiled import compile_from_settings
from validation.models.import_shims import allow_torchaudio
from validation.models.language_id import LID_COLUMNS, LanguageLabels, launch_classification, refuse_unknown_labels
from validation.models.upload import DeviceAudio
from validation.models.weights_folder import open_weights_folder


class FrameFrontEnd(nn.Module):
    """The feature extractor of a wav2vec 2.0 with layer norms. It equals the library's extractor up to rounding.

    The library stores channels before time, so each layer transposes twice around its norm. This class stores time
    before channels. Then the input of a frame is contiguous, the convolution is a matrix product, and the norm needs no
    transpose. On one CPU core this takes half the time.
    """

    def __init__(self, stock: Any, max_samples: int) -> None:
        """Build the layers from the library's layers.

        Args:
            stock: the library's ``Wav2Vec2FeatureEncoder``, whose ``feat_extract_norm`` is ``layer``.
            max_samples: the maximum of rows times samples that is computed at once; it bounds the memory.
        """
        super().__init__()
        self.layers = nn.ModuleList(_FrameLayer(layer) for layer in stock.conv_layers)
        self.max_samples = max_samples

    def forward(self, audio: Tensor) -> Tensor:
        """Compute the (B, C, F) features of (B, T) audio."""
        rows = max(1, self.max_samples // audio.shape[1])
        return torch.cat([self._run(audio[start : start + rows]) for start in range(0, len(audio), rows)])

    def _run(self, audio: Tensor) -> Tensor:
        """Compute the (B, C, F) features of (B, T) audio in one pass, without dividing the batch."""
        hidden = audio[:, :, None].contiguous()
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden.transpose(1, 2)


class _FrameLayer(nn.Module):
    """A convolution without padding, a layer norm and an activation: (B, T, C) to (B, T', C')."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        conv = stock.conv
        (self.kernel,), (self.stride,) = conv.kernel_size, conv.stride
        self.linear = nn.Linear(conv.in_channels * self.kernel, conv.out_channels, bias=conv.bias is not None)
        weights = conv.weight.detach().transpose(1, 2).flatten(1)
        self.linear.load_state_dict({"weight": weights} | ({} if conv.bias is None else {"bias": conv.bias}))
        self.norm, self.activation = stock.layer_norm, stock.activation

    def forward(self, hidden: Tensor) -> Tensor:
        """Compute (B, T', C') from (B, T, C), which must be contiguous: windows are views into its memory."""
        batch, frames, channels = hidden.shape
        count = (frames - self.kernel) // self.stride + 1
        windows = hidden.as_strided(
            (batch, count, self.kernel * channels), (frames * channels, self.stride * channels, 1)
        )
        projected = functional.linear(windows, self.linear.weight, self.linear.bias)
        activated: Tensor = self.activation(self.norm(projected))
        return activated


FRONT_END_S = 80.0
"""Seconds of audio that the convolutions process at once. In half precision each layer takes 3.3 MB per second, and
three layers are in memory at a time. Without this limit the convolutions would need more than the transformer."""
MIN_SAMPLES = 400
"""The shortest audio, in samples: the convolutions compute one frame from it."""

_VARIANCE_FLOOR = 1e-7
"""The constant that ``Wav2Vec2FeatureExtractor`` adds to the variance."""


class MmsLid:
    """MMS-LID, a LID model of the suite ``indic``; ``MmsNetwork`` documents the computation."""

    name: ClassVar[str] = "mms"
    columns: ClassVar[tuple[Column, ...]] = LID_COLUMNS

    def __init__(self, *, threads: int, root: Path | None = None, device_config: DeviceConfig | None = None) -> None:
        """Load the network from a folder that ``save_pretrained`` has written. Nothing is downloaded.

        Args:
            threads: the number of CPU threads; not used on a GPU.
            root: the folder of all weights folders; VFLEET_WEIGHTS if None.
            device_config: device and precision; None reads them from the settings.

        Raises:
            WeightsRefused: a file is missing or altered.
            BadInput: the folder holds another kind of model, VFLEET_WEIGHTS is not set, or the settings ask for a
                missing GPU.
        """
        weights = open_weights_folder("mms-lid-256", root)
        device_config = device_config or device_from_settings()
        self.device = device_config.device
        if self.device == "cpu":
            torch.set_num_threads(threads)
        self._network = load_mms(weights.path, device_config.device, device_config.dtype)
        compile_from_settings(self._network.layers, self.device)
        refuse_unknown_labels(self.name, self._network.labels)
        self._labels = LanguageLabels(self._network.labels)
        self.languages: frozenset[str] | None = frozenset(self._labels.codes)
        self.revision = f"{weights.revision}-{device_config.precision}"

    def score(self, batch: Batch) -> Sequence[Answer]:
        """Identify the language of each segment."""
        return self.launch(batch)()

    def launch(self, batch: Batch) -> Answering:
        """Queue the network for a batch. The returned function waits for it and makes the answers."""
        return launch_classification(batch, self._network.forward, self._labels, self.device, min_samples=MIN_SAMPLES)


class MmsNetwork:
    """The network of MMS-LID, which computes the probability of each label from waveforms.

    Padding changes no answer: convolutions are not padded, each frame is normalised by itself, and padded frames are
    zeroed before the positional convolution and masked in attention and in the mean.

    In half precision the mean over time and the head still compute in float32, because a sum over the frames of a
    minute exceeds the range of float16.
    """

    def __init__(self, network: Any, device: str, dtype: torch.dtype) -> None:
        """Prepare a ``Wav2Vec2ForSequenceClassification`` for the device; its modules are changed in place."""
        encoder, model = network.wav2vec2.encoder, network.wav2vec2
        # Without this, every call computes the weight norm of the positional convolution again.
        remove_parametrizations(encoder.pos_conv_embed.conv, "weight")
        model.feature_extractor = FrameFrontEnd(model.feature_extractor, round(FRONT_END_S * SAMPLE_RATE))
        network.eval().to(device, dtype)
        network.projector = _InFloat32(network.projector)
        network.classifier = _InFloat32(network.classifier)
        self._network, self._dtype = network, dtype

    @property
    def labels(self) -> list[str]:
        """The labels of the network's outputs, in the order of the outputs."""
        config = self._network.config
        return [config.id2label[index] for index in range(config.num_labels)]

    @property
    def layers(self) -> nn.ModuleList:
        """The layers of the transformer, which are most of the work."""
        layers: nn.ModuleList = self._network.wav2vec2.encoder.layers
        return layers

    @torch.inference_mode()
    def forward(self, audio: DeviceAudio) -> Tensor:
        """Return the (B, L) float64 label probabilities of B items of audio, on the device of the audio.

        Each item has at least ``MIN_SAMPLES``. The steps are those of the library's
        ``Wav2Vec2ForSequenceClassification``. They are repeated here, because the library reads the mask on the host.
        For that the host would wait for the device.
        """
        model = self._network.wav2vec2
        samples = audio.waveforms.shape[1]
        mask = torch.arange(samples, device=audio.waveforms.device) < audio.lengths[:, None]
        values = normalise(audio.waveforms, mask).to(self._dtype)
        hidden, _ = model.feature_projection(model.feature_extractor(values).transpose(1, 2))
        frames = model._get_feat_extract_output_lengths(audio.lengths)  # noqa: SLF001 - the library's own formula
        own = torch.arange(hidden.shape[1], device=hidden.device) < frames[:, None]
        hidden = hidden * own[..., None]
        hidden = hidden + model.encoder.pos_conv_embed(hidden)
        for layer in self.layers:
            hidden = layer(hidden, attention_mask=own[:, None, None])
        projected = self._network.projector(model.encoder.layer_norm(hidden)) * own[..., None]
        logits: Tensor = self._network.classifier(projected.sum(dim=1) / frames[:, None])
        return logits.double().softmax(dim=-1)


def load_mms(folder: Path, device: str, dtype: torch.dtype) -> MmsNetwork:
    """Load the network from a folder that ``save_pretrained`` has written, without access to the Hugging Face hub.

    Raises:
        BadInput: the folder holds another kind of model, or other weights than those of the network. With group norm,
            for example, answers would depend on the padding.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is first imported
    allow_torchaudio()
    library: Any = import_module("transformers")
    library.utils.logging.disable_progress_bar()  # it would fill a worker's log
    extractor = library.AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
    network, loading = library.Wav2Vec2ForSequenceClassification.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, attn_implementation="sdpa", output_loading_info=True
    )
    _require_setting(folder, "feat_extract_norm", network.config.feat_extract_norm, "layer")
    _require_setting(folder, "do_normalize", extractor.do_normalize, True)
    _require_setting(folder, "sampling_rate", extractor.sampling_rate, SAMPLE_RATE)
    require_exact_parameters(folder / "model.safetensors", loading["missing_keys"], loading["unexpected_keys"])
    return MmsNetwork(network, device, dtype)


def require_exact_parameters(file: Path, missing: Iterable[str], unexpected: Iterable[str]) -> None:
    """Check that a weight file holds exactly the parameters of the network. A missing parameter would stay random.

    Only ``masked_spec_embed``, which is used in training, may be missing.

    Raises:
        BadInput: parameters are missing or unexpected. The message gives one missing and one unexpected parameter.
    """
    without = sorted(name for name in missing if not name.endswith("masked_spec_embed"))
    beyond = sorted(unexpected)
    if without or beyond:
        lacks = f"lacks {len(without)} parameters such as {without[0]}" if without else ""
        holds = (
            f"holds {len(beyond)} parameters such as {beyond[0]}, which have no place in the network" if beyond else ""
        )
        raise BadInput(f"{file} {' and '.join(filter(None, (lacks, holds)))}: download the folder again")


def normalise(audio: Tensor, mask: Tensor) -> Tensor:
    """Normalise each utterance to zero mean and unit variance, and set its padding to zero.

    Args:
        audio: (B, T) float32, zero in the padding.
        mask: (B, T) bool, True where there is audio.

    Returns:
        (B, T) float32, as ``Wav2Vec2FeatureExtractor(do_normalize=True)`` returns it for each utterance alone.
    """
    count = mask.sum(dim=1, keepdim=True)
    centred = (audio - audio.sum(dim=1, keepdim=True) / count) * mask
    variance = centred.square().sum(dim=1, keepdim=True) / count
    return centred / (variance + _VARIANCE_FLOOR).sqrt()


class _InFloat32(nn.Module):
    """A wrapper that converts its input to float32 and runs a module in float32."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner.float()

    def forward(self, hidden: Tensor) -> Any:
        """Return the float32 output of the module."""
        return self.inner(hidden.float())


def _require_setting(folder: Path, key: str, found: object, expected: object) -> None:
    """Raise ``BadInput`` if a value of the model's configuration is not the expected one."""
    if found != expected:
        raise BadInput(
            f"{folder}: {key} is {found!r} where MMS-LID has {expected!r}; answers would depend on padding: "
            "put the files of facebook/mms-lid-256 there"
        )

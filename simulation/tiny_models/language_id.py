"""Tiny LID models of the suite `indic`, saved by their own libraries in the file layouts of the real models.

Their weights are random, so their answers are meaningless. They are loaded and batched as the real models are.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from validation.models.import_shims import allow_torchaudio, importing_speechbrain

MMS_LABELS = ("ara", "cmn", "eng", "spa", "fra", "hin", "tam", "ory", "npi", "kok", "urd", "swa", "swh", "ast")
"""Labels in the format of MMS-LID. This project maps `swa` and `swh` to one language; `ast` has no two-letter code."""
VOXLINGUA_LABELS = (
    *("ar: Arabic", "as: Assamese", "bn: Bengali", "en: English", "hi: Hindi", "iw: Hebrew", "jw: Javanese"),
    *("ne: Nepali", "ta: Tamil", "te: Telugu", "ur: Urdu", "zh: Chinese"),
)


@dataclass(frozen=True)
class MmsSize:
    """The dimensions of a wav2vec 2.0 network. Kernels and strides are those of the real model."""

    layers: int = 2
    hidden: int = 32
    feed_forward: int = 64
    heads: int = 4
    conv: int = 16
    classifier: int = 24


def save_mms(folder: Path, size: MmsSize | None = None, *, seed: int = 0, **changes: Any) -> Path:
    """Save a random MMS-LID as transformers does. ``changes`` override its configuration. Return the folder."""
    allow_torchaudio()
    library: Any = import_module("transformers")
    library.utils.logging.disable_progress_bar()
    size = size or MmsSize()
    kernels = (10, 3, 3, 3, 3, 2, 2)
    settings: dict[str, Any] = {
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": size.feed_forward,
        "conv_dim": (size.conv,) * len(kernels),
        "conv_kernel": kernels,
        "conv_stride": (5, 2, 2, 2, 2, 2, 2),
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
        "feat_extract_norm": "layer",
        "do_stable_layer_norm": True,
        "conv_bias": True,
        "classifier_proj_size": size.classifier,
        "id2label": dict(enumerate(MMS_LABELS)),
        "label2id": {label: index for index, label in enumerate(MMS_LABELS)},
    }
    torch.manual_seed(seed)
    network = library.Wav2Vec2ForSequenceClassification(library.Wav2Vec2Config(**settings | changes))
    # With the default initialisation, all labels would have about the same probability for any audio.
    nn.init.normal_(network.classifier.weight, std=2.0)
    network.save_pretrained(folder)
    library.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)
    return folder


def save_voxlingua(folder: Path, *, channels: int = 16, seed: int = 0) -> Path:
    """Save a random VoxLingua107 ECAPA as speechbrain does: recipe, checkpoints, label encoder. Return the folder."""
    with importing_speechbrain():
        from speechbrain.dataio.encoder import CategoricalEncoder  # noqa: PLC0415 - see the context
        from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN  # noqa: PLC0415
        from speechbrain.lobes.models.Xvector import Classifier  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hyperparams.yaml").write_text(_RECIPE.format(channels=channels, wide=3 * channels))
    torch.manual_seed(seed)
    widths = {"channels": [channels] * 4 + [3 * channels], "attention_channels": 16, "lin_neurons": 32}
    embed = ECAPA_TDNN(60, kernel_sizes=[5, 3, 3, 3, 1], dilations=[1, 2, 3, 4, 1], **widths)
    classify = Classifier(
        [None, None, 32], activation=nn.LeakyReLU, lin_blocks=1, lin_neurons=48, out_neurons=len(VOXLINGUA_LABELS)
    )
    for module in [*embed.modules(), *classify.modules()]:
        if isinstance(module, nn.BatchNorm1d):  # trained norms are never the identity
            nn.init.normal_(module.get_buffer("running_mean"), 0, 0.1)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 1.5)
    nn.init.normal_(classify.out.w.weight, std=2.0)
    torch.save(embed.state_dict(), folder / "embedding_model.ckpt")
    torch.save(classify.state_dict(), folder / "classifier.ckpt")
    encoder = CategoricalEncoder()
    encoder.update_from_iterable(VOXLINGUA_LABELS, sequence_input=False)
    encoder.save(folder / "label_encoder.txt")
    return folder


_RECIPE = """\
pretrained_path: speechbrain/lang-id-voxlingua107-ecapa
n_mels: 60
left_frames: 0
right_frames: 0
deltas: False
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
    left_frames: !ref <left_frames>
    right_frames: !ref <right_frames>
    deltas: !ref <deltas>
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels>
    channels: [{channels}, {channels}, {channels}, {channels}, {wide}]
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
    attention_channels: 16
    lin_neurons: 32
classifier: !new:speechbrain.lobes.models.Xvector.Classifier
    input_shape: [null, null, 32]
    activation: !name:torch.nn.LeakyReLU
    lin_blocks: 1
    lin_neurons: 48
    out_neurons: 12
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    classifier: !ref <classifier>
label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
        classifier: !ref <classifier>
        label_encoder: !ref <label_encoder>
    paths:
        embedding_model: !ref <pretrained_path>/embedding_model.ckpt
        classifier: !ref <pretrained_path>/classifier.ckpt
        label_encoder: !ref <pretrained_path>/label_encoder.txt
"""

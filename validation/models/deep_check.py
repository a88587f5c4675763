"""The deep check of the weights of the suite `indic`.

The checks compare features and log-probabilities with the results of the published files, read the labels of the LID
models, and score speech with known text.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from validation.domain import Utterance, Waveform
from validation.hardware.device import DeviceConfig, device_from_settings
from validation.models.batching import pad_batch
from validation.models.conformer.graph import FRONT_END_FILE, count_symbols, read_graph
from validation.models.conformer.mel import LogMel
from validation.models.conformer.onnx_engine import OnnxEngine
from validation.models.conformer.onnx_to_torch import load_torch_engine
from validation.models.conformer.tokenizer import Vocabulary, read_vocabulary
from validation.models.mms_lid import MmsLid
from validation.models.onnx import create_onnx_session
from validation.models.self_test import MAX_CER, read_clip, transcribe_clips
from validation.models.suite import count_cores, load_suite
from validation.models.suites import SUITES
from validation.models.upload import upload
from validation.models.voxlingua import VoxLingua107
from validation.models.weights_folder import open_weights_folder

TOLERANCE = 1e-4
"""The greatest allowed difference of a feature or log-probability from the result of the published files."""


@dataclass(frozen=True, slots=True)
class WeightsCheck:
    """The result of one comparison."""

    model: str
    """The name of the model in the suite."""
    subject: str
    """What is compared, such as ``labels`` or ``text of <clip>``."""
    found: str
    """The measured difference, or a description of what was found."""
    passed: bool


def run_deep_check(root: Path | None = None) -> Iterator[WeightsCheck]:
    """Check the weights below ``root``, or below VFLEET_WEIGHTS if ``root`` is None; yield one result per comparison.

    Cheap checks come first: the front end, the graphs, the labels, then speech with known text. Speech is checked only
    if ``root`` is None.

    Raises:
        BadInput: a weights folder does not load. Its checks, and all checks after them, are not made.
    """
    assets = open_weights_folder("indicconformer-600m", root).path / "assets"
    clips = [read_clip(name) for name in SUITES["indic"].known_clips]
    audios = [clip.audio for clip in clips]
    yield _check_front_end(assets.parent / FRONT_END_FILE, audios)
    vocabulary = read_vocabulary(assets, count_symbols(read_graph(assets / "ctc_decoder.onnx")))
    languages = np.array([vocabulary.index_of[clip.language or ""] for clip in clips])
    yield from _check_conformer_engines(assets, vocabulary, audios, languages)
    yield from _check_labels(vocabulary, root)
    if root is None:
        yield from _check_speech()


def _check_front_end(path: Path, audios: list[Waveform]) -> WeightsCheck:
    """Compare the features of ``LogMel`` with those of the published front end, one clip at a time."""
    model, subject = "conformer", f"features against {path.name}"
    if not path.is_file():
        return WeightsCheck(model, subject, f"{path} is missing: run `make weights` again", passed=False)
    load: Callable[..., Any] = torch.jit.load
    published, ours, worst = load(path, map_location="cpu").eval(), LogMel(), 0.0
    for audio in audios:
        waveform, length = torch.from_numpy(audio)[None], torch.tensor([len(audio)])
        with torch.inference_mode():
            expected, frames = published(input_signal=waveform, length=length)
            found, counts = ours(waveform, length)
        if int(frames[0]) != int(counts[0]):
            return WeightsCheck(model, subject, f"{int(counts[0])} frames, not {int(frames[0])}", passed=False)
        worst = max(worst, float((found - expected[:, :, : found.shape[2]]).abs().max()))
    return WeightsCheck(model, subject, f"{worst:.1e}", passed=worst <= TOLERANCE)


def _check_conformer_engines(
    assets: Path, vocabulary: Vocabulary, audios: list[Waveform], languages: NDArray[np.int64]
) -> Iterator[WeightsCheck]:
    """Compare IndicConformer's engines, ``OnnxEngine`` and ``TorchEngine``, with the published graphs without patches.

    The engines run on one padded batch of all clips, the published graphs on one clip at a time.
    """
    expected = _run_published_graphs(assets, vocabulary, audios, languages)
    batch = pad_batch([Utterance(audio, "", None) for audio in audios])
    device = DeviceConfig(device_from_settings().device, "float32")
    for load in (
        lambda: OnnxEngine(assets, vocabulary, threads=count_cores(), device=device.device),
        lambda: load_torch_engine(assets, vocabulary, device),
    ):
        engine = load()
        output = engine.run(upload(batch, device.device), languages)
        found = [own[:count] for own, count in zip(output.log_probs.cpu().numpy(), output.frames, strict=True)]
        subject = f"{engine.name} against the published graphs"
        if [len(own) for own in found] != [len(own) for own in expected]:
            yield WeightsCheck("conformer", subject, "other numbers of frames", passed=False)
            continue
        worst = max(float(np.abs(own - other).max()) for own, other in zip(found, expected, strict=True))
        same_text = all(
            np.array_equal(own.argmax(axis=1), other.argmax(axis=1)) for own, other in zip(found, expected, strict=True)
        )
        text = "same text" if same_text else "other text"
        yield WeightsCheck("conformer", subject, f"{worst:.1e}, {text}", passed=worst <= TOLERANCE and same_text)


def _run_published_graphs(
    assets: Path, vocabulary: Vocabulary, audios: list[Waveform], languages: NDArray[np.int64]
) -> list[NDArray[np.float32]]:
    """Run the published graphs, without patches, on one clip at a time.

    Returns:
        For each clip, (T, 257) log-probabilities of the subword pieces of the clip's language.
    """
    sessions = [
        create_onnx_session(graph.proto.SerializeToString(), threads=count_cores(), weights=graph.weights)
        for graph in (read_graph(assets / "encoder.onnx"), read_graph(assets / "ctc_decoder.onnx"))
    ]
    mel, outputs = LogMel(), []
    for audio, language in zip(audios, languages, strict=True):
        features, counts = mel(torch.from_numpy(audio)[None], torch.tensor([len(audio)]))
        encoded, _ = sessions[0].run(None, {"audio_signal": features.numpy(), "length": counts.numpy()})
        (logits,) = sessions[1].run(None, {"encoder_output": encoded})
        own = torch.from_numpy(logits[0][:, vocabulary.columns[language]])
        outputs.append(own.log_softmax(dim=1).numpy())
    return outputs


def _check_labels(vocabulary: Vocabulary, root: Path | None) -> Iterator[WeightsCheck]:
    """Load each LID model, and list the languages of IndicConformer on which the LID model abstains.

    These checks always pass, because a LID model may abstain.

    Raises:
        BadInput: a label of a LID model is no known language code.
    """
    device = DeviceConfig(device_from_settings().device, "float32")
    for kind in (MmsLid, VoxLingua107):
        model = kind(threads=count_cores(), root=root, device_config=device)
        unknown = sorted(set(vocabulary.languages) - (model.languages or frozenset()))
        abstains = f"abstains on {', '.join(unknown)}" if unknown else "knows all languages of conformer"
        yield WeightsCheck(model.name, "labels", f"{len(model.languages or ())} languages; {abstains}", passed=True)


def _check_speech() -> Iterator[WeightsCheck]:
    """Score the clips of the suite ``indic`` on the configured device; check the recognised texts and languages."""
    suite = load_suite("indic")
    for clip in transcribe_clips(suite):
        yield WeightsCheck(
            "conformer", f"text of {clip.clip}", f"CER {clip.cer:.2f}: {clip.recognised}", passed=clip.cer <= MAX_CER
        )
        for model, language in clip.languages.items():
            # A LID model may err on a short clip. So `check_speech` requires only one right answer in total.
            yield WeightsCheck(model, f"language of {clip.clip}", str(language), passed=language == clip.language)

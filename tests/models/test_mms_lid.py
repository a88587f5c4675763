import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from simulation.tiny_models.language_id import save_mms
from tests.support.speech_samples import ask, log_p_of, silence
from tests.support.tiny_indic import batches, lock, voice
from validation.domain import Unscored, Utterance
from validation.errors import BadInput
from validation.hardware.device import DeviceConfig, select_device
from validation.models.batching import pad_batch
from validation.models.language_id import LanguageLabels
from validation.models.mms_lid import MmsLid
from validation.models.weights import WeightsRefused

CPU = DeviceConfig()


@pytest.fixture(scope="module")
def mms(weights_root) -> MmsLid:
    return MmsLid(threads=1, root=weights_root, device_config=CPU)


@settings(max_examples=8, deadline=None)
@given(batches())
def test_the_batch_does_not_change_the_prediction(mms, utterances):
    """Padded and masked, a segment's log-probabilities equal those of the segment alone to 1e-5."""
    batch = pad_batch(utterances)
    together = log_p_of(mms._network.forward, batch)
    for row, utterance in zip(together, utterances, strict=True):
        own = pad_batch([utterance])
        assert row == pytest.approx(log_p_of(mms._network.forward, own)[0], abs=1e-5)


def test_it_equals_the_library(mms, weights_root):
    """transformers' own extractor and model agree one by one, with folded weight norm and slices."""
    from transformers import AutoFeatureExtractor, Wav2Vec2ForSequenceClassification

    folder = weights_root / "mms-lid-256"
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    stock = Wav2Vec2ForSequenceClassification.from_pretrained(folder).eval()
    for duration_s in (0.1, 1.3, 7.0):
        audio = voice(duration_s, seed=5)
        with torch.inference_mode():
            logits = stock(**extractor(audio, sampling_rate=16_000, return_tensors="pt")).logits
        own = pad_batch([Utterance(audio, "", None)])
        assert log_p_of(mms._network.forward, own)[0] == pytest.approx(
            logits[0].double().log_softmax(-1).numpy(), abs=1e-5
        )


def test_convolutions_in_slices_give_the_same_answers(mms, monkeypatch):
    """A batch that is too large for the front end goes through it in parts, with the same answers."""
    utterances = [Utterance(voice(2.0, seed), "", "hi") for seed in range(5)]
    whole = ask(mms, *utterances)
    monkeypatch.setattr(mms._network._network.wav2vec2.feature_extractor, "max_samples", 70_000)
    for sliced, found in zip(ask(mms, *utterances), whole, strict=True):
        assert sliced == pytest.approx(found, abs=1e-6)


def test_half_precision_is_close_and_its_mean_cannot_overflow(weights_root, mms):
    """The weights are half; the mean over time and the head are not."""
    half = MmsLid(threads=1, root=weights_root, device_config=DeviceConfig("cpu", "float16"))
    assert half.revision == mms.revision.replace("float32", "float16")
    assert half._network._network.wav2vec2.encoder.layers[0].feed_forward.output_dense.weight.dtype == torch.float16
    utterances = [Utterance(voice(duration_s, 3), "", "hi") for duration_s in (0.5, 6.0)]
    for coarse, fine in zip(ask(half, *utterances), ask(mms, *utterances), strict=True):
        assert coarse["language"] == fine["language"]
        assert coarse["language_p"] == pytest.approx(fine["language_p"], abs=0.01)
    half._network._network.projector.inner.bias.data.fill_(1e3)  # 300 frames of it leave float16's range
    assert np.isfinite(ask(half, utterances[1])[0]["language_p"])


def test_it_abstains_on_a_language_that_it_does_not_know(mms):
    """An unknown declared language has no probability; the first choice is reported all the same."""
    unknown, unlabelled, known = ask(mms, *(Utterance(voice(1.0), "", code) for code in ("doi", None, "ory")))
    assert unknown["declared_p"] is None
    assert unlabelled["declared_p"] is None
    assert unknown["language"] == known["language"]
    assert 0 < known["declared_p"] < 1
    assert {"or", "kok", "ast"} < mms.languages


def test_labels_of_one_language_share_its_probability():
    """`swa` and `swh` are both Swahili; an unknown label keeps its name; nothing is renormalised."""
    labels = LanguageLabels(["swa", "hi: Hindi", "swh", "iw: Hebrew", "tlh"])
    assert labels.codes == ("sw", "hi", "he", "tlh")
    answer = labels.make_answer(np.array([0.3, 0.35, 0.25, 0.06, 0.04]), "hin")
    assert answer.values == pytest.approx({"language": "sw", "language_p": 0.55, "declared_p": 0.35})


def test_long_audio_is_scored_in_equal_pieces(mms):
    """Two minutes and a bit are three pieces, whose probabilities are averaged."""
    audio = voice(121.5, seed=8)
    (whole,) = ask(mms, Utterance(audio, "", "ta"))
    pieces = ask(mms, *(Utterance(piece, "", "ta") for piece in np.array_split(audio, 3)))
    assert whole["declared_p"] == pytest.approx(np.mean([piece["declared_p"] for piece in pieces]), abs=1e-6)


def test_a_short_segment_is_unscored_and_changes_no_other(mms):
    """A segment below one frame has a fault; its neighbour and digital silence have answers."""
    short, fine = mms.score(pad_batch([Utterance(silence(0.02), "", "hi"), Utterance(voice(1.0), "", "hi")]))
    assert isinstance(short, Unscored)
    assert short.fault.kind == "too_short"
    assert fine.values == pytest.approx(ask(mms, Utterance(voice(1.0), "", "hi"))[0], abs=1e-6)
    assert np.isfinite(ask(mms, Utterance(silence(0.1), "", "hi"))[0]["language_p"])


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("config.json", "feat_extract_norm", "group"),
        ("preprocessor_config.json", "do_normalize", False),
        ("preprocessor_config.json", "sampling_rate", 8_000),
    ],
)
def test_a_model_whose_padding_matters_is_refused(tmp_path, file, key, value):
    """With group norm, for example, answers depend on the batch, although the weights load."""
    folder = save_mms(tmp_path / "mms-lid-256")
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(BadInput, match=key):
        MmsLid(threads=1, root=lock(tmp_path), device_config=CPU)


def test_altered_weights_are_refused(tmp_path):
    """One changed byte is enough; the error names the file and both hashes."""
    folder = save_mms(tmp_path / "mms-lid-256")
    lock(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    with pytest.raises(WeightsRefused, match=r"model\.safetensors has sha256 \w{64}, expected sha256 \w{64}"):
        MmsLid(threads=1, root=tmp_path, device_config=CPU)


def test_a_box_without_a_gpu_refuses_to_start():
    """A GPU whose driver fails would otherwise be replaced by the CPU at a hundredth of the speed."""
    if torch.cuda.is_available():
        pytest.skip("there is a card")
    with pytest.raises(BadInput, match=r"VFLEET_DEVICE is cuda, but torch .* sees no GPU"):
        select_device("cuda", "auto")
    assert select_device("auto", "auto") == CPU


def test_an_adapter_and_old_names_of_the_weight_norm_equal_the_library(tmp_path):
    """A network with adapters, saved with the names ``weight_g`` and ``weight_v``, answers as the library does."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoFeatureExtractor, Wav2Vec2ForSequenceClassification

    folder = save_mms(tmp_path / "mms-lid-256", adapter_attn_dim=16)
    stock = Wav2Vec2ForSequenceClassification.from_pretrained(folder).eval()
    weights = load_file(folder / "model.safetensors")
    renamed = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for name, value in weights.items()
    }
    assert {name.rpartition(".")[2] for name in renamed.keys() - weights.keys()} == {"weight_g", "weight_v"}
    assert any("adapter_layer" in name for name in renamed)
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    lock(tmp_path)
    ours = MmsLid(threads=1, root=tmp_path, device_config=CPU)
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    audios = [voice(duration_s, seed=6) for duration_s in (0.4, 5.0)]
    batch = pad_batch([Utterance(audio, "", None) for audio in audios])
    for row, audio in zip(log_p_of(ours._network.forward, batch), audios, strict=True):
        with torch.inference_mode():
            logits = stock(**extractor(audio, sampling_rate=16_000, return_tensors="pt")).logits
        assert row == pytest.approx(logits[0].double().log_softmax(-1).numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda weights: weights.pop("projector.weight"), r"lacks 1 parameters such as projector\.weight"),
        (
            lambda weights: weights.update({"lm_head.weight": torch.ones(1)}),
            r"holds 1 parameters such as lm_head\.weight, which have no place",
        ),
    ],
)
def test_missing_and_unexpected_parameters_are_refused(tmp_path, change, sentence):
    """The library would only warn, and compute with random weights."""
    from safetensors.torch import load_file, save_file

    folder = save_mms(tmp_path / "mms-lid-256")
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    lock(tmp_path)
    with pytest.raises(BadInput, match=sentence):
        MmsLid(threads=1, root=tmp_path, device_config=CPU)

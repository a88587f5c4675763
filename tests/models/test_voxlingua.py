import numpy as np
import pytest
import torch
from hypothesis import given, settings

from simulation.tiny_models.language_id import save_voxlingua
from tests.support.speech_samples import ask, log_p_of, silence
from tests.support.tiny_indic import batches, lock, voice
from validation.domain import Unscored, Utterance
from validation.errors import BadInput
from validation.hardware.device import DeviceConfig
from validation.models.batching import pad_batch
from validation.models.import_shims import importing_speechbrain
from validation.models.voxlingua import VoxLingua107, _load_classifier

CPU = DeviceConfig()


@pytest.fixture(scope="module")
def voxlingua(weights_root) -> VoxLingua107:
    return VoxLingua107(threads=1, root=weights_root, device_config=CPU)


@pytest.fixture(scope="module")
def stock(weights_root):
    """The classifier as speechbrain itself runs it."""
    return _load_classifier(weights_root / "voxlingua107-ecapa", "cpu")


def stock_log_p(stock, *utterances: Utterance):
    batch = pad_batch(utterances)
    relative = torch.from_numpy(batch.lengths / batch.lengths.max()).float()
    return stock.classify_batch(torch.from_numpy(batch.waveforms), relative)[0].numpy()


@settings(max_examples=8, deadline=None)
@given(batches())
def test_the_batch_does_not_change_the_prediction(voxlingua, utterances):
    """Reflected at its own end, a segment's log-probabilities equal those of the segment alone to 1e-5."""
    batch = pad_batch(utterances)
    together = log_p_of(voxlingua._network.predict, batch)
    for row, utterance in zip(together, utterances, strict=True):
        own = pad_batch([utterance])
        assert row == pytest.approx(log_p_of(voxlingua._network.predict, own)[0], abs=1e-5)


def test_it_equals_the_library_on_single_segments_only(voxlingua, stock):
    """On one segment the library gives the same answer; in a batch it gives another, which shows the need for the
    patch.
    """
    utterances = [Utterance(voice(duration_s, seed=4), "", "hi") for duration_s in (0.1, 1.37, 9.0)]
    for utterance in utterances:
        own = pad_batch([utterance])
        ours = log_p_of(voxlingua._network.predict, own)[0]
        assert ours == pytest.approx(stock_log_p(stock, utterance)[0], abs=1e-5)
    assert np.abs(stock_log_p(stock, *utterances)[1] - stock_log_p(stock, utterances[1])[0]).max() > 1e-2


def test_a_click_at_the_end_does_not_depend_on_the_batch(voxlingua):
    """A padded frame covers the click at a higher level than any frame of the segment, and must not set the floor."""
    audio = silence(1.0)[: 160 * 80 + 159].copy()
    audio[-1] = 1.0
    click, long = Utterance(audio, "", "hi"), Utterance(voice(4.0), "", "hi")
    assert ask(voxlingua, click, long)[0] == pytest.approx(ask(voxlingua, click)[0], abs=1e-6)


def test_it_abstains_on_languages_without_a_label(voxlingua):
    """`iw: Hebrew` is he; Odia and Konkani have no label, so they have no probability."""
    assert {"he", "jv", "hi", "ar"} < voxlingua.languages
    assert not {"or", "kok", "mai", "ks", "doi", "brx", "sat", "mni"} & voxlingua.languages
    odia, hindi = ask(voxlingua, *(Utterance(voice(1.0), "", code) for code in ("or", "hin")))
    assert odia["declared_p"] is None
    assert odia["language"] == hindi["language"]
    assert 0 < hindi["declared_p"] < 1


def test_a_segment_shorter_than_a_reflection_is_unscored(voxlingua):
    """Four reflected frames need five; a shorter segment has a fault, and its neighbour keeps its answer."""
    short, fine = voxlingua.score(pad_batch([Utterance(silence(0.03), "", "hi"), Utterance(voice(1.0), "", "hi")]))
    assert isinstance(short, Unscored)
    assert short.fault.kind == "too_short"
    assert fine.values == pytest.approx(ask(voxlingua, Utterance(voice(1.0), "", "hi"))[0], abs=1e-6)
    assert np.isfinite(ask(voxlingua, Utterance(silence(0.04), "", "hi"))[0]["language_p"])


def test_links_are_followed_and_nothing_is_left_beside_the_weights(weights_root, tmp_path):
    """The folder may be a link to a read-only store: files gathered for loading are elsewhere and are deleted."""
    (tmp_path / "voxlingua107-ecapa").symlink_to(weights_root / "voxlingua107-ecapa")
    before = sorted(path.name for path in (weights_root / "voxlingua107-ecapa").iterdir())
    VoxLingua107(threads=1, root=lock(tmp_path), device_config=CPU)
    assert sorted(path.name for path in (weights_root / "voxlingua107-ecapa").iterdir()) == before


def test_another_kind_of_classifier_is_refused(tmp_path):
    """A classifier that normalises over a whole batch gives answers that depend on the batch."""
    folder = save_voxlingua(tmp_path / "voxlingua107-ecapa")
    recipe = folder / "hyperparams.yaml"
    recipe.write_text(recipe.read_text().replace("norm_type: sentence", "norm_type: batch"))
    with pytest.raises(BadInput, match="batch"):
        VoxLingua107(threads=1, root=lock(tmp_path), device_config=CPU)


@pytest.mark.parametrize(("device", "named"), [("cuda", "cuda:0"), ("cpu", "cpu")])
def test_the_device_name_has_an_index_for_speechbrain(device, named, tmp_path, monkeypatch):
    """speechbrain reads an index from the device name, and warns at every start if it has none."""
    with importing_speechbrain():
        from speechbrain.inference.classifiers import EncoderClassifier
    told = {}
    (tmp_path / "hyperparams.yaml").write_text("a: 1\n")
    monkeypatch.setattr(EncoderClassifier, "from_hparams", lambda **options: told.update(options))
    _load_classifier(tmp_path, device)
    assert told["run_opts"] == {"device": named}


def test_a_checkpoint_with_other_parameters_is_refused(tmp_path):
    """speechbrain would only warn of a missing parameter, and compute with a random one."""
    folder = save_voxlingua(tmp_path / "voxlingua107-ecapa")
    weights = torch.load(folder / "classifier.ckpt", weights_only=True)
    weights["other"] = weights.pop("out.w.bias")
    torch.save(weights, folder / "classifier.ckpt")
    lock(tmp_path)
    with pytest.raises(BadInput, match=r"lacks 1 parameters such as out\.w\.bias and holds 1 parameters such as other"):
        VoxLingua107(threads=1, root=tmp_path, device_config=CPU)

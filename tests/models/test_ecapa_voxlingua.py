import numpy as np
import pytest
import torch
from hypothesis import given, settings

from simulation.tiny_models.language_id import save_voxlingua
from tests.support.speech_samples import ask, silence
from tests.support.tiny_indic import company, lock, voice
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
    """The classifier as speechbrain alone runs it."""
    return _load_classifier(weights_root / "voxlingua107-ecapa", "cpu")


def stock_log_p(stock, *utterances: Utterance):
    batch = pad_batch(utterances)
    relative = torch.from_numpy(batch.lengths / batch.lengths.max()).float()
    return stock.classify_batch(torch.from_numpy(batch.waveforms), relative)[0].numpy()


@settings(max_examples=8, deadline=None)
@given(company())
def test_company_does_not_change_what_voxlingua_hears(voxlingua, utterances):
    """Reflected at its own end, a segment's log-probabilities are those that it has alone, to 1e-5."""
    listen = voxlingua._network.listen
    batch = pad_batch(utterances)
    together = np.log(listen(batch.waveforms, batch.lengths))
    for row, utterance in zip(together, utterances, strict=True):
        own = pad_batch([utterance])
        assert row == pytest.approx(np.log(listen(own.waveforms, own.lengths))[0], abs=1e-5)


def test_alone_it_hears_what_the_library_hears_and_in_company_the_library_does_not(voxlingua, stock):
    """The library's answer for one segment is ours; its own in a batch is another, or this would prove nothing."""
    utterances = [Utterance(voice(duration_s, seed=4), "", "hi") for duration_s in (0.1, 1.37, 9.0)]
    for utterance in utterances:
        own = pad_batch([utterance])
        ours = np.log(voxlingua._network.predict(own.waveforms, own.lengths))[0]
        assert ours == pytest.approx(stock_log_p(stock, utterance)[0], abs=1e-5)
    assert np.abs(stock_log_p(stock, *utterances)[1] - stock_log_p(stock, utterances[1])[0]).max() > 1e-2


def test_a_click_at_the_very_end_is_heard_alike_in_company(voxlingua):
    """A frame after the end hears the click louder than any real one, and must not set the loudness floor."""
    audio = silence(1.0)[: 160 * 80 + 159].copy()
    audio[-1] = 1.0
    click, long = Utterance(audio, "", "hi"), Utterance(voice(4.0), "", "hi")
    assert ask(voxlingua, click, long)[0] == pytest.approx(ask(voxlingua, click)[0], abs=1e-6)


def test_it_reads_its_labels_and_abstains_on_what_it_lacks(voxlingua):
    """`iw: Hebrew` is he; Odia and Konkani have no label, so there is no probability of them."""
    assert {"he", "jv", "hi", "ar"} < voxlingua.languages
    assert not {"or", "kok", "mai", "ks", "doi", "brx", "sat", "mni"} & voxlingua.languages
    odia, hindi = ask(voxlingua, *(Utterance(voice(1.0), "", code) for code in ("or", "hin")))
    assert odia["declared_p"] is None
    assert odia["language"] == hindi["language"]
    assert 0 < hindi["declared_p"] < 1


def test_what_is_shorter_than_a_reflection_is_unscored(voxlingua):
    """Five frames reflect four; below that there is no answer, and a neighbour keeps its own."""
    short, fine = voxlingua.score(pad_batch([Utterance(silence(0.03), "", "hi"), Utterance(voice(1.0), "", "hi")]))
    assert isinstance(short, Unscored)
    assert short.fault.kind == "too_short"
    assert fine.values == pytest.approx(ask(voxlingua, Utterance(voice(1.0), "", "hi"))[0], abs=1e-6)
    assert np.isfinite(ask(voxlingua, Utterance(silence(0.04), "", "hi"))[0]["language_p"])


def test_links_are_followed_and_nothing_is_left_beside_the_weights(weights_root, tmp_path):
    """The folder may be a link to a read-only store: what loading gathers lies elsewhere, and is gone afterwards."""
    (tmp_path / "voxlingua107-ecapa").symlink_to(weights_root / "voxlingua107-ecapa")
    before = sorted(path.name for path in (weights_root / "voxlingua107-ecapa").iterdir())
    VoxLingua107(threads=1, root=lock(tmp_path), device_config=CPU)
    assert sorted(path.name for path in (weights_root / "voxlingua107-ecapa").iterdir()) == before


def test_another_kind_of_classifier_is_refused(tmp_path):
    """What is normalised over a whole batch answers by its company."""
    folder = save_voxlingua(tmp_path / "voxlingua107-ecapa")
    recipe = folder / "hyperparams.yaml"
    recipe.write_text(recipe.read_text().replace("norm_type: sentence", "norm_type: batch"))
    with pytest.raises(BadInput, match="batch"):
        VoxLingua107(threads=1, root=lock(tmp_path), device_config=CPU)


@pytest.mark.parametrize(("device", "named"), [("cuda", "cuda:0"), ("cpu", "cpu")])
def test_a_card_is_named_as_speechbrain_reads_it(device, named, tmp_path, monkeypatch):
    """It takes an index out of the name, and complains of a name that has none in the log of every start."""
    with importing_speechbrain():
        from speechbrain.inference.classifiers import EncoderClassifier
    told = {}
    monkeypatch.setattr(EncoderClassifier, "from_hparams", lambda **options: told.update(options))
    _load_classifier(tmp_path, device)
    assert told["run_opts"] == {"device": named}

"""Launched batches: the host reads nothing from the device before the answers, and the audio is uploaded once."""

import threading

import numpy as np
import pytest
import torch

from tests.support.flaky_model import FlakyModel
from tests.support.host_reads import HostReadError, OnlyInside, OnlyOnDevice, no_host_reads
from tests.support.speech_samples import same_values, values_of
from tests.support.tiny_indic import voice
from validation.domain import Scored, Unscored, Utterance
from validation.hardware.streams import Mark, unpack
from validation.models import suite as suite_module
from validation.models.batching import pad_batch
from validation.models.conformer.graph import read_graph
from validation.models.conformer.onnx_to_torch import build_network
from validation.models.conformer.tokenizer import read_vocabulary
from validation.models.conformer.torch_engine import TorchEngine
from validation.models.mms_lid import load_mms
from validation.models.silero_torch import SileroOnDevice
from validation.models.suite import Suite, load_suite
from validation.models.upload import DeviceAudio, cut_windows_on_device, upload, upload_pieces
from validation.models.voxlingua import EcapaTdnn, _load_classifier
from validation.scoring.rules_io import load_rules
from validation.scoring.signals import SuiteRoles

LAUNCHED = ("conformer", "mms", "voxlingua")


@pytest.fixture(scope="module")
def indic(weights_root) -> Suite:
    """The suite with the engine of a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VFLEET_WEIGHTS", str(weights_root))
        patch.setenv("VFLEET_CONFORMER_ENGINE", "torch")
        return load_suite("indic", threads=1)


@pytest.fixture
def batch():
    """Segments of several lengths: one is cut into pieces by every model, and one is too short for IndicConformer."""
    durations_s, languages = (0.4, 2.0, 62.0, 0.02), ("hi", None, "ta", "hi")
    return pad_batch(
        [
            Utterance(voice(s, n), "abc", code, LAUNCHED)
            for n, (s, code) in enumerate(zip(durations_s, languages, strict=True))
        ]
    )


@pytest.mark.parametrize("read", [torch.Tensor.item, bool, int, lambda one: one.numpy(), lambda one: one[one > 0]])
def test_the_guard_notices_reads(read):
    """The judge of the next test fails where it must."""
    one = torch.ones(1)
    with pytest.raises(HostReadError), no_host_reads():
        read(one)


def test_nothing_is_read_until_the_answers(indic, batch):
    """While all models of a batch are queued, the host reads no tensor; the answers equal those of a single call."""
    expected = indic.score_batch(batch)
    with no_host_reads():
        launched = indic.launch(batch)
    found = indic.answer(launched)
    for own, others in zip(found, expected, strict=True):
        for model, answer in own.items():
            assert type(answer) is type(others[model])
            assert not isinstance(answer, Scored) or same_values(values_of(answer), values_of(others[model]))
    assert isinstance(found[3]["conformer"], Unscored)


def test_networks_leave_nothing_on_the_host(weights_root):
    """On another device each network computes without a value of the host: every constant was moved when it loaded.
    The device is torch's `meta`, which computes shapes only."""
    batch = pad_batch([Utterance(voice(s, 1), "", None) for s in (1.0, 2.0)])
    audio = DeviceAudio(
        torch.from_numpy(batch.waveforms).to("meta"), torch.from_numpy(batch.lengths).to("meta"), batch.lengths,
        Mark("cpu"),
    )  # fmt: skip
    assets = weights_root / "indicconformer-600m" / "assets"
    vocabulary = read_vocabulary(assets, 5633)
    network = build_network(*(read_graph(assets / name) for name in ("encoder.onnx", "ctc_decoder.onnx")))
    engine = TorchEngine(network, vocabulary.columns, device="meta")
    mms = load_mms(weights_root / "mms-lid-256", "cpu", torch.float32)
    mms._network.to("meta")
    classifier = _load_classifier(weights_root / "voxlingua107-ecapa", "cpu")
    ecapa = EcapaTdnn(classifier.mods.to("meta"), "meta")
    silero = SileroOnDevice("cpu")._network.to("meta")
    with torch.inference_mode(), OnlyOnDevice() as seen:
        assert engine.run(audio, np.array([0, 1])).log_probs.shape == (2, 26, 257)
        assert mms.forward(audio).is_meta
        assert ecapa.predict(audio).is_meta
        assert silero(audio.waveforms).shape == (2, 63)
        assert cut_windows_on_device(audio, [1, 2], 16_000).shape == (3, 16_000)
    assert seen.blocking == []


def test_alignments_are_queued_beside_the_other_models_only(indic, monkeypatch):
    """While the answers are made, no work enters the main queue, where it would wait for MMS-LID and the next batch, or
    be overtaken by the side queue."""
    (conformer,) = (model for model in indic._models if model.name == "conformer")
    spoken = [Utterance(voice(s, 3), "नमस्ते", "hi") for s in (2.0, 34.0)]
    answering = conformer.launch(pad_batch(spoken))
    queue = OnlyInside()
    monkeypatch.setattr("validation.models.conformer.segment.side_queue", queue.enter)
    with queue:
        told = answering()
    assert all(isinstance(answer, Scored) for answer in told)
    assert queue.count > 100


def test_all_models_share_one_upload(indic, batch, monkeypatch):
    """The audio of a batch crosses to the device once, also where models cut it into pieces of other lengths."""
    uploaded = []
    stock = torch.from_numpy
    monkeypatch.setattr(torch, "from_numpy", lambda array: uploaded.append(array) or stock(array))
    launched = indic.launch(batch)
    assert sum(array is batch.waveforms for array in uploaded) == 1
    assert max(array.size for array in uploaded if array is not batch.waveforms) < 200
    indic.answer(launched)


def test_the_next_batch_is_launched_before_the_answers_of_the_last(indic, batch):
    """Two batches in flight, answered by another thread, have the answers that each has by itself."""
    other = pad_batch([Utterance(voice(1.1, 7), "abc", "ta", LAUNCHED)])
    expected = [indic.score_batch(one) for one in (batch, other)]
    launched = [indic.launch(one) for one in (batch, other)]
    found = []
    thread = threading.Thread(target=lambda: found.extend(indic.answer(one) for one in launched))
    thread.start()
    thread.join()
    for own, others in zip(found, expected, strict=True):
        assert all(
            same_values(values_of(row[model]), values_of(expected_row[model]))
            for row, expected_row in zip(own, others, strict=True)
            for model in row
            if isinstance(expected_row[model], Scored)
        )


def test_a_failed_launch_is_bisected_with_the_answers(indic, batch, monkeypatch):
    """A model that fails when it is launched fails alone: the other models and the other segments are answered."""
    (mms,) = (model for model in indic._models if model.name == "mms")
    stock = mms._network.forward

    def fail_on_long(audio):
        if audio.waveforms.shape[1] > 50 * 16_000:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED")
        return stock(audio)

    monkeypatch.setattr(mms._network, "forward", fail_on_long)
    monkeypatch.setattr("validation.models.language_id.MAX_PIECE_S", 70.0)
    told = indic.answer(indic.launch(batch))
    assert [isinstance(own["mms"], Scored) for own in told] == [True, True, False, False]
    assert told[2]["mms"].fault.kind == "model_failed"
    assert isinstance(told[2]["voxlingua"], Scored)


def test_pieces_on_the_device_are_those_of_the_host(batch):
    """The pieces of the device hold the samples of each segment in order, padded with zeros."""
    pieces = upload_pieces(batch, [2, 0], 30.0, "cpu")
    assert pieces.counts == [3, 1]
    joined = [row[:n] for row, n in zip(pieces.audio.waveforms, pieces.audio.host_lengths, strict=True)]
    assert np.array_equal(torch.cat(joined[:3]), batch.waveforms[2, : batch.lengths[2]])
    assert np.array_equal(joined[3], batch.waveforms[0, : batch.lengths[0]])
    assert not pieces.audio.waveforms[3, batch.lengths[0] :].any()
    assert upload(batch, "cpu") is upload(batch, "cpu")


def test_one_copy_carries_arrays_of_several_types():
    """Values that leave the GPU in one copy are the values that went in."""
    tensors = [torch.tensor([[1.5, -2.0]]), torch.tensor([7, 8, 9]), torch.tensor([True]), torch.rand(3, 1).double()]
    packed = torch.cat([tensor.view(-1).view(torch.uint8) for tensor in tensors]).numpy()
    found = unpack(packed, [tensor.shape for tensor in tensors], [tensor.dtype for tensor in tensors])
    assert all(np.array_equal(array, tensor.numpy()) for array, tensor in zip(found, tensors, strict=True))


@pytest.mark.timeout(60)
def test_a_thread_that_answers_may_launch_again(monkeypatch):
    """On a GPU a model that fails is launched again, in halves, by a thread of its own, while the caller waits."""
    monkeypatch.setattr(Suite, "_mark", lambda _: None)
    suite = Suite(
        "toy", [FlakyModel()], roles=SuiteRoles(("flaky",)), rules=load_rules("vad-1"), budget_s=60.0,
        min_padded_s=0.5, device="cuda",
    )  # fmt: skip
    told = suite.score([Utterance(voice(1.0), text, None) for text in ("a", "poison", "b")])
    assert [isinstance(own[FlakyModel.name], Scored) for own in told] == [True, False, True]


def test_on_a_gpu_the_models_answer_in_parallel(indic):
    """A suite on a GPU has one thread per model for answers, and a suite on a CPU has none."""
    assert indic._pool is None
    assert suite_module.Suite(
        "x", indic._models, roles=indic.roles, rules=indic.rules, budget_s=1.0, min_padded_s=0.5, device="cuda"
    )._pool._max_workers == len(indic.columns)

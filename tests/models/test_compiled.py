"""Compiled layers: a bounded number of programs, the same answers, and a switch."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from tests.support.tiny_indic import voice
from validation.domain import Utterance
from validation.errors import BadInput
from validation.hardware.device import DeviceConfig
from validation.models import compiled
from validation.models.batching import pad_batch
from validation.models.compiled import chosen_compile, compile_from_settings, compile_layers
from validation.models.conformer.torch_engine import FastConformer, NetworkShape
from validation.models.mms_lid import load_mms
from validation.models.upload import upload

SHAPES_S = [(2.0, 1.0, 0.7), (1.5,), (0.9, 0.4), (2.0, 0.3), (0.6,), (1.1, 1.0, 0.2, 0.9), (1.7, 1.6)]


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def conformer():
    torch.manual_seed(0)
    shape = NetworkShape(
        layers=3, width=32, heads=4, feed_forward=64, kernel=9, channels=8, strided_convs=3, mels=80, symbols=50,
        scales_input=True,
    )  # fmt: skip
    network = FastConformer(shape).eval()

    def run(durations_s):
        counts = torch.tensor([round(100 * s) for s in durations_s])
        generator = torch.Generator().manual_seed(1)
        return network(torch.randn(len(counts), 80, int(counts.max()), generator=generator), counts)[0]

    return network.layers, run


@pytest.fixture
def mms(weights_root):
    network = load_mms(weights_root / "mms-lid-256", "cpu", torch.float32)

    def run(durations_s):
        batch = pad_batch([Utterance(voice(s, n), "", None) for n, s in enumerate(durations_s)])
        return network.forward(upload(batch, "cpu")).log()

    return network.layers, run


@pytest.mark.parametrize("kind", ["conformer", "mms"])
def test_batches_of_all_shapes_share_two_programs(kind, request):
    """All layers of a network, and all batches, share one program, and batches of one segment share another. The
    answers are those of the layers as they are."""
    layers, run = conformer() if kind == "conformer" else request.getfixturevalue("mms")
    with torch.inference_mode():
        expected = [run(durations_s) for durations_s in SHAPES_S]
        counter = CompileCounter()
        compile_layers(layers, backend=counter)
        found = [run(durations_s) for durations_s in SHAPES_S]
    assert counter.frame_count == 2
    for own, others in zip(found, expected, strict=True):
        torch.testing.assert_close(own, others, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch warns about itself when its compiler is imported
@pytest.mark.parametrize("kind", ["conformer", "mms"])
def test_generated_code_gives_the_same_answers(kind, request, tmp_path, monkeypatch):
    """The code that the compiler generates differs by rounding only."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    layers, run = conformer() if kind == "conformer" else request.getfixturevalue("mms")
    with torch.inference_mode():
        expected = [run(durations_s) for durations_s in SHAPES_S]
        compile_layers(layers)
        found = [run(durations_s) for durations_s in SHAPES_S]
    assert any(tmp_path.iterdir())
    for own, others in zip(found, expected, strict=True):
        torch.testing.assert_close(own, others, atol=1e-4, rtol=0)


def test_layers_run_as_they_are_if_the_compiler_fails():
    """A compiler without its tools, or with a bug, costs speed and no answer."""

    def fail(*_):
        raise RuntimeError("no compiler")

    layers, run = conformer()
    with torch.inference_mode():
        expected = run((1.0, 0.5))
        compile_layers(layers, backend=fail)
        assert torch.equal(run((1.0, 0.5)), expected)


@pytest.mark.parametrize(
    ("configured", "device", "missing", "chosen"),
    [
        ("auto", "cuda", None, True),
        ("auto", "cuda", "triton", False),
        ("auto", "cpu", None, False),
        ("off", "cuda", None, False),
        ("on", "cpu", None, True),
    ],
)
def test_layers_are_compiled_on_a_gpu_unless_it_is_set(monkeypatch, configured, device, missing, chosen):
    """By default a GPU with the compiler compiles, and nothing else does."""
    monkeypatch.setattr(compiled, "_find_missing", lambda _device: missing)
    assert chosen_compile(configured, device) is chosen


def test_a_demanded_compiler_that_is_missing_is_refused(monkeypatch):
    """One sentence says what is missing and what to do."""
    monkeypatch.setenv("VFLEET_COMPILE_LAYERS", "on")
    monkeypatch.setattr(compiled, "_find_missing", lambda _device: "triton")
    with pytest.raises(BadInput, match="but triton is not installed: install it, or set VFLEET_COMPILE_LAYERS=off"):
        compile_from_settings([], "cuda")


def test_small_networks_use_tf32_only_beside_half_precision():
    """TF32 is for GPUs whose large networks are in half precision; in single precision nothing is rounded further."""
    assert DeviceConfig("cuda", "float16").tf32
    assert not DeviceConfig("cuda", "float32").tf32
    assert not DeviceConfig("cpu", "float16").tf32

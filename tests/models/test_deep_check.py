"""The deep check of the weights of `indic`, on tiny random ones."""

import pytest
import torch

from validation.models import deep_check
from validation.models.conformer.graph import FRONT_END_FILE
from validation.models.conformer.mel import LogMel


class Published(torch.nn.Module):
    """The published front end, by its arguments."""

    def __init__(self, gain):
        super().__init__()
        self.gain = gain

    def forward(self, input_signal, length):
        features, counts = LogMel()(input_signal, length)
        return self.gain * features, counts


@pytest.fixture
def front_end(weights_root, monkeypatch):
    """A function that sets the published front end."""
    monkeypatch.setattr(deep_check.Path, "is_file", lambda path: True)
    return lambda gain: monkeypatch.setattr(torch.jit, "load", lambda path, map_location: Published(gain))


def test_a_missing_front_end_is_a_failed_check(weights_root):
    """What cannot be compared does not pass."""
    check = next(deep_check.run_deep_check(weights_root))
    assert not check.passed
    assert "preprocessor.ts is missing: run `make weights` again" in check.found


@pytest.mark.parametrize(("gain", "passed"), [(1.0, True), (1.01, False)])
def test_the_published_front_end_is_compared_clip_by_clip(weights_root, front_end, gain, passed):
    """Features that differ by more than 1e-4 fail."""
    front_end(gain)
    path = weights_root / "indicconformer-600m" / FRONT_END_FILE
    audios = [clip.audio for clip in map(deep_check.read_clip, deep_check.SUITES["indic"].known_clips)]
    assert deep_check._check_front_end(path, audios).passed is passed


def test_both_engines_are_compared_with_the_published_graphs(weights_root):
    """Sound weights pass within 1e-4 with the same text, and the LID models' labels are counted."""
    checks = [check for check in deep_check.run_deep_check(weights_root) if "against preprocessor" not in check.subject]
    assert [check.subject for check in checks] == [
        "onnx-float32 against the published graphs", "torch-float32 against the published graphs", "labels", "labels",
    ]  # fmt: skip
    assert all(check.passed for check in checks), checks


def test_a_difference_to_the_published_graphs_fails(weights_root, monkeypatch):
    """Another difference than rounding is told with its size."""
    monkeypatch.setattr(deep_check, "TOLERANCE", 0.0)
    engines = [check for check in deep_check.run_deep_check(weights_root) if "published graphs" in check.subject]
    assert [check.passed for check in engines] == [False, False]

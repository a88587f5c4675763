"""The torch network of IndicConformer in half precision."""

import pytest
import torch

from validation.models.conformer.torch_engine import NetworkShape, RelativeAttention, encode_positions


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_scores_do_not_overflow_in_half_precision(dtype):
    """Attention whose unscaled scores exceed the range of float16 equals single precision within rounding."""
    torch.manual_seed(0)
    width, frames, level = 64, 7, 56.0
    attention = RelativeAttention(NetworkShape(1, width, 1, 1, 9, 1, 1, 80, 1, scales_input=False)).eval()
    for linear in (attention.linear_q, attention.linear_k, attention.linear_pos):
        torch.nn.init.eye_(linear.weight)
    torch.nn.init.constant_(attention.pos_bias_v, 3000.0)
    hidden, mask = level * torch.randn(1, frames, width).sign(), torch.ones(1, frames, dtype=torch.bool)
    positions = encode_positions(frames, width, hidden)
    query = hidden + attention.pos_bias_v
    assert (query @ positions.transpose(1, 2)).abs().max() > torch.finfo(torch.float16).max
    assert (hidden @ hidden.transpose(1, 2)).abs().max() > torch.finfo(torch.float16).max
    with torch.inference_mode():
        fine = attention(hidden, positions, mask)
        coarse = attention.to(dtype)(hidden.to(dtype), positions.to(dtype), mask).float()
    assert torch.isfinite(coarse).all()
    assert (coarse - fine).abs().max() < 0.02 * fine.abs().max()

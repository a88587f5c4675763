"""The benchmark of a card, where there is none: each line runs, so that it does not fail on a rented one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_step_runs_without_a_card(tmp_path):
    """All arms, budgets and the host are measured, parity holds, and the table says that it means nothing."""
    command = [sys.executable, str(BENCH / "gpu.py"), "--tiny", "--segments", "8", "--out", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=800)
    assert ended.returncode == 0, ended.stderr[-2000:]
    told = json.loads((tmp_path / "gpu.json").read_text())
    assert set(told["plain"]) | set(told["ladder"]) == {
        "plain fp32",
        "plain TF32",
        "TF32 + pool",
        "+ bfloat16",
        "+ float16",
    }
    assert max(net["batch against single"] for net in told["parity"].values()) < 1e-4
    assert told["host"]["clients"] == 4
    assert "no number above means anything" in ended.stdout

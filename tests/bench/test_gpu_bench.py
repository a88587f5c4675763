"""The benchmark of a card, where there is none: each line runs, so that it does not fail on a rented one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).resolve().parents[2] / "bench"


def test_it_begins_where_nothing_but_torch_and_transformers_is_installed():
    """A rented machine has no package of ours and none that only they need, and nobody sets a path there. What it runs
    is what lies beside it."""
    program = (
        "import runpy, sys\n"
        "sys.modules.update(dict.fromkeys(['onnx', 'onnxruntime', 'pydantic', 'speechbrain', 'prefect', 'pynvml']))\n"
        f"sys.path.insert(0, {str(BENCH)!r}); sys.argv[1:] = ['--help']\n"
        f"try: runpy.run_path({str(BENCH / 'gpu.py')!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "import validation; print(validation.__path__[0])"
    )
    ended = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "What a real card makes" in ended.stdout
    assert Path(ended.stdout.splitlines()[-1]).parent == BENCH.parent


def test_a_step_that_fails_costs_no_other(tmp_path, monkeypatch, capsys):
    """Memory ends at the largest budget, a compiler is missing: what was measured before and after is in the file, and
    so is what failed. An hour of a rented card buys it."""
    monkeypatch.syspath_prepend(str(BENCH))
    import gpu

    def early(found):
        found["before"] = 1
        raise torch.OutOfMemoryError("CUDA out of memory")

    def late(found):
        assert json.loads((tmp_path / "gpu.json").read_text())["early"] == {"before": 1}
        found["after"] = 2

    monkeypatch.setattr(sys, "argv", ["gpu.py", "--tiny", "--segments", "1", "--out", str(tmp_path)])
    monkeypatch.setattr(gpu.Bench, "steps", lambda bench, *, with_host: (early, late))
    assert gpu.main() == 1
    told = json.loads((tmp_path / "gpu.json").read_text())
    assert (told["early"], told["late"]) == ({"before": 1}, {"after": 2})
    assert told["failed"] == {"early": "OutOfMemoryError: CUDA out of memory"}
    assert "FAILED early: OutOfMemoryError" in capsys.readouterr().out


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
    assert told["host"]["of fp16 ceiling"] > 0
    assert told["failed"] == {}
    assert "no number above means anything" in ended.stdout

"""The GPU benchmark without a GPU: every step runs, so that it does not fail on a rented machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).resolve().parents[2] / "bench"


def test_gpu_benchmark_starts_with_torch_and_transformers_only():
    """A rented machine has neither this project installed nor the packages that only this project needs, and no path is
    set there: the benchmark imports the source tree that it lies in."""
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
    assert "Measure the throughput of the suite `indic` at full size on a GPU" in ended.stdout
    assert Path(ended.stdout.splitlines()[-1]).parent == BENCH.parent


def test_failing_step_keeps_the_results_of_the_others(tmp_path, monkeypatch, capsys):
    """Memory is exhausted at the largest budget, or a compiler is missing: the file holds the results of the steps
    before and after, and the error of the step that failed."""
    monkeypatch.syspath_prepend(str(BENCH))
    import gpu

    def early(found):
        found["before"] = 1
        raise torch.OutOfMemoryError("CUDA out of memory")

    def late(found):
        assert json.loads((tmp_path / "gpu.json").read_text())["early"] == {"before": 1}
        found["after"] = 2

    monkeypatch.setattr(sys, "argv", ["gpu.py", "--tiny", "--segments", "1", "--out", str(tmp_path)])
    monkeypatch.setattr(gpu.Bench, "steps", lambda bench, *, with_server: (early, late))
    assert gpu.main() == 1
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert (results["early"], results["late"]) == ({"before": 1}, {"after": 2})
    assert results["failed"] == {"early": "OutOfMemoryError: CUDA out of memory"}
    assert "FAILED early: OutOfMemoryError" in capsys.readouterr().out


def test_the_time_line_of_a_device_shows_its_gaps(monkeypatch):
    """Kernels that overlap leave no gap; the share in which the device computed is the rest."""
    monkeypatch.syspath_prepend(str(BENCH))
    from gpu_timeline import describe_timeline, find_gaps

    spans = [(50.0, 60.0), (0.0, 10.0), (5.0, 30.0), (40.0, 45.0), (41.0, 50.0)]
    assert find_gaps(spans) == [(30.0, 40.0)]
    told = describe_timeline(spans)
    assert told["busy"] == pytest.approx(5 / 6)
    assert told["longest_gaps_ms"] == [0.01]
    assert describe_timeline([])["gaps"] == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_step_runs_without_a_gpu(tmp_path):
    """All arms, budgets and the server are measured, parity holds, and the table says that they are meaningless."""
    command = [sys.executable, str(BENCH / "gpu.py"), "--tiny", "--segments", "8", "--out", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=800)
    assert ended.returncode == 0, ended.stderr[-2000:]
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert list(results["plain"] | results["ladder"]) == [
        "plain fp32", "pooled fp32", "+ MMS-LID fp16", "+ Conformer fp16", "+ others in TF32", "+ nothing waits",
        "+ compiled",
    ]  # fmt: skip
    assert set(results["ladder"]["+ compiled"]["shares"]) == {"conformer", "mms", "voxlingua", "dnsmos"}
    assert 0 < results["profile"]["timeline"]["busy"] <= 1
    assert max(net["batch against single"] for net in results["parity"].values()) < 1e-4
    assert results["server"]["clients"] == 4
    assert results["server"]["of fp16 ceiling"] > 0
    assert 0 < results["server"]["busy"] <= 1
    assert results["failed"] == {}
    assert "no number above means anything" in ended.stdout

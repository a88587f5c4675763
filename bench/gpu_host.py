"""The model host on a card: four clients of one process that owns it."""

import os
import tempfile
import threading
import time
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from gpu_models import TINY, Sizes, make_nets

from validation.domain import Utterance

CLIENTS = 4


def run_host(utterances: Sequence[Utterance], device: str, *, tiny: bool, budget_s: float) -> dict[str, float | str]:
    """Put the segments to a host through four clients at once, each with all of them.

    The host needs this project's own packages (pydantic and others), which a bare machine with a card may lack: then
    it is left out, and the answer says so.
    """
    try:
        from validation.inference.client import InferenceClient
    except ModuleNotFoundError as lacking:
        return {"left out": f"the model host needs {lacking.name}, which is not installed here"}
    with tempfile.TemporaryDirectory(prefix="vfleet-bench-") as folder:
        path = Path(folder) / "socket"
        host = get_context("spawn").Process(target=serve, args=(path, device, tiny, budget_s), daemon=True)
        host.start()
        try:
            await_host(host, path)
            scorers = [InferenceClient(path) for _ in range(CLIENTS)]
            scorers[0].score(utterances[:64])
            began_s = time.perf_counter()
            threads = [threading.Thread(target=scorer.score, args=(utterances,), daemon=True) for scorer in scorers]
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(1.0)
                    require_alive(host)
            took_s = time.perf_counter() - began_s
            for scorer in scorers:
                scorer.close()
        finally:
            host.terminate()
            host.join()
    return {"host segments/s": round(CLIENTS * len(utterances) / took_s, 1), "clients": CLIENTS}


def await_host(host: BaseProcess, path: Path) -> None:
    """Return once it listens."""
    while not path.exists():
        require_alive(host)
        time.sleep(0.2)


def require_alive(host: BaseProcess) -> None:
    """Its clients would wait five minutes for another, and nobody starts one here."""
    if not host.is_alive():
        raise RuntimeError(f"the model host ended with code {host.exitcode}: see what it wrote above")


def serve(path: Path, device: str, tiny: bool, budget_s: float) -> None:
    from validation.inference.__main__ import end
    from validation.inference.__main__ import serve as serve_suite
    from validation.models.suite import Suite
    from validation.scoring.rules_io import load_rules
    from validation.scoring.signals import SuiteRoles

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    nets = make_nets(TINY if tiny else Sizes(), device, torch.float16)
    roles = SuiteRoles(tuple(net.name for net in nets))
    suite = Suite("bench", nets, roles=roles, rules=load_rules("indic-1"), budget_s=budget_s, min_padded_s=0.5)
    with Path(os.devnull).open("w") as nobody:
        serve_suite(suite, path, nobody)
    end(0)

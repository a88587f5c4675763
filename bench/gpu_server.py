"""Measure the inference server on a GPU with four clients. Only the server's process uses the GPU."""

import os
import tempfile
import threading
import time
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from gpu_models import PRODUCTION, TINY, Sizes, make_nets

from validation.domain import Utterance

CLIENTS = 4


def run_server(utterances: Sequence[Utterance], device: str, *, tiny: bool, budget_s: float) -> dict[str, float | str]:
    """Score all segments with each of four clients at the same time. Return segments per second.

    The inference server needs packages (pydantic and others) that a machine with a GPU may lack. Without them the step
    is left out, and the result has the reason.
    """
    try:
        from validation.inference.client import InferenceClient
        from validation.inference.client_io import read_status
    except ModuleNotFoundError as missing:
        return {"left out": f"the inference server needs {missing.name}, which is not installed here"}
    with tempfile.TemporaryDirectory(prefix="vfleet-bench-") as folder:
        path = Path(folder) / "socket"
        server = get_context("spawn").Process(target=serve, args=(path, device, tiny, budget_s), daemon=True)
        server.start()
        try:
            await_server(server, path)
            clients = [InferenceClient(path) for _ in range(CLIENTS)]
            clients[0].score(utterances[:64])
            before = read_status(path)
            started_s = time.perf_counter()
            threads = [threading.Thread(target=client.score, args=(utterances,), daemon=True) for client in clients]
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(1.0)
                    require_alive(server)
            took_s = time.perf_counter() - started_s
            after = read_status(path)
            for client in clients:
                client.close()
        finally:
            server.terminate()
            server.join()
    states = ("busy_s", "wait_for_answers_s", "wait_for_preparation_s", "wait_for_requests_s")
    shares = {state.removesuffix("_s"): round((after[state] - before[state]) / took_s, 3) for state in states}
    return {"server segments/s": round(CLIENTS * len(utterances) / took_s, 1), "clients": CLIENTS} | shares


def await_server(server: BaseProcess, path: Path) -> None:
    """Wait until the server listens on its socket."""
    while not path.exists():
        require_alive(server)
        time.sleep(0.2)


def require_alive(server: BaseProcess) -> None:
    """Raise RuntimeError if the server has exited. Its clients would wait five minutes for another server."""
    if not server.is_alive():
        raise RuntimeError(f"the inference server exited with code {server.exitcode}: see its output above")


def serve(path: Path, device: str, tiny: bool, budget_s: float) -> None:
    from validation.inference.__main__ import exit_at_once
    from validation.inference.__main__ import serve as serve_suite
    from validation.models.compiled import compile_layers
    from validation.models.suite import Suite
    from validation.scoring.rules_io import load_rules
    from validation.scoring.signals import SuiteRoles

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    nets = make_nets(TINY if tiny else Sizes(), device, PRODUCTION, tf32=True)
    if device == "cuda":
        compile_layers(layer for net in nets if hasattr(net, "layers") for layer in net.layers)
    roles = SuiteRoles(tuple(net.name for net in nets))
    suite = Suite(
        "bench", nets, roles=roles, rules=load_rules("indic-1"), budget_s=budget_s, min_padded_s=0.5, device=device
    )
    with Path(os.devnull).open("w") as discarded:
        serve_suite(suite, path, discarded)
    exit_at_once(0)

"""Measure the CPU time that a flow process needs for its imports.

    python bench/flow_start.py [--rounds 5]

The programs run in turn, after a first run that compiles all modules, as the image has them compiled. The script prints
one row per program: the median of its CPU time, and the ratio of this time to that of `prefect.engine`, which every
flow process imports.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

PROJECT = Path(__file__).resolve().parents[1]
PROGRAMS = {
    "prefect.engine alone": "prefect.engine",
    "a box's chunk (flows.validate)": "prefect.engine, flows.validate",
    "the control run without work (flows.operate)": "prefect.engine, flows.operate",
    "prefect_aws, which neither imports": "prefect.engine, prefect_aws",
}


def measure_cpu_s(modules: str, bytecode: str) -> float:
    """Return the user plus system time, in seconds, of a process that only imports the modules.

    Args:
        modules: the names of the modules.
        bytecode: the folder for the compiled modules.
    """
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = bytecode
    before = os.times()
    subprocess.run([sys.executable, "-c", f"import {modules}"], cwd=PROJECT, env=env, check=True)
    after = os.times()
    return (after.children_user - before.children_user) + (after.children_system - before.children_system)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    taken: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory(prefix="vfleet-bench-") as bytecode:
        for modules in PROGRAMS.values():
            measure_cpu_s(modules, bytecode)
        for _ in range(rounds):
            for name, modules in PROGRAMS.items():
                taken[name].append(measure_cpu_s(modules, bytecode))
    base = median(taken["prefect.engine alone"])
    for name, times in taken.items():
        print(f"{name:46} {median(times):5.2f} CPU-s  {median(times) / base:.2f}x")


if __name__ == "__main__":
    main()

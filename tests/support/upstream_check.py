"""`make upstream-check`: the engines of IndicConformer against NeMo, in an environment of its own.

NeMo's requirements differ from those of the lock. The environment sees the packages of the calling one, among them its
build of torch, and has beside them only what NeMo needs in another version. Without NeMo in the package index the check
is skipped with a message.

    python -m tests.support.upstream_check FOLDER [--short]
"""

# ruff: noqa: T201 - a report
import subprocess
import sys
from importlib.metadata import distributions, version
from pathlib import Path

NEMO = "nemo_toolkit[asr]==3.0.0"
FROM_TORCH = ("torch==", "torchaudio==", "torchvision==", "triton==", "nvidia-", "cuda-")
"""Requirements that come with the calling environment's build of torch, or belong to a build for GPUs."""
TESTS = (
    "tests/models/conformer/test_upstream.py",
    "tests/models/test_mms_lid.py",
    "tests/models/test_voxlingua.py",
)
SELECTED = "nemo or library or causal"


def main(folder: Path, *, short: bool) -> int:
    """Return the exit code of the tests; 0 if NeMo cannot be installed."""
    python = folder / "bin" / "python"
    if not python.is_file() and (fault := install(folder)):
        print(f"skipped: NeMo cannot be installed here: {fault}")
        return 0
    command = [python, "-m", "pytest", "-n", "0", "-s", "-q", "-k", SELECTED, *TESTS]
    return subprocess.run([*command, *(["-m", "not slow"] if short else [])], check=False).returncode


def install(folder: Path) -> str | None:
    """Make the environment; return why it cannot be made, or None."""
    uv = Path(sys.executable).with_name("uv")
    folder.parent.mkdir(parents=True, exist_ok=True)
    constraints, pins = folder.with_suffix(".constraints"), folder.with_suffix(".pins")
    constraints.write_text(f"torch=={version('torch').partition('+')[0]}\n")
    release = f"{sys.version_info.major}.{sys.version_info.minor}"
    compiled = run(
        uv, "pip", "compile", "-", "--python-version", release, "--no-header", "--no-annotate",
        "--no-emit-index-url", "-c", constraints, stdin=NEMO,
    )  # fmt: skip
    if compiled.returncode:
        return last_line(compiled.stderr)
    present = {f"{found.name.lower().replace('_', '-')}=={found.version}" for found in distributions()}
    needed = [pin for pin in compiled.stdout.splitlines() if pin not in present and not pin.startswith(FROM_TORCH)]
    pins.write_text("\n".join(needed))
    made = run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder)
    (site_packages,) = (folder / "lib").glob("python*/site-packages")
    installed = run(uv, "pip", "install", "--python", folder / "bin" / "python", "--no-deps", "-r", pins)
    shared = [path for path in sys.path if Path(path).name == "site-packages"]
    (site_packages / "zz_calling_environment.pth").write_text("\n".join(shared))
    if made.returncode or installed.returncode:
        (folder / "bin" / "python").unlink(missing_ok=True)
        return last_line(made.stderr + installed.stderr)
    return None


def run(*command: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), short="--short" in sys.argv))

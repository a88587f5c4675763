"""Drive the fake Vast with the vendor's own command-line client. `make fleet-conformance` runs it.

The client is in a virtual environment of its own, because its pinned versions conflict with this project's. Every check
reads the fake's state or JSON, never an exit code: the client exits with 0 even if the server refused.

python tests/vast/conformance.py FOLDER
"""

# ruff: noqa: T201 - prints a report
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from simulation.fake_vast.service import EmbeddedVast

PACKAGE = "vastai==1.9.1"
QUERY = (
    "gpu_name in [RTX_3090,RTX_4090] disk_space>=50 inet_down>=200 reliability>0.95 cuda_vers>=12.4 gpu_ram>=23 "
    "duration>=1 driver_version>=550.54.14"
)


class VendorCli:
    """The vendor's client with a home folder of its own, connected to the fake."""

    def __init__(self, program: Path, server: EmbeddedVast, home: str) -> None:
        self._program = program
        self._environment = {
            "PATH": os.environ["PATH"], "HOME": home, "XDG_CONFIG_HOME": home, "VASTAI_NO_UPDATE_CHECK": "1",
            "NO_PROXY": "127.0.0.1", **server.client_environment(),
        }  # fmt: skip

    def run(self, *words: str, key: str | None = None) -> str:
        environment = self._environment | ({"VAST_API_KEY": key} if key else {})
        done = subprocess.run(
            [self._program, *words], env=environment, capture_output=True, text=True, timeout=120, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.stdout + done.stderr

    def ask(self, *words: str):
        """Run a command; returns its JSON."""
        output = self.run(*words, "--raw")
        return json.loads(output[min(at for at in (output.find("["), output.find("{")) if at >= 0) :])


def install(folder: Path) -> Path | None:
    """Install the vendor's client in a virtual environment; None if it cannot be installed."""
    program = folder / "bin" / "vastai"
    if not program.exists():
        venv.create(folder, with_pip=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(done.stderr.strip().splitlines()[-1:])
    return program if program.exists() else None


def living(server: EmbeddedVast) -> dict[int, dict]:
    """The rented instances, by id."""
    return {machine["id"]: machine for machine in server.state()["living"]}


def check_search(cli: VendorCli, _: EmbeddedVast) -> list[int]:
    offers = cli.ask("search", "offers", QUERY, "-o", "dph_total", "--storage", "60", "--limit", "100")
    assert 0 < len(offers) <= 64
    assert all(offer["inet_down"] >= 200 and offer["cuda_max_good"] >= 12.4 for offer in offers)
    prices = [offer["dph_total"] for offer in offers]
    assert prices == sorted(prices)
    return [offer["id"] for offer in offers]


def check_create(cli: VendorCli, server: EmbeddedVast, offers: list[int]) -> list[int]:
    for number, offer in enumerate(offers[:30]):
        cli.run("create", "instance", str(offer), "--image", "org/img", "--disk", "50", "--label", f"l{number % 2}",
                "--env", "-e A=1 -e B=2", "--args", "serve", "now")  # fmt: skip
    made = living(server)
    assert len(made) == 30, len(made)
    assert {json.dumps(machine["env"], sort_keys=True) for machine in made.values()} == {'{"A": "1", "B": "2"}'}
    before = set(made)
    cli.run("create", "instance", str(offers[31]), "--image", "org/img", "--disk", "50", "--bid_price", "0.9")
    (bid,) = set(living(server)) - before
    assert living(server)[bid]["usd_per_hour"] == 0.9
    cli.run("create", "instance", str(offers[0]), "--image", "org/img", "--disk", "50")
    assert len(living(server)) == 31, "an offer that is gone rents nothing"
    return list(living(server))


def check_listing(cli: VendorCli, server: EmbeddedVast, numbers: list[int]) -> None:
    server.advance(3600)
    shown = cli.ask("show", "instances")
    assert sorted(row["id"] for row in shown) == sorted(living(server)), "two pages, each machine once"
    assert {row["extra_env"]["A"] for row in shown if row["extra_env"]} == {"1"}
    one = cli.ask("show", "instance", str(numbers[0]))
    assert one["id"] == numbers[0]


def check_changes(cli: VendorCli, server: EmbeddedVast, numbers: list[int]) -> None:
    first, second, bid = str(numbers[0]), str(numbers[1]), numbers[-1]
    cli.run("label", "instance", first, "renamed")
    assert living(server)[numbers[0]]["label"] == "renamed"
    cli.run("change", "bid", str(bid), "--price", "1.25")
    assert living(server)[bid]["usd_per_hour"] == 1.25
    cli.run("stop", "instance", second)
    assert living(server)[numbers[1]]["status"] == "exited"
    cli.run("start", "instance", second)
    server.advance(7300)
    assert living(server)[numbers[1]]["status"] == "running"
    cli.run("reboot", "instance", first)
    assert living(server)[numbers[0]]["status"] == "loading"
    assert f"log of instance {first}" in cli.run("logs", first, "--tail", "5")
    assert cli.ask("show", "user")["credit"] < 1000


def check_destruction(cli: VendorCli, server: EmbeddedVast, numbers: list[int]) -> None:
    cli.run("destroy", "instance", str(numbers[0]), "-y", key="wrong")
    assert numbers[0] in living(server), "a wrong key destroys nothing, whatever the exit code"
    cli.run("destroy", "instance", str(numbers[0]), "-y")
    assert numbers[0] not in living(server)
    cli.run("destroy", "instance", str(numbers[0]), "-y")
    cli.run("destroy", "instances", *map(str, numbers[1:]), "-y")
    assert living(server) == {}
    server.advance(10)
    assert cli.ask("show", "instances") == []


def main(folder: str) -> int:
    program = install(Path(folder).resolve())
    if program is None:
        print(f"skipped: {PACKAGE} cannot be installed here")
        return 0
    with tempfile.TemporaryDirectory() as home, EmbeddedVast(Path(home) / "vast") as server:
        server.play(lifecycles={"ok": 1})
        cli = VendorCli(program, server, home)
        offers = check_search(cli, server)
        print(f"search: {len(offers)} offers")
        numbers = check_create(cli, server, offers)
        print(f"create: {len(numbers)} machines")
        check_listing(cli, server, numbers)
        check_changes(cli, server, numbers)
        print("list, show, label, bid, stop, start, reboot, logs, user: as the vendor's client expects")
        check_destruction(cli, server, numbers)
        print("destroy: nothing is left")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

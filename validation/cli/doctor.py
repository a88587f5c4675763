"""`vfleet doctor`: what keeps this machine from working, and what to do."""

import argparse
import json

from validation.cli import Subparsers


def add_doctor_command(commands: Subparsers) -> None:
    doctor = commands.add_parser("doctor", help="check all that this machine needs; exit 1 if anything has failed")
    doctor.add_argument("--gpu", action="store_true", help="as a box: the card, its driver and the models as well")
    doctor.add_argument("--json", action="store_true", help="one JSON object a check")
    doctor.set_defaults(command=run_doctor)


def run_doctor(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from validation.doctor.runner import CONTROL_CHECKS, GPU_CHECKS, run_checks
    from validation.settings import load_settings

    failed = 0
    for finding in run_checks(load_settings(), GPU_CHECKS if options.gpu else CONTROL_CHECKS):
        failed += finding.verdict == "failed"
        told = f"{finding.verdict:8}{finding.check:14}{finding.says}"
        print(json.dumps(asdict(finding)) if options.json else told, flush=True)
    return 1 if failed else 0

"""Docker with buildx, which builds the boxes' image."""

import subprocess
import sys

from validation.errors import BadInput
from validation.exit_codes import ExitCode

COMMAND = ("docker", "buildx", "version")


class DockerMissing(BadInput):
    """This machine cannot build the boxes' image."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"no image was built, because `{' '.join(COMMAND)}` fails ({reason}): install Docker with its buildx "
            "plugin, or build the image on another machine. The deployments that need no image are up to date; "
            "`vfleet bootstrap` without --image deploys all of them without building"
        )


def find_docker() -> None:
    """Prove that Docker and its buildx plugin are installed.

    Raises:
        DockerMissing: one of them is not.
    """
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True, check=False)
    except OSError as error:
        raise DockerMissing(f"docker: {error.strerror}") from None
    if done.returncode:
        raise DockerMissing((done.stderr or done.stdout).strip().partition("\n")[0] or f"exit code {done.returncode}")


def require_docker() -> dict[str, str]:
    """The first build step of prefect.yaml. Without Docker the command ends with one sentence and exit code 2."""
    try:
        find_docker()
    except DockerMissing as error:
        sys.stderr.write(f"prefect deploy: {error}\n")
        raise SystemExit(int(ExitCode.BAD_INPUT)) from None
    return {}

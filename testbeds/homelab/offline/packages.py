"""The Debian packages that the machine itself needs to run containers, installed where they are missing."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestration.promotion.problems import Problem, ProblemError
from testbeds.homelab.programs import run_long
from testbeds.homelab.progress import Say

# One file of each package shows whether the package is installed.
_PROGRAMS = {
    "/usr/sbin/dockerd": "docker.io",
    "/usr/bin/docker": "docker.io",
    "/usr/bin/containerd": "containerd",
    "/usr/sbin/runc": "runc",
    "/usr/sbin/iptables": "iptables",
    "/usr/sbin/debootstrap": "debootstrap",
    "/usr/bin/jq": "jq",
    "/usr/sbin/ip": "iproute2",
    "/usr/bin/git": "git",
    "/etc/ssl/certs/ca-certificates.crt": "ca-certificates",
}
_POLICY = Path("/usr/sbin/policy-rc.d")
_NEXT_STEP = (
    "Install Docker, k3d and kubectl with access to the internet, or use a Debian 12 machine as root, "
    "where everything is built."
)


def ensure(say: Say) -> None:
    """Install the missing packages without starting any service.

    Raises:
        ProblemError: this is not Debian, the user is not root, or APT cannot install; with its last lines.
    """
    missing = sorted({package for program, package in _PROGRAMS.items() if not Path(program).exists()})
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        found = "an ordinary user" if os.geteuid() else "no apt-get"
        raise ProblemError(Problem(f"packages {', '.join(missing)}", "root on Debian", found, _NEXT_STEP))
    settings = {"DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-q", "-o", "Acquire::Retries=3"]
    run_long("package lists", [*apt, "update"], say, next_step=_NEXT_STEP, settings=settings)
    with _no_service_starts():
        command = [*apt, "install", "--yes", "--no-install-recommends", *missing]
        run_long(f"packages {' '.join(missing)}", command, say, next_step=_NEXT_STEP, settings=settings)


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Forbid Debian for the block to start the services that it installs; an existing policy is kept."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()

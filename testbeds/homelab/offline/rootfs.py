"""Debian root file systems: the base of the node's image and of each image that is more than one static program."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from orchestration.promotion.problems import Problem, ProblemError
from testbeds.homelab.cache import cache_folder, cached, key_of
from testbeds.homelab.programs import run_long
from testbeds.homelab.progress import Say

SUITE = "bookworm"
_NEXT_STEP = "Check that Debian's mirror is reachable and debootstrap runs as root (`apt-get install debootstrap`)."
# No image needs manuals, and APT's lists are a third of a small image.
_LEFT_OUT = (
    "./dev/*",
    "./proc/*",
    "./sys/*",
    "./run/*",
    "./tmp/*",
    "./var/cache/*",
    "./var/lib/apt/lists/*",
    "./var/log/*",
    "./usr/share/doc/*",
    "./usr/share/man/*",
    "./usr/share/info/*",
    "./usr/share/locale/*",
    "./usr/share/lintian/*",
    "*/__pycache__",
)
# Raised by hand when a change below makes another system of the same packages.
_RECIPE = "1"


def root_file_system(packages: Sequence[str], say: Say) -> Path:
    """Make a tar of Debian's smallest system with these packages by debootstrap; it is kept in the cache.

    The packages have the versions that the mirror has at the first use. Downloaded packages are kept for other systems.

    Raises:
        ProblemError: debootstrap is missing, is not run as root, or failed; with its last lines.
    """
    names = sorted(set(packages))
    name = f"{SUITE}-{key_of(_RECIPE, SUITE, *names)}.tar"

    def make(unfinished: Path) -> None:
        if os.geteuid() != 0 or shutil.which("debootstrap") is None:
            found = "no debootstrap on PATH" if os.geteuid() == 0 else "an ordinary user"
            raise ProblemError(Problem("Debian root file system", "root with debootstrap", found, _NEXT_STEP))
        scratch = unfinished.with_suffix(".folder")
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            _debootstrap(names, scratch, say)
            _pack(scratch, unfinished)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    return cached("rootfs", name, make)


def unpacked(packages: Sequence[str], say: Say) -> Path:
    """Unpack Debian packages, without what they depend on, into a folder of the cache; none of their scripts runs.

    They have the versions that this machine's APT has at the first use.

    Raises:
        ProblemError: APT cannot download them; with its last lines.
    """

    def make(unfinished: Path) -> None:
        scratch = unfinished.with_suffix(".debs")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            apt = ["apt-get", "-q", "-o", "Acquire::Retries=3", "-o", "APT::Sandbox::User=root"]
            run_long("package lists", [*apt, "update"], say, next_step=_NEXT_STEP)
            command = [*apt, "download", *packages]
            run_long(f"packages {' '.join(packages)}", command, say, next_step=_NEXT_STEP, cwd=scratch)
            unfinished.mkdir()
            for archive in sorted(scratch.glob("*.deb")):
                subprocess.run(["dpkg-deb", "--extract", archive, unfinished], check=True)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    return cached("rootfs", f"{SUITE}-packages-{key_of(_RECIPE, SUITE, *packages)}", make)


def _debootstrap(packages: Sequence[str], target: Path, say: Say) -> None:
    downloads = cache_folder() / "debs"
    downloads.mkdir(parents=True, exist_ok=True)
    chosen = [f"--include={','.join(packages)}"] if packages else []
    # It mounts /proc and /sys in the target; its own mount namespace removes them, also when it is killed.
    run_long(
        f"Debian {SUITE} with {len(packages)} packages",
        [
            "unshare",
            "--mount",
            "debootstrap",
            "--variant=minbase",
            f"--cache-dir={downloads}",
            *chosen,
            SUITE,
            target,  # from the mirror that debootstrap itself chooses
        ],
        say,
        next_step=_NEXT_STEP,
    )


def _pack(folder: Path, tar: Path) -> None:
    excluded = [f"--exclude={pattern}" for pattern in _LEFT_OUT]
    # Fixed times, so that an equal system is an equal layer.
    command = ["tar", "--create", f"--file={tar}", f"--directory={folder}", "--sort=name", "--numeric-owner"]
    subprocess.run([*command, "--mtime=@0", "--one-file-system", *excluded, "."], check=True)

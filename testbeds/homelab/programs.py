"""Running a program that may take minutes: progress with seconds meanwhile, its last lines when it fails."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestration.promotion.problems import Problem, ProblemError
from testbeds.homelab.progress import Say

_REPORT_SECONDS = 20.0
_LOG_LINES = 12


def run_long(
    what: str,
    command: Sequence[str | Path],
    say: Say,
    *,
    next_step: str,
    cwd: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> str:
    """Run a program to its end and return its output; a line every 20 s, and at the end, says how long it takes.

    Args:
        what: what the program does, for progress and errors.
        command: the program and its arguments.
        say: takes the lines of progress.
        next_step: what a person should do when the program fails.
        cwd: the folder in which it runs.
        settings: more environment variables.

    Raises:
        ProblemError: the program is missing, or ended with another exit code than 0; with its last lines.
    """
    began = time.monotonic()
    say(f"{what} ...")
    try:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(settings or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise ProblemError(Problem(what, f"a working {command[0]}", str(error), next_step)) from error
    with process:
        while True:
            try:
                output, _ = process.communicate(timeout=_REPORT_SECONDS)
                break
            except subprocess.TimeoutExpired:
                say(f"{what}: {time.monotonic() - began:.0f} s so far")
            except BaseException:
                process.kill()
                raise
    if process.returncode != 0:
        tail = "\n".join(f"    {line}" for line in output.splitlines()[-_LOG_LINES:])
        found = f"{command[0]} ended with {process.returncode}; its last lines:\n{tail}\n"
        raise ProblemError(Problem(what, "success", found, next_step))
    say(f"{what}: {time.monotonic() - began:.1f} s")
    return output

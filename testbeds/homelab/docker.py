"""Docker by its command line: in the environment of its supply, and with its own words when it fails."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestration.promotion.problems import Problem, ProblemError

_PATIENCE_SECONDS = 300.0
_LOG_LINES = "15"
_ANSWERS_WITHIN_SECONDS = 5.0


@dataclass(frozen=True)
class Docker:
    """The `docker` program, and the environment variables that tell it where its daemon is."""

    program: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Return the environment in which the program runs."""
        return {**os.environ, **self.settings}

    def run(self, *arguments: str, seconds: float = _PATIENCE_SECONDS) -> str:
        """Run a command and return its output.

        Raises:
            ProblemError: the command failed or took longer than `seconds`; with what Docker said.
        """
        command = f"docker {' '.join(arguments[:3])}"
        done = self._ask(arguments, seconds)
        if done.returncode != 0:
            found = f"exit code {done.returncode}: {(done.stderr or done.stdout).strip()}"
            raise ProblemError(Problem(command, "success", found, "See `docker ps -a` and `docker info`."))
        return done.stdout.strip()

    def find(self, kind: str, name: str, template: str = "{{.Id}}") -> str | None:
        """Show an image, container, network or volume (`kind`) through a template; None when it does not exist."""
        done = self._ask((kind, "inspect", "--format", template, name), _PATIENCE_SECONDS)
        return done.stdout.strip() if done.returncode == 0 else None

    def logs(self, filtered: str) -> str:
        """Return the last lines that the containers of a filter (`label=...`) logged, as an error shows them."""
        names = self.run("ps", "--all", f"--filter={filtered}", "--format={{.Names}}").split()
        logs = {name: self._ask(("logs", "--tail", _LOG_LINES, name), _PATIENCE_SECONDS) for name in names}
        return "\n".join(f"    {name}:\n{log.stdout}{log.stderr}" for name, log in logs.items())

    def _ask(self, arguments: tuple[str, ...], seconds: float) -> "subprocess.CompletedProcess[str]":
        command = [str(self.program), *arguments]
        try:
            return subprocess.run(
                command,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            problem = Problem(" ".join(command[:4]), f"an answer within {seconds:g} s", str(error), "Try again.")
            raise ProblemError(problem) from error


def daemon_answers(docker: str | Path, environment: Mapping[str, str] | None = None) -> bool:
    """Check that a Docker daemon answers, and not only the command line program."""
    try:
        done = subprocess.run(
            [str(docker), "version", "--format", "{{json .Server}}"],
            env={**os.environ, **(environment or {})},
            capture_output=True,
            timeout=_ANSWERS_WITHIN_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and json.loads(done.stdout or "null") is not None

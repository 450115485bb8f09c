"""kubectl on one cluster: the commands that a person would type, with failures as problems."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from orchestration.promotion.problems import Problem, ProblemError

Document = Mapping[str, Any]
_SECONDS = 60.0
_WORDS = 600
"""How many characters of kubectl's message a problem shows: the last ones, because they name the cause."""


@dataclass(frozen=True)
class Kubectl:
    """One context of a kubeconfig. Every call has a time limit, and may raise `ProblemError` with kubectl's message."""

    program: Path
    kubeconfig: Path | None
    """None for kubectl's default: `KUBECONFIG`, or the one in the home folder."""
    context: str

    def run(self, *arguments: str | Path, stdin: str | None = None, seconds: float = _SECONDS) -> str:
        """Run one command and return what it prints.

        Args:
            arguments: What follows the program and its context.
            stdin: The text for standard input.
            seconds: The time limit.

        Raises:
            ProblemError: kubectl cannot be run, fails, or does not finish in time.
        """
        what = " ".join(map(str, arguments[:3]))
        try:
            done = subprocess.run(
                self._command(arguments), input=stdin, capture_output=True, text=True, timeout=seconds
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._failed(what, str(error)) from error
        self._require_success(what, done.returncode, done.stderr)
        return done.stdout

    def stream(
        self,
        *arguments: str | Path,
        source: IO[bytes] | int = subprocess.DEVNULL,
        target: IO[bytes] | int = subprocess.DEVNULL,
        seconds: float = _SECONDS,
    ) -> None:
        """Run one command whose input or output is a file, too large to be held in memory.

        Args:
            arguments: What follows the program and its context.
            source: The file that is read; nothing by default.
            target: The file that is written; by default the output is dropped.
            seconds: The time limit.

        Raises:
            ProblemError: kubectl cannot be run, fails, or does not finish in time; the target may have a part.
        """
        what = " ".join(map(str, arguments[:3]))
        try:
            done = subprocess.run(
                self._command(arguments), stdin=source, stdout=target, stderr=subprocess.PIPE, timeout=seconds
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._failed(what, str(error)) from error
        self._require_success(what, done.returncode, done.stderr.decode("utf-8", "replace"))

    def apply(self, documents: Sequence[Document]) -> None:
        """Apply objects on the server's side, so that none has to carry what was applied before."""
        stream = "\n---\n".join(json.dumps(document) for document in documents)  # JSON is YAML
        self.run("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=stream)

    def read(self, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        """Return one object; None when there is no such object."""
        output = self.run("get", kind, name, f"--namespace={namespace}", "--output=json", "--ignore-not-found")
        return dict(json.loads(output)) if output.strip() else None

    def items(self, kind: str, namespace: str = "", selector: str = "") -> list[dict[str, Any]]:
        """Return all objects of a kind, in one namespace or in the cluster."""
        place = f"--namespace={namespace}" if namespace else "--all-namespaces"
        chosen = [f"--selector={selector}"] if selector else []
        return list(json.loads(self.run("get", kind, place, *chosen, "--output=json"))["items"])

    def create(self, document: Document) -> bool:
        """Create an object and return True; False when it exists, and then it stays as it is."""
        try:
            self.run("create", "--filename=-", stdin=json.dumps(document))
        except ProblemError as error:
            if "AlreadyExists" in error.problem.found:
                return False
            raise
        return True

    def server(self) -> str:
        """Return the address of the cluster's API for this machine, as in the kubeconfig."""
        return self.run("config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}").strip()

    def _command(self, arguments: Sequence[str | Path]) -> list[str]:
        return [str(word) for word in (self.program, *self._cluster(), *arguments)]

    def _require_success(self, what: str, code: int, said: str) -> None:
        if code != 0:
            raise self._failed(what, " ".join(said.split())[-_WORDS:] or f"exit code {code}")

    def _cluster(self) -> list[str]:
        chosen = [] if self.kubeconfig is None else [f"--kubeconfig={self.kubeconfig}"]
        return [*chosen, f"--context={self.context}"]

    def _failed(self, what: str, found: str) -> ProblemError:
        return ProblemError(
            Problem(
                f"kubectl {what}, cluster {self.context}",
                "success",
                found,
                f"Try it by hand: kubectl {' '.join(self._cluster())} {what}.",
            )
        )

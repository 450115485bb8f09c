"""kubectl on one cluster: the commands that a person would type, with failures as problems."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        command = [self.program, *self._cluster(), *arguments]
        what = " ".join(map(str, arguments[:3]))
        try:
            done = subprocess.run(
                [str(word) for word in command], input=stdin, capture_output=True, text=True, timeout=seconds
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._failed(what, str(error)) from error
        if done.returncode != 0:
            raise self._failed(what, " ".join(done.stderr.split())[-_WORDS:] or f"exit code {done.returncode}")
        return done.stdout

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

"""kubectl on one cluster: what a person would type, with its refusals as problems."""

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
"""Characters of kubectl's own words that a problem shows: the last ones, because they name the cause."""


@dataclass(frozen=True)
class Kubectl:
    """One context of a kubeconfig. Every call is bounded and may raise `ProblemError` with kubectl's words."""

    program: Path
    kubeconfig: Path | None
    """None for what kubectl itself takes: `KUBECONFIG`, or the home folder's."""
    context: str

    def run(self, *arguments: str | Path, said: str | None = None, seconds: float = _SECONDS) -> str:
        """Run one command, with `said` as its standard input, and return what it prints."""
        command = [self.program, *self._cluster(), *arguments]
        what = " ".join(str(one) for one in arguments[:3])
        try:
            done = subprocess.run(
                [str(one) for one in command], input=said, capture_output=True, text=True, timeout=seconds
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._failed(what, str(error)) from error
        if done.returncode != 0:
            raise self._failed(what, " ".join(done.stderr.split())[-_WORDS:] or f"exit code {done.returncode}")
        return done.stdout

    def apply(self, documents: Sequence[Document]) -> None:
        """Apply objects as the server's own merge, so that none needs to carry what was applied before."""
        stream = "\n---\n".join(json.dumps(one) for one in documents)  # JSON is YAML
        self.run("apply", "--server-side", "--force-conflicts", "--filename=-", said=stream)

    def read(self, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        """One object; None when there is none."""
        found = self.run("get", kind, name, f"--namespace={namespace}", "--output=json", "--ignore-not-found")
        return dict(json.loads(found)) if found.strip() else None

    def items(self, kind: str, namespace: str = "", selector: str = "") -> list[dict[str, Any]]:
        """All objects of a kind, of one namespace or of the cluster."""
        place = f"--namespace={namespace}" if namespace else "--all-namespaces"
        chosen = [f"--selector={selector}"] if selector else []
        return list(json.loads(self.run("get", kind, place, *chosen, "--output=json"))["items"])

    def create(self, document: Document) -> bool:
        """Make an object that is not there yet; whether it was made. One that is there stays as it is."""
        try:
            self.run("create", "--filename=-", said=json.dumps(document))
        except ProblemError as error:
            if "AlreadyExists" in error.problem.found:
                return False
            raise
        return True

    def server(self) -> str:
        """Where this machine reaches the cluster's API, as the kubeconfig has it."""
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
                f"Look at it yourself: kubectl {' '.join(self._cluster())}.",
            )
        )

"""Dagster on the control plane, brought as docs/dagster-on-kubernetes.md says: image, settings, Secrets, one line."""

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bootstrap.dagster import DAGSTER, make_dagster_secrets
from orchestration.promotion.problems import Problem, ProblemError
from testbeds.common.dagster import Dagster
from testbeds.common.processes import Processes, Service, wait_until
from testbeds.common.services import HOST, answers, free_ports
from testbeds.homelab import settings
from testbeds.homelab.environment import HomelabEnvironment
from testbeds.homelab.homelab import Homelab
from testbeds.homelab.images import publish_pipeline
from testbeds.homelab.progress import Say, phase
from testbeds.homelab.waiting import applications, await_all, pods_words
from testbeds.story.look import Git
from testbeds.story.pushing import commit_and_push, write_files

NEEDED_GIB = 10
"""What the node needs for the platform, Dagster, and 20 runs at a time."""
APPLICATIONS = ("access-dagster", "dagster")
_FOLDER = "manifests/platform/dagster"
_SECONDS = 600.0


@dataclass
class ClusterDagster:
    """The Dagster on the control plane; its pages are reached through a port that kubectl forwards."""

    homelab: Homelab
    pages: Dagster
    processes: Processes
    port: int
    _forward: Service | None = field(default=None, repr=False)

    def reach(self) -> None:
        """Forward a port to the pages, again whenever their pod was replaced, and wait until they answer."""
        if self._forward is None:
            gcp = self.homelab.gcp
            kubectl: list[str | Path] = [gcp.program, f"--kubeconfig={gcp.kubeconfig}", f"--context={gcp.context}"]
            kubectl += [f"--namespace={DAGSTER}", "port-forward", "service/webserver", f"{self.port}:3000"]
            again = ["sh", "-c", 'while :; do "$@"; sleep 1; done', "forward"]
            self._forward = self.processes.start("dagster-forward", [*again, *kubectl])
        url = f"http://{HOST}:{self.port}"
        wait_until(lambda: answers(f"{url}/server_info"), _SECONDS, "Dagster's pages answer", self._forward)
        self.pages.url = url

    def pods(self, app: str) -> list[dict[str, Any]]:
        """Return the pods with a label `app`."""
        return self.homelab.gcp.items("pods", DAGSTER, f"app={app}")

    def jobs(self) -> list[dict[str, Any]]:
        """Return the jobs of all runs that Kubernetes still has."""
        return self.homelab.gcp.items("jobs", DAGSTER)

    def await_well(self, say: Say) -> None:
        """Wait until both applications are Synced and Healthy."""
        await_all("Dagster on the control plane is well", lambda: _missing(self.homelab), _SECONDS, say)


@contextmanager
def dagster_in_the_cluster(environment: HomelabEnvironment, say: Say) -> Iterator[ClusterDagster]:
    """Bring Dagster to the control plane, unless it is there, and yield it; it stays until the homelab ends.

    Raises:
        ProblemError: the node is too small, or something does not come up.
    """
    homelab = environment.homelab
    _require_room(homelab)
    if not {each.name for each in applications(homelab.gcp)} >= set(APPLICATIONS):
        homelab.supply.provide(settings.POSTGRES_IMAGE, homelab.registry_url, say)
        with phase("the pipeline's image published", say):
            digest = publish_pipeline(homelab.registry_url, say)
        with phase("Dagster's secrets made", say):
            token = homelab.git_token_file.read_text(encoding="utf-8")
            list(make_dagster_secrets(homelab.gcp, homelab.edge, token, settings.api_url(settings.EDGE)))
        switch_on(environment, digest)
    processes = environment.processes
    (port,) = free_ports(1)
    brought = ClusterDagster(homelab, Dagster(processes, homelab.state / "host" / "pages", port, 0), processes, port)
    brought.await_well(say)
    brought.reach()
    yield brought


def switch_on(environment: HomelabEnvironment, digest: str) -> None:
    """Commit what a person would: the policies, the image's digest, and the line that switches Dagster on."""
    policies = environment.homelab.state / "policies"
    texts = {f"policies/{path.name}": path.read_text(encoding="utf-8") for path in sorted(policies.glob("*.yaml"))}
    commit_policies(environment, texts, "Switch Dagster on", edits={
        f"{_FOLDER}/kustomization.yaml": (r"newTag: \S+", f"digest: {digest}"),
        "argocd-apps/kustomization.yaml": (r"# - dagster-app\.yaml.*", "- dagster-app.yaml"),
    })  # fmt: skip


def commit_policies(
    environment: HomelabEnvironment,
    texts: Mapping[str, str],
    message: str,
    edits: Mapping[str, tuple[str, str]] | None = None,
) -> None:
    """Commit files to what has rights, where `policies/` is what the cluster's pipeline reads; an empty one is removed.

    Args:
        environment: the homelab.
        texts: each file's content by its path.
        message: the commit's.
        edits: by a file's path, a pattern that it has once and what comes in its place.
    """
    with tempfile.TemporaryDirectory() as folder:
        git = Git(environment.homelab.trunk, Path(folder))
        write_files(git, texts)
        for path, (pattern, instead) in (edits or {}).items():
            file = git.folder / path
            text = file.read_text(encoding="utf-8")
            found = re.findall(pattern, text)
            if len(found) != 1:
                next_step = "Correct `switch_on` in testbeds/homelab/dagster.py."
                raise ProblemError(Problem(path, f"{pattern!r} once", f"{len(found)} times", next_step))
            text = text.replace(found[0], instead)
            file.write_text(text, encoding="utf-8")
        _write_kustomization(git.folder / "policies")
        commit_and_push(git, message)


def _write_kustomization(policies: Path) -> None:
    files = "".join(f"      - {path.name}\n" for path in sorted(policies.glob("*.yaml")))
    (policies / "Kustomization").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nconfigMapGenerator:\n"
        f"  - name: incumbent-policies\n    namespace: {DAGSTER}\n    files:\n{files}"
        "    options:\n      disableNameSuffixHash: true\n",
        encoding="utf-8",
    )


def _require_room(homelab: Homelab) -> None:
    (node,) = homelab.gcp.items("nodes")
    found = node["status"]["allocatable"]["memory"]
    if int(found.removesuffix("Ki")) < NEEDED_GIB * 1024 * 1024:
        raise ProblemError(
            Problem(
                "the node of gcp",
                f"at least {NEEDED_GIB} GiB of memory",
                found,
                f"End the homelab, and start it with HOMELAB_GCP_MEMORY={NEEDED_GIB + 2}g in the environment.",
            )
        )


def _missing(homelab: Homelab) -> str:
    states = {each.name: each for each in applications(homelab.gcp)}
    unwell = [str(states.get(name, f"no application {name}")) for name in APPLICATIONS if not _is_well(states, name)]
    if unwell:
        refresh = "argocd.argoproj.io/refresh=normal"
        asked = ["root", *(name for name in APPLICATIONS if name in states)]
        homelab.gcp.run("annotate", "applications.argoproj.io", *asked, refresh, "--namespace=argocd", "--overwrite")
        unwell += pods_words(homelab.gcp, DAGSTER)
    return "; ".join(unwell)


def _is_well(states: Mapping[str, Any], name: str) -> bool:
    return name in states and states[name].well

"""Where the contract tests run: two clusters, an Argo CD, a Git repository and an image registry, real or not."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from orchestration.adapters.argocd import ArgoCDApplications
from orchestration.adapters.clusters import KubernetesCluster
from orchestration.adapters.kube_api import KubeApi
from orchestration.promotion.cluster_status import ApplicationStatus, WorkloadStatus
from testbeds.common.processes import wait_until

Json = dict[str, Any]
Value = TypeVar("Value")

ARGOCD, NAMESPACE = "argocd", "contract"
STEADY, TROUBLED = "contract-steady", "contract-troubled"
"""The two Applications: one whose rollouts succeed, and one in which each Deployment has its own trouble."""
BRANCH = "contract"
"""The GitOps repository's branch for these tests, so that nothing else that follows the repository is disturbed."""
REGISTRY = "homelab-registry:5000"
"""It mirrors no other registry. If it did, an image that it lacks would be reported as a failure of that one."""
CONTAINER = "model-server"
PORT = 8080
_WAIT_SECONDS = 60.0
_ASKPASS = '#!/bin/sh\ncase "$1" in\n  Username*) echo contract ;;\n  *) exec cat "$TOKEN_FILE" ;;\nesac\n'


@dataclass(frozen=True)
class Place:
    """Everything that the contract tests may use."""

    kubeconfig: Path
    """The kubeconfig of an administrator, with the contexts gcp and edge."""
    stranger: Path
    """The kubeconfig of a known account without any rights, with the same contexts."""
    wrong: Path
    """A kubeconfig with a token that belongs to no account, with the same contexts."""
    repository: "Repository"
    image_repository: str
    publish: Callable[[str, Mapping[str, str]], str]
    """Pushes an image under a tag and returns its digest; its environment says how its program behaves."""
    targets: Callable[[], list[dict[str, str]]]
    """Returns the labels of each pod that Prometheus scrapes, without the job and the address that all share."""

    @cached_property
    def gcp(self) -> KubeApi:
        return KubeApi(self.kubeconfig, "gcp")

    @cached_property
    def edge(self) -> KubeApi:
        return KubeApi(self.kubeconfig, "edge")

    @cached_property
    def argocd(self) -> ArgoCDApplications:
        return ArgoCDApplications(self.kubeconfig, "gcp")

    @cached_property
    def cluster(self) -> KubernetesCluster:
        return KubernetesCluster(self.kubeconfig, "edge")

    def image(self, tag: str, **environment: str) -> str:
        """Publish an image and return the reference by which a manifest names it."""
        digest = self.publish(tag, {"VERSION": tag, **environment})
        return f"{self.image_repository}:{tag}@{digest}"

    def application(self, name: str = STEADY) -> ApplicationStatus:
        status = self.argocd.application(ARGOCD, name)
        assert status is not None, name
        return status

    def application_json(self, name: str = STEADY) -> Json:
        document = self.gcp.read(application_path(name))
        assert document is not None, name
        return document

    def deployment_json(self, name: str) -> Json:
        document = self.edge.read(deployment_path(name))
        assert document is not None, name
        return document

    def workload(self, name: str) -> WorkloadStatus | None:
        return self.cluster.workload("Deployment", NAMESPACE, name)

    def rolled_out(self, name: str, image: str = "") -> WorkloadStatus | None:
        """Return the Deployment if its rollout is complete: all its pods are new and ready, and no old one is left.

        Args:
            image: the image that the Deployment must state; any image if empty.
        """
        workload = self.workload(name)
        if workload is None or workload.observed_generation < workload.generation:
            return None
        if image and workload.images.get(CONTAINER) != image:
            return None
        counts = {workload.updated, workload.available, workload.total}
        complete = counts == {workload.wanted} and not workload.old_pods
        return workload if complete and all(pod.ready for pod in workload.new_pods) else None

    def bring(self, commit: str, name: str = STEADY, status: str = "Synced") -> ApplicationStatus:
        """Refresh the Application, and wait until it has that sync status at that commit."""
        self.argocd.refresh(ARGOCD, name)

        def compared() -> ApplicationStatus | None:
            application = self.application(name)
            return application if (application.sync_status, application.sync_revision) == (status, commit) else None

        return self.wait(f"{name} is {status} at {commit[:12]}", compared)

    def wait(self, what: str, condition: Callable[[], Value | None]) -> Value:
        return wait_until(condition, _WAIT_SECONDS, what)

    def readings(
        self, what: str, look: Callable[[], WorkloadStatus | None], condition: Callable[[WorkloadStatus], Any]
    ) -> list[WorkloadStatus]:
        """Wait until a workload meets the condition, and return all distinct readings of it until then."""
        found: list[WorkloadStatus] = []

        def met() -> bool:
            status = look()
            if status is not None and (not found or found[-1] != status):
                found.append(status)
            return status is not None and bool(condition(status))

        self.wait(what, met)
        return found


class Repository:
    """A working copy of the contract tests' branch of the GitOps repository."""

    def __init__(self, folder: Path, url: str, token_file: Path | None) -> None:
        self._folder, self._url = folder / "work", url
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        askpass = folder / "askpass"
        askpass.write_text(_ASKPASS)
        askpass.chmod(0o700)
        own = {"GIT_ASKPASS": str(askpass), "GIT_TERMINAL_PROMPT": "0", "TOKEN_FILE": str(token_file or os.devnull)}
        self._environment = {**os.environ, **own, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        self._git("init", "--quiet", f"--initial-branch={BRANCH}")

    def write(self, path: str, *objects: Json) -> None:
        """Write objects into a file of the working copy."""
        self.write_text(path, "\n---\n".join(json.dumps(document, indent=2) for document in objects) + "\n")

    def write_text(self, path: str, text: str) -> None:
        file = self._folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def remove(self, path: str) -> None:
        (self._folder / path).unlink()

    def push(self, *, first: bool = False) -> str:
        """Commit what was written, push it, and return the commit.

        Args:
            first: replace whatever the branch held before.
        """
        self._git("add", "--all")
        identity = ("-c", "user.name=Contract", "-c", "user.email=contract@localhost")
        self._git(*identity, "commit", "--quiet", "--allow-empty", "--message=Look at the contract")
        self._git("push", "--quiet", *(["--force"] if first else []), self._url, BRANCH)
        return self._git("rev-parse", "HEAD").strip()

    def delete_branch(self) -> None:
        # The full name of the ref, because deleting a branch that does not exist is then no error.
        self._git("push", "--quiet", self._url, f":refs/heads/{BRANCH}")

    def _git(self, *arguments: str) -> str:
        command = ["git", *arguments]
        done = subprocess.run(command, cwd=self._folder, env=self._environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout


def application_path(name: str = STEADY) -> str:
    return f"/apis/argoproj.io/v1alpha1/namespaces/{ARGOCD}/applications/{name}"


def deployment_path(name: str) -> str:
    return f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}"


PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"

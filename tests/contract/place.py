"""Where the contract is looked at: two clusters, an Argo CD, a Git repository and an image registry, real or not."""

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
Found = TypeVar("Found")

ARGOCD, NAMESPACE = "argocd", "contract"
STEADY, TROUBLED = "contract-steady", "contract-troubled"
"""The two Applications: one on which rollouts go well, and one on which each Deployment has its own trouble."""
BRANCH = "contract"
"""Of the GitOps repository, so that nothing else that follows it is disturbed."""
REGISTRY = "homelab-registry:5000"
"""No mirror of another: what it lacks is nowhere. (Of a mirror, the failure of the one behind it is what is said.)"""
CONTAINER = "model-server"
PORT = 8080
_WAIT_SECONDS = 60.0
_ASKPASS = '#!/bin/sh\ncase "$1" in\n  Username*) echo contract ;;\n  *) exec cat "$TOKEN_FILE" ;;\nesac\n'


@dataclass(frozen=True)
class Place:
    """Everything that the contract's tests may use."""

    kubeconfig: Path
    """Of somebody who may do everything, with the contexts gcp and edge."""
    stranger: Path
    """Of somebody who is known and may do nothing; the same contexts."""
    wrong: Path
    """With a token that nobody was given; the same contexts."""
    repository: "Repository"
    image_repository: str
    publish: Callable[[str, Mapping[str, str]], str]
    """Pushes an image of that tag, whose environment says how its program behaves; its digest."""
    targets: Callable[[], list[dict[str, str]]]
    """The labels of each pod that Prometheus scrapes, without its job and the address that all have in common."""

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
        """Publish an image; the reference that a manifest names it by."""
        digest = self.publish(tag, {"VERSION": tag, **environment})
        return f"{self.image_repository}:{tag}@{digest}"

    def application(self, name: str = STEADY) -> ApplicationStatus:
        found = self.argocd.application(ARGOCD, name)
        assert found is not None, name
        return found

    def application_json(self, name: str = STEADY) -> Json:
        found = self.gcp.read(application_path(name))
        assert found is not None, name
        return found

    def deployment_json(self, name: str) -> Json:
        found = self.edge.read(deployment_path(name))
        assert found is not None, name
        return found

    def workload(self, name: str) -> WorkloadStatus | None:
        return self.cluster.workload("Deployment", NAMESPACE, name)

    def rolled_out(self, name: str, image: str = "") -> WorkloadStatus | None:
        """The Deployment, when all its pods are of its image (of this one) and ready, and no other is left."""
        found = self.workload(name)
        if found is None or found.observed_generation < found.generation:
            return None
        if image and found.images.get(CONTAINER) != image:
            return None
        done = found.updated == found.available == found.total == found.wanted and not found.old_pods
        return found if done and all(pod.ready for pod in found.new_pods) else None

    def bring(self, commit: str, name: str = STEADY, status: str = "Synced") -> ApplicationStatus:
        """Have Argo CD look, and wait until it says that status of that commit."""
        self.argocd.refresh(ARGOCD, name)

        def compared() -> ApplicationStatus | None:
            found = self.application(name)
            return found if (found.sync_status, found.sync_revision) == (status, commit) else None

        return self.wait(f"{name} is {status} at {commit[:12]}", compared)

    def wait(self, what: str, condition: Callable[[], Found | None]) -> Found:
        return wait_until(condition, _WAIT_SECONDS, what)


class Repository:
    """A working copy of the GitOps repository's branch for the contract; whoever is asked for its token is `git`."""

    def __init__(self, folder: Path, url: str, token_file: Path | None) -> None:
        self._folder, self._url = folder / "work", url
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        askpass = folder / "askpass"
        askpass.write_text(
            '#!/bin/sh\ncase "$1" in\n  Username*) echo contract ;;\n  *) exec cat "$TOKEN_FILE" ;;\nesac\n'
        )
        askpass.chmod(0o700)
        own = {"GIT_ASKPASS": str(askpass), "GIT_TERMINAL_PROMPT": "0", "TOKEN_FILE": str(token_file or os.devnull)}
        self._environment = {**os.environ, **own, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        self._git("init", "--quiet", f"--initial-branch={BRANCH}")

    def write(self, path: str, *objects: Json) -> None:
        """Put these objects into a file of the working copy."""
        self.write_text(path, "\n---\n".join(json.dumps(one, indent=2) for one in objects) + "\n")

    def write_text(self, path: str, text: str) -> None:
        file = self._folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def remove(self, path: str) -> None:
        (self._folder / path).unlink()

    def push(self, *, first: bool = False) -> str:
        """Commit what was written, push it, and return the commit; the first one replaces what was there."""
        self._git("add", "--all")
        identity = ("-c", "user.name=Contract", "-c", "user.email=contract@localhost")
        self._git(*identity, "commit", "--quiet", "--allow-empty", "--message=Look at the contract")
        self._git("push", "--quiet", *(["--force"] if first else []), self._url, BRANCH)
        return self._git("rev-parse", "HEAD").strip()

    def delete_branch(self) -> None:
        self._git("push", "--quiet", self._url, f":refs/heads/{BRANCH}")  # in full, so that none there is no error

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

"""A cluster, its Argo CD and its service in memory: what they say is set by the test."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from orchestration.promotion.cluster_status import (
    ApplicationStatus,
    ClusterService,
    ContainerPort,
    ContainerStatus,
    Node,
    PodStatus,
    WorkloadStatus,
)
from orchestration.promotion.json_reading import Json
from orchestration.promotion.ports import Answer, Headers
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.rights import Right

DOWN = Problem("the fake", "an answer", "that it is down", "Set `down` to None.")
Respond = Callable[[str, str, bytes, Headers], Answer | Problem]
"""What answers a request to a pod (or URL) and path; a `Problem` is raised as a `DependencyError`."""


def no_answer(target: str, path: str, body: bytes, headers: Headers) -> Answer:
    return Answer(404, b"{}", 0.0)


class FakeCluster:
    """Implements the `Cluster` port."""

    def __str__(self) -> str:
        return "the cluster"

    def __init__(self, workload: WorkloadStatus | None = None) -> None:
        self.status = workload
        self.node_list: tuple[Node, ...] = (Node("edge-0", "amd64", True),)
        self.logs: dict[tuple[str, str, bool], str] = {}
        self.respond: Respond = no_answer
        self.asked: list[tuple[str, int, str, bytes, Headers]] = []
        self.service_list: tuple[ClusterService, ...] | None = ()
        """None when the account may not list them."""
        self.objects: list[dict[str, Any]] = []
        """Pods as the API server describes them."""
        self.events: list[dict[str, Any]] = []
        self.down: Problem | None = None
        self.denied: set[str] | None = set()
        """The rights that the account lacks, in words; None when the API server does not tell."""
        self.time: float | None = None
        """What time its API server says it is; None when it does not tell."""
        self._denied: tuple[str, str] | None = None
        self.tried: list[tuple[Json, bool]] = []
        """Each dry run's object, and whether it was a server-side apply."""
        self.published: dict[str, Json] = {}
        """The schemas of each API, by name."""

    def ready(self) -> None:
        if self.down is not None:
            raise DependencyError(self.down)

    def server_time(self) -> float | None:
        self.ready()
        return self.time

    def may(self, right: Right) -> bool | None:
        self.ready()
        return None if self.denied is None else str(right) not in self.denied

    def try_to_apply(self, plural: str, document: Json, *, server_side: bool) -> str | None:
        self.ready()
        self.tried.append((document, server_side))
        said, of = self._denied or ("", "")
        return said if said and of in json.dumps(document) else None

    def deny(self, said: str, of: str = "") -> None:
        """Refuse dry runs from now on with these words; only those of manifests with a text, when one is given."""
        self._denied = said, of

    def schemas(self, api_version: str) -> Json | None:
        self.ready()
        return self.published.get(api_version)

    def nodes(self) -> tuple[Node, ...]:
        self.ready()
        return self.node_list

    def workload(self, kind: str, namespace: str, name: str) -> WorkloadStatus | None:
        self.ready()
        status = self.status
        return status if status and (status.kind, status.namespace, status.name) == (kind, namespace, name) else None

    def log_tail(self, namespace: str, pod: str, container: str, *, previous: bool, lines: int = 20) -> str:
        self.ready()
        return "\n".join(self.logs.get((pod, container, previous), "").splitlines()[-lines:])

    def pods(self, namespace: str, *, fields: str = "", labels: str = "") -> tuple[Json, ...]:
        self.ready()
        wanted = dict(part.split("=", 1) for part in labels.split(",") if part)
        name = fields.removeprefix("metadata.name=")
        return tuple(
            each
            for each in self.objects
            for metadata in [each["metadata"]]
            if metadata["namespace"] == namespace
            and name in ("", metadata["name"])
            and wanted.items() <= metadata.get("labels", {}).items()
        )

    def pod_events(self, namespace: str, pod: str) -> tuple[Json, ...]:
        self.ready()
        return tuple(each for each in self.events if each["involvedObject"]["name"] == pod)

    def services(self, namespace: str) -> tuple[ClusterService, ...] | None:
        self.ready()
        return self.service_list

    def ask_pod(
        self, namespace: str, pod: str, port: int, path: str, body: bytes, headers: Headers, timeout: float
    ) -> Answer:
        self.ready()
        self.asked.append((pod, port, path, body, headers))
        return _said(self.respond(pod, path, body, headers))


class FakeService:
    """Implements the `Service` port."""

    def __init__(self, respond: Respond = no_answer) -> None:
        self.respond = respond
        self.asked: list[tuple[str, bytes, Headers]] = []
        self.down: Problem | None = None
        """Why the values of headers cannot be read."""
        self.reached = Answer(404, b"not found", 0.01)
        """What answers a GET; a model's server has no page at `/`."""
        self.pages: set[str] = set()
        """Addresses that answer a GET with 200."""

    def ask(self, url: str, body: bytes, headers: Headers, timeout: float) -> Answer:
        self.asked.append((url, body, headers))
        return _said(self.respond(url, "", body, headers))

    def reach(self, url: str, headers: Headers, timeout: float) -> Answer:
        return replace(self.reached, status=200) if url in self.pages else self.reached

    def check_headers(self, headers: Headers) -> None:
        if self.down is not None:
            raise DependencyError(self.down)


class FakeArgoCD:
    """Implements the `ArgoCD` port; `on_refresh` is what a refresh sets in motion, nothing unless told."""

    def __str__(self) -> str:
        return "Argo CD"

    def __init__(self, application: ApplicationStatus | None = None) -> None:
        self.status = application
        self.refreshes: list[str] = []
        self.on_refresh: Callable[[str], None] = lambda kind: None
        self.down: Problem | None = None
        self.denied: set[str] | None = set()
        self.time: float | None = None

    def ready(self) -> None:
        if self.down is not None:
            raise DependencyError(self.down)

    def server_time(self) -> float | None:
        self.ready()
        return self.time

    def may(self, right: Right) -> bool | None:
        self.ready()
        return None if self.denied is None else str(right) not in self.denied

    def application(self, namespace: str, name: str) -> ApplicationStatus | None:
        self.ready()
        return self.status if self.status and self.status.name == name else None

    def refresh(self, namespace: str, name: str, *, hard: bool = False) -> None:
        self.ready()
        kind = "hard" if hard else "normal"
        self.refreshes.append(kind)
        self.on_refresh(kind)


def a_pod(
    name: str,
    image: str,
    *,
    container: str = "model-server",
    template_hash: str = "new",
    ready: bool = True,
    **changes: object,
) -> PodStatus:
    """A running pod of one container whose imageID is the reference's own digest; `changes` are the container's."""
    digest = image.rpartition("@")[2]
    status = ContainerStatus(container, image, f"{image.partition('@')[0]}@{digest}", ready, 0)
    status = replace(status, **changes)  # type: ignore[arg-type]  # the fields are the caller's to name right
    return PodStatus(name, f"uid-{name}", template_hash, "Running", ready, False, "edge-0", 0.0, (status,))


def a_deployment(image: str, pods: tuple[PodStatus, ...], *, namespace: str, name: str) -> WorkloadStatus:
    """A Deployment that is wholly rolled out to these pods."""
    count = len(pods)
    container = pods[0].containers[0].name if pods else "model-server"
    return WorkloadStatus(
        "Deployment",
        namespace,
        name,
        generation=2,
        observed_generation=2,
        wanted=count,
        updated=count,
        ready=count,
        available=count,
        total=count,
        images={container: image},
        template_hash="new",
        ports={container: (ContainerPort("http", 8080),)},
        pods=pods,
    )


def an_application(revision: str, *, name: str) -> ApplicationStatus:
    """An Application that is synced and healthy at a revision."""
    return ApplicationStatus(name, "Synced", revision, "Healthy", "Succeeded", revision, 100.0, "", 101.0, True)


def _said(answer: Answer | Problem) -> Answer:
    if isinstance(answer, Problem):
        raise DependencyError(answer)
    return answer

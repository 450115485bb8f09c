"""The whole platform in memory where one image serves all versions, and the address of the model is deployed."""

from dataclasses import replace
from typing import Any, Literal

from orchestration.promotion.cluster_status import ContainerSpec, PodStatus
from orchestration.promotion.deployed import ModelAddress
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.ports import Answer, Headers, QueryResult, Sample
from orchestration.promotion.problems import Problem
from tests.fakes.cluster import a_deployment, a_pod
from tests.fakes.world import POLICY_TEXT, REPOSITORY, World

Kind = Literal["variable", "argument", "next argument", "storageUri"]
SERVER = "ghcr.io/acme/server"
BEFORE = "models:/baseline/1"
"""The address that serves before the first promotion."""
_FIELDS: dict[str, str] = {
    "variable": "variable: MODEL_URI",
    "argument": "argument: --model-uri",
    "next argument": "argument: --model-uri",
    "storageUri": "kind: InferenceService, storage_uri: true",
}
_LINES: dict[str, str] = {
    "variable": "env: [{{name: MODEL_URI, value: {address}}}]",
    "argument": "args: [serve, --model-uri={address}]",
    "next argument": "args: [serve, --model-uri, {address}]",
}
_DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: iris, namespace: ml-apps}}
spec:
  template:
    spec:
      containers:
        - name: model-server # any version
          image: {image}
          {line}
"""
_INFERENCE_SERVICE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {{name: iris, namespace: ml-apps}}
spec:
  predictor:
    model:
      modelFormat: {{name: mlflow}}
      storageUri: {address} # which version
"""


class AddressWorld(World):
    """A world whose policy deploys addresses, in one of the places; an image of `SERVER` serves them all."""

    def __init__(self, kind: Kind = "variable", more: str = "") -> None:
        self.kind = kind
        self.is_laid_out = False
        self.silent_servers = False
        """Whether the servers say nothing about the model that they loaded."""
        policy = POLICY_TEXT.replace(f"image: {{repository: {REPOSITORY}, deadline: 30s}}", "deploys: model_uri")
        super().__init__(policy.replace("manifest: {", f"manifest: {{{_FIELDS[kind]}, ") + more)
        digest = self.images.publish(SERVER, "1", {"MODEL_URI": "models:/other/5"})
        self.serving_image = f"{SERVER}:1@{digest}"
        self.registry.add_version("baseline")
        self.is_laid_out = True
        self.put(BEFORE)

    def manifest(self, address: str) -> str:
        """The manifest with an address."""
        if self.kind == "storageUri":
            return _INFERENCE_SERVICE.format(address=address)
        line = _LINES[self.kind].format(address=address)
        return _DEPLOYMENT.format(image=self.serving_image, line=line)

    def put(self, address: str) -> str:
        """A person commits an address, and Argo CD rolls it out; return the commit."""
        commit = self.git.commit("By hand", {"apps/iris.yaml": self.manifest(address).encode()}, None, "ana")
        self.reconcile()
        return commit

    def register(self, accuracy: float = 0.9, *, dataset: str = "d1", publish: bool = False) -> ModelVersion:
        return super().register(accuracy, dataset=dataset, publish=publish)

    def image(self, number: int) -> str:
        """The address that a promotion of that version commits."""
        return f"models:/iris/{number}"

    def reconcile(self) -> None:
        if not self.is_laid_out:
            return
        address = self.live_image
        template = ModelAddress(address).digest[-8:]
        pods = tuple(self._pod_with(f"iris-{template}-{number}", address, template) for number in (1, 2))
        ready = sum(pod.ready for pod in pods)
        workload = a_deployment(self.serving_image, pods, namespace="ml-apps", name="iris")
        by_kserve = self.kind == "storageUri"
        self.report(address, pods, "InferenceService" if by_kserve else "Deployment")
        self._say_what_they_loaded(address, pods)
        self.cluster.status = replace(
            workload,
            kind="InferenceService" if by_kserve else "Deployment",
            specs=() if by_kserve else self.specs(address),
            storage_uri=address if by_kserve else "",
            template_hash=template,
            ready=ready,
            available=ready,
        )

    def answer_otherwise(self, number: int, answer: Answer) -> None:
        """Let every other model than that version give this answer to its recorded requests."""
        right = self.cluster.respond

        def respond(target: str, path: str, body: bytes, headers: Headers) -> Answer | Problem:
            return right(target, path, body, headers) if self.live_image == self.image(number) else answer

        self.cluster.respond = self.service.respond = respond

    def specs(self, address: str) -> tuple[ContainerSpec, ...]:
        """How a pod with that address starts its containers."""
        if self.kind == "storageUri":
            initializer = ContainerSpec("storage-initializer", arguments=(address, "/mnt/models"))
            return (initializer, ContainerSpec("model-server"))
        if self.kind == "variable":
            return (ContainerSpec("model-server", {"MODEL_URI": address}),)
        joined, apart = ("serve", f"--model-uri={address}"), ("serve", "--model-uri", address)
        return (ContainerSpec("model-server", arguments=joined if self.kind == "argument" else apart),)

    def _pod_with(self, name: str, address: str, template: str) -> PodStatus:
        pod = a_pod(name, self.serving_image, template_hash=template)
        if address in self.crashing_images:
            waiting: dict[str, Any] = {"restarts": 3, "waiting_reason": "CrashLoopBackOff", "last_exit_code": 1}
            pod = a_pod(name, self.serving_image, template_hash=template, ready=False, **waiting)
        return replace(pod, specs=self.specs(address))

    def _say_what_they_loaded(self, address: str, pods: tuple[PodStatus, ...]) -> None:
        """Let each pod's server export `model_info`, as it does once it has loaded its model."""
        named = ModelAddress(address).version
        by_place = {place: known for known, place in self.registry.locations.items()}
        model, number = named or by_place.get(address, ("unregistered", 0))
        labels = {"model": model, "version": str(number)}
        samples = tuple(Sample({"pod": pod.name, **labels}, 1.0, self.clock.now()) for pod in pods)
        self.metrics.script["model_info"] = QueryResult(() if self.silent_servers else samples)

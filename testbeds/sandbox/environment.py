"""The sandbox as an environment for the stories."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from orchestration.promotion.policy import Policy
from testbeds.sandbox.images import publish_image
from testbeds.sandbox.sandbox import Sandbox
from testbeds.story.hosted import Hosted
from testbeds.story.seen import Serving, model_info


class SandboxEnvironment(Hosted):
    """A running sandbox, which implements what the stories need, for its own policy unless another one is given."""

    def __init__(self, sandbox: Sandbox, policy: Policy | None = None) -> None:
        git = sandbox.git
        super().__init__(sandbox, sandbox.processes, sandbox.dagster, git.url, git.token_file, policy)
        self.sandbox = sandbox
        self._policy = policy or sandbox.policy

    def publish(self, version_uri: str, tag: str, **faults: str) -> str:
        repository = self.image_repository.partition("/")[2]
        return publish_image(self.sandbox.registry_url, repository, tag, {"MODEL_URI": version_uri, **faults})

    def serving(self) -> tuple[Serving, ...]:
        target = self._policy.manifest
        pods = f"/api/v1/namespaces/{target.namespace}/pods"
        serving = []
        for pod in self.pods():
            name = pod["metadata"]["name"]
            port = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
            labels = model_info(self._metrics(f"{pods}/{name}:{port}/proxy/metrics"))
            serving.append(Serving(name, *(labels.get(key, "unknown") for key in ("model", "version", "image"))))
        return tuple(serving)

    def scale(self, replicas: int) -> None:
        target = self._policy.manifest
        deployment = f"/apis/apps/v1/namespaces/{target.namespace}/deployments/{target.name}"
        self._api(deployment, "PATCH", {"spec": {"replicas": replicas}})

    def refresh(self) -> None:
        target = self._policy.argocd
        application = f"/apis/argoproj.io/v1alpha1/namespaces/{target.namespace}/applications/{target.application}"
        self._api(application, "PATCH", {"metadata": {"annotations": {"argocd.argoproj.io/refresh": "normal"}}})

    def pods(self) -> list[dict[str, Any]]:
        """List the model's pods, which have the workload's name in their label `app`."""
        target = self._policy.manifest
        pods = f"/api/v1/namespaces/{target.namespace}/pods?labelSelector=app%3D{target.name}"
        return list(json.loads(self._api(pods))["items"])

    def follow(self, application: Mapping[str, Any]) -> None:
        """Have Argo CD follow another folder of the repository, as `kubectl create` does with an Application."""
        namespace = application["metadata"]["namespace"]
        self._api(f"/apis/argoproj.io/v1alpha1/namespaces/{namespace}/applications", "POST", application)

    def _metrics(self, path: str) -> str:
        try:
            return self._api(path)
        except urllib.error.HTTPError:  # a pod that does not answer serves no known version
            return ""

    def _api(self, path: str, method: str = "GET", body: Mapping[str, Any] | None = None) -> str:
        token = self.sandbox.cluster.token_file.read_text(encoding="utf-8")
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        request = urllib.request.Request(
            f"{self.sandbox.cluster.url}{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": kind},
            method=method,
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is never behind a proxy
        with opener.open(request, timeout=15) as answer:
            return str(answer.read().decode("utf-8"))

"""The sandbox as an environment for the stories."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from testbeds.sandbox.images import publish_image
from testbeds.sandbox.sandbox import Sandbox
from testbeds.story.hosted import Hosted
from testbeds.story.seen import Serving, model_info


class SandboxEnvironment(Hosted):
    """A running sandbox, which implements what the stories need."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox, sandbox.processes, sandbox.dagster, sandbox.git.url, sandbox.git.token_file)
        self.sandbox = sandbox

    def publish(self, version_uri: str, tag: str, **faults: str) -> str:
        repository = self.image_repository.partition("/")[2]
        return publish_image(self.sandbox.registry_url, repository, tag, {"MODEL_URI": version_uri, **faults})

    def serving(self) -> tuple[Serving, ...]:
        target = self.sandbox.policy.manifest
        pods = f"/api/v1/namespaces/{target.namespace}/pods"
        serving = []
        for pod in json.loads(self._api(f"{pods}?labelSelector=app%3D{target.name}"))["items"]:
            name = pod["metadata"]["name"]
            port = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
            labels = model_info(self._metrics(f"{pods}/{name}:{port}/proxy/metrics"))
            serving.append(Serving(name, *(labels.get(key, "unknown") for key in ("model", "version", "image"))))
        return tuple(serving)

    def scale(self, replicas: int) -> None:
        target = self.sandbox.policy.manifest
        deployment = f"/apis/apps/v1/namespaces/{target.namespace}/deployments/{target.name}"
        self._api(deployment, {"spec": {"replicas": replicas}})

    def _metrics(self, path: str) -> str:
        try:
            return self._api(path)
        except urllib.error.HTTPError:  # a pod that does not answer serves no known version
            return ""

    def _api(self, path: str, patch: Mapping[str, Any] | None = None) -> str:
        token = self.sandbox.cluster.token_file.read_text(encoding="utf-8")
        request = urllib.request.Request(
            f"{self.sandbox.cluster.url}{path}", headers={"Authorization": f"Bearer {token}"}
        )
        if patch is not None:
            request.method, request.data = "PATCH", json.dumps(patch).encode()
            request.add_header("Content-Type", "application/merge-patch+json")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is never behind a proxy
        with opener.open(request, timeout=15) as answer:
            return str(answer.read().decode("utf-8"))

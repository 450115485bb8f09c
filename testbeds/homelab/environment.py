"""The homelab as an environment for the stories."""

from collections.abc import Mapping
from typing import Any

from orchestration.promotion.problems import ProblemError
from testbeds.common.dagster import Dagster
from testbeds.common.guardian import MARK
from testbeds.common.processes import Processes
from testbeds.homelab import settings
from testbeds.homelab.homelab import Homelab
from testbeds.story.hosted import Hosted
from testbeds.story.seen import Serving, model_info


class HomelabEnvironment(Hosted):
    """A running homelab, which implements what the stories need; client and Dagster run beside it on this machine."""

    git_branch = settings.OWNER.serving.branch

    def __init__(self, homelab: Homelab, processes: Processes, dagster: Dagster) -> None:
        super().__init__(homelab, processes, dagster, homelab.git_url, homelab.git_token_file)
        self.homelab = homelab

    def settings(self) -> Mapping[str, str]:
        own = {"DAGSTER_HOME": str(self.dagster.home), MARK: self.processes.identity}
        return {**super().settings(), **own}

    def publish(self, version_uri: str, tag: str, **faults: str) -> str:
        return self.homelab.publish(version_uri, tag, **faults)

    def serving(self) -> tuple[Serving, ...]:
        target = self.homelab.policy.manifest
        label = "serving.kserve.io/inferenceservice" if target.kind == "InferenceService" else "app"
        pods = self.homelab.edge.items("pods", target.namespace, f"{label}={target.name}")
        return tuple(self._serving(pod) for pod in pods)

    def scale(self, replicas: int) -> None:
        target = self.homelab.policy.manifest
        workload = f"deployment/{target.name}"
        self.homelab.edge.run("scale", workload, f"--namespace={target.namespace}", f"--replicas={replicas}")

    def refresh(self) -> None:
        target = self.homelab.policy.argocd
        application = f"applications.argoproj.io/{target.application}"
        annotation = "argocd.argoproj.io/refresh=normal"
        self.homelab.gcp.run("annotate", application, f"--namespace={target.namespace}", annotation, "--overwrite")

    def _serving(self, pod: Mapping[str, Any]) -> Serving:
        """Ask a pod what it serves, and the kubelet for its image, since a container does not know its own digest."""
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        container = pod["spec"]["containers"][0]
        port = container["ports"][0]["containerPort"]
        path = f"/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/metrics"
        try:
            labels = model_info(self.homelab.edge.run("get", "--raw", path))
        except ProblemError:  # a pod that does not answer serves no known version
            labels = {}
        wanted = str(container["image"])
        statuses = pod["status"].get("containerStatuses") or [{}]
        running = str(statuses[0].get("imageID", ""))
        # The name counts only when it has the digest of the image that really runs.
        image = wanted if wanted.rpartition("@")[2] == running.rpartition("@")[2] else running or "unknown"
        return Serving(name, labels.get("model", "unknown"), labels.get("version", "unknown"), image)

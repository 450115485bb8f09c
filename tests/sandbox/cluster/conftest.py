"""The fixtures of the cluster's tests: a Git repository, an image registry, and a stand-in cluster that uses both."""

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from testbeds.sandbox.cluster.handle import ClusterHandle, start_cluster

REPOSITORY = "ghcr.io/someone/iris"
APPLICATION = "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications/iris"
DEPLOYMENT = "/apis/apps/v1/namespaces/ml/deployments/iris"
PODS = "/api/v1/namespaces/ml/pods"
POD_COMMAND = [sys.executable, str(Path(__file__).with_name("pod_server.py"))]

_APPLICATION = """\
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: iris, namespace: argocd}
spec:
  project: models
  source: {repoURL: https://example.org/platform.git, targetRevision: main, path: manifests/iris}
  destination: {name: edge, namespace: ml}
  syncPolicy: {automated: {prune: true, selfHeal: true}, retry: {limit: 0}}
"""
DEPLOYMENT_TEXT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: iris}
spec:
  replicas: 2
  progressDeadlineSeconds: 3
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  selector: {matchLabels: {app: iris}}
  template:
    metadata:
      labels: {app: iris}
      annotations: {prometheus.io/scrape: "true"}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - name: model-server
          image: IMAGE
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /health, port: http}, periodSeconds: 1}
          lifecycle: {preStop: {sleep: {seconds: 1}}}
          resources: {requests: {memory: 64Mi, cpu: 100m}, limits: {memory: 128Mi}}
"""
_SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: iris}
spec:
  type: NodePort
  selector: {app: iris}
  ports: [{port: 80, targetPort: http, nodePort: 30808}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: notes}
data: {colour: blue}
"""


class Images:
    """An image registry that serves single-platform images by tag and digest."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.blobs: dict[str, bytes] = {}

    def publish(self, tag: str, architecture: str = "amd64", **environment: str) -> str:
        """Publish an image whose config has these environment variables, and return its digest."""
        entries = [f"{name}={value}" for name, value in {"VERSION": tag, **environment}.items()]
        config = json.dumps({"architecture": architecture, "os": "linux", "config": {"Env": entries}}).encode()
        self.blobs[f"blobs/{_digest(config)}"] = config
        manifest = json.dumps({"schemaVersion": 2, "config": {"digest": _digest(config)}, "layers": []}).encode()
        for name in (tag, _digest(manifest)):
            self.blobs[f"manifests/{name}"] = manifest
        return _digest(manifest)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Platform:
    """The GitOps repository, a working copy of it, and the folder of the stand-in that follows it."""

    def __init__(self, folder: Path, images: Images) -> None:
        self.images = images
        self.state = folder / "state of the cluster"
        self.bare, self._work = folder / "platform.git", folder / "work"
        _git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(self.bare))
        _git(folder, "init", "--quiet", "--initial-branch=main", str(self._work))
        images.publish("v1")
        self.write("argocd-apps/iris-classifier-app.yaml", _APPLICATION)
        self.write("manifests/iris/service.yaml", _SERVICE)
        self.set_image(f"{REPOSITORY}:v1")

    def write(self, path: str, text: str) -> None:
        target = self._work / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def push(self, *removed: str) -> str:
        """Commit everything that was written, push it, and return the commit."""
        for path in removed:
            (self._work / path).unlink()
        _git(self._work, "add", "--all")
        identity = ["-c", "user.name=a", "-c", "user.email=a@localhost"]
        _git(self._work, *identity, "commit", "--quiet", "--allow-empty", "-m", "change")
        _git(self._work, "push", "--quiet", str(self.bare), "main")
        return _git(self._work, "rev-parse", "HEAD").strip()

    def set_image(self, image: str, **replaced: str) -> str:
        """Push a Deployment of that image, with each `old="new"` text replaced as well, and return the commit."""
        text = DEPLOYMENT_TEXT.replace("IMAGE", image)
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        self.write("manifests/iris/deployment.yaml", text)
        return self.push()


class Running:
    """A running stand-in with its platform, and shortcuts for the queries that tests repeat."""

    def __init__(self, cluster: ClusterHandle, platform: Platform) -> None:
        self.cluster, self.platform = cluster, platform

    @property
    def application(self) -> dict[str, Any]:
        application: dict[str, Any] = self.cluster.get(APPLICATION)
        return application

    @property
    def deployment(self) -> dict[str, Any]:
        deployment: dict[str, Any] = self.cluster.get(DEPLOYMENT)
        return deployment

    @property
    def pods(self) -> list[dict[str, Any]]:
        pods: list[dict[str, Any]] = self.cluster.get(PODS)["items"]
        return pods

    def container_states(self, image: str) -> list[dict[str, Any]]:
        """Return the container statuses of the pods of that image."""
        statuses = [status for pod in self.pods for status in pod["status"].get("containerStatuses", [])]
        return [status for status in statuses if status["image"] == image]

    def refresh(self, kind: str = "normal") -> None:
        patch = {"metadata": {"annotations": {"argocd.argoproj.io/refresh": kind}}}
        self.cluster.patch(APPLICATION, patch).raise_for_status()

    def refresh_handled(self) -> bool:
        return "argocd.argoproj.io/refresh" not in self.application["metadata"].get("annotations", {})

    def rolled_out(self, commit: str, image: str) -> bool:
        """Check that Argo CD reports the commit as Synced and Healthy, and both pods run the image and are ready."""
        status = self.application["status"]
        reported = (status["sync"]["status"], status["sync"].get("revision"), status["health"]["status"])
        states = [state for pod in self.pods for state in pod["status"].get("containerStatuses", [{}])]
        all_ready = len(states) == 2 and all(state.get("image") == image and state["ready"] for state in states)
        return all_ready and reported == ("Synced", commit, "Healthy")

    def roll_out(self, image: str, **replaced: str) -> str:
        commit = self.platform.set_image(image, **replaced)
        self.refresh()
        self.cluster.wait_for(f"a rollout of {image}", lambda: self.rolled_out(commit, image))
        return commit

    @property
    def service_url(self) -> str:
        return f"http://127.0.0.1:{self.cluster.node_ports[30808]}"


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def images() -> Iterator[Images]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0].removeprefix("/v2/someone/iris/")
            content = served.blobs.get(path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            """Log nothing for a request."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Images(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def platform(tmp_path: Path, images: Images) -> Platform:
    return Platform(tmp_path, images)


@pytest.fixture
def running(platform: Platform) -> Iterator[Running]:
    """A stand-in on which the first image is rolled out."""
    mirrors = {"ghcr.io": platform.images.url}
    url = platform.bare.as_uri()
    with start_cluster(platform.state, url, oci_mirrors=mirrors, pod_command=POD_COMMAND) as cluster:
        running = Running(cluster, platform)
        commit = (
            running.application["status"]["sync"].get("revision") or _git(platform.bare, "rev-parse", "main").strip()
        )
        cluster.wait_for("a first rollout", lambda: running.rolled_out(commit, f"{REPOSITORY}:v1"))
        yield running

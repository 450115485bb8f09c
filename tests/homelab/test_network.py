"""The network policies on real clusters: what docs/network.md lists passes, and what it does not list does not.

Whatever is kept from a target is kept from one that answers others at the same time, so that no dead target counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from bootstrap.kubectl import Document, Kubectl
from orchestration.promotion.problems import ProblemError
from testbeds.common.processes import wait_until
from testbeds.homelab import settings
from testbeds.homelab.environment import HomelabEnvironment
from testbeds.homelab.homelab import Homelab
from testbeds.homelab.settings import EDGE, GCP

pytestmark = pytest.mark.timeout(600)
_NAME = "network-probe"
_SECONDS = 120.0
_CONNECT = """\
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()
except OSError as error:
    print("no:", type(error).__name__)
else:
    print("yes")
"""


@dataclass(frozen=True)
class Place:
    """Where connections are tried from: a pod of a namespace with these labels, which runs nothing else."""

    cluster: str
    namespace: str
    labels: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        labels = ",".join("=".join(each) for each in self.labels)
        return f"{self.cluster} {self.namespace} {labels or 'no labels'}"


@dataclass(frozen=True)
class Target:
    """A Service's pod, by its label, at a port of its own; or an address."""

    name: str
    port: int
    cluster: str = ""
    namespace: str = ""

    def address(self, homelab: Homelab) -> str:
        if not self.namespace:
            return settings.ADDRESS
        kubectl = homelab.edge if self.cluster == EDGE else homelab.gcp
        pods = kubectl.items("pods", self.namespace, f"app={self.name}")
        ready = [pod["status"]["podIP"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        return str(ready[0])

    def __str__(self) -> str:
        return f"{self.name}:{self.port}"


ANYWHERE = {cluster: Place(cluster, "default") for cluster in (EDGE, GCP)}
"""Pods of a namespace without policies: what they cannot reach, the target's own policy keeps from them."""
MODEL = Place(EDGE, "ml-apps")
LOADING = Place(EDGE, "ml-apps", (("loads-from", "mlflow"),))
MONITORING, MLFLOW_NAMESPACE = Place(GCP, "monitoring"), Place(GCP, "mlflow")
PLACES = (*ANYWHERE.values(), MODEL, LOADING, MONITORING, MLFLOW_NAMESPACE)
IRIS = Target("iris-classifier", 8080, EDGE, "ml-apps")
EDGE_STATE = Target("kube-state-metrics", 8080, EDGE, "monitoring")
REGISTRY = Target("mlflow by its NodePort", settings.MLFLOW_PORT)
MLFLOW = Target("mlflow", 5000, GCP, "mlflow")
PROMETHEUS, ALERTMANAGER = (
    Target("prometheus", 9090, GCP, "monitoring"),
    Target("alertmanager", 9093, GCP, "monitoring"),
)
DISPATCHER, STATE = Target("dispatcher", 8080, GCP, "monitoring"), Target("kube-state-metrics", 8080, GCP, "monitoring")
PASSES = [
    (ANYWHERE[EDGE], IRIS),
    (ANYWHERE[EDGE], EDGE_STATE),
    (ANYWHERE[EDGE], REGISTRY),
    (LOADING, REGISTRY),
    (ANYWHERE[GCP], MLFLOW),
    (ANYWHERE[GCP], PROMETHEUS),
    (ANYWHERE[GCP], ALERTMANAGER),
]
DOES_NOT = [
    (MODEL, REGISTRY),
    (MODEL, IRIS),
    (MODEL, EDGE_STATE),
    (LOADING, EDGE_STATE),
    (ANYWHERE[GCP], DISPATCHER),
    (ANYWHERE[GCP], STATE),
    (MONITORING, PROMETHEUS),
    (MONITORING, MLFLOW),
    (MLFLOW_NAMESPACE, PROMETHEUS),
]


@pytest.fixture(scope="module")
def probes(homelab: HomelabEnvironment) -> Iterator[Homelab]:
    """Run a probe in each place, and remove them at the end."""
    running = homelab.homelab
    try:
        for place in PLACES:
            _kubectl(running, place).apply([_pod(place)])
        for place in PLACES:
            wait_until(partial(_is_ready, running, place), _SECONDS, f"the probe in {place} runs")
        yield running
    finally:
        for place in PLACES:
            remove = ("delete", "pod", _name(place), f"--namespace={place.namespace}", "--ignore-not-found")
            _kubectl(running, place).run(*remove, "--grace-period=1", seconds=_SECONDS)


@pytest.mark.parametrize(("place", "target"), PASSES, ids=str)
def test_what_the_table_lists_passes(probes: Homelab, place: Place, target: Target) -> None:
    """A connection from there opens; a policy counts a moment after its pod was made."""
    wait_until(lambda: _tried(probes, place, target) == "yes", _SECONDS, f"{place} reaches {target}")


@pytest.mark.parametrize(("place", "target"), DOES_NOT, ids=str)
def test_what_it_does_not_list_does_not(probes: Homelab, place: Place, target: Target) -> None:
    """A connection from there does not open, and the target answers its own node."""
    wait_until(lambda: _tried(probes, place, target) != "yes", _SECONDS, f"{place} is kept from {target}")
    if target.namespace:
        kubectl = probes.edge if target.cluster == EDGE else probes.gcp
        pods = kubectl.items("pods", target.namespace, f"app={target.name}")
        conditions = [each for pod in pods for each in pod["status"].get("conditions", ()) if each["type"] == "Ready"]
        assert any(each["status"] == "True" for each in conditions), f"no pod of {target} is ready"


def test_names_are_found_by_models(probes: Homelab) -> None:
    """A model's pod may ask for names, and for nothing else."""
    script = "import socket; print(socket.gethostbyname('kubernetes.default.svc.cluster.local'))"
    said = _exec(probes, MODEL, "python3", "-c", script)
    assert said.startswith("10.53.")


def _kubectl(homelab: Homelab, place: Place) -> Kubectl:
    return homelab.edge if place.cluster == EDGE else homelab.gcp


def _name(place: Place) -> str:
    return "-".join((_NAME, *(value for _, value in place.labels)))


def _pod(place: Place) -> Document:
    container = {
        "name": "probe",
        "image": settings.PYTHON_IMAGE,
        "command": ["sleep", "3600"],
        "resources": {"limits": {"cpu": "100m", "memory": "32Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    own = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"automountServiceAccountToken": False, "securityContext": own, "containers": [container]}
    metadata = {"name": _name(place), "namespace": place.namespace, "labels": dict(place.labels)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _is_ready(homelab: Homelab, place: Place) -> bool:
    try:
        return _exec(homelab, place, "echo", "here") == "here"
    except ProblemError:
        return False


def _tried(homelab: Homelab, place: Place, target: Target) -> str:
    return _exec(homelab, place, "python3", "-c", _CONNECT, target.address(homelab), str(target.port))


def _exec(homelab: Homelab, place: Place, *command: str) -> str:
    within = ("exec", _name(place), f"--namespace={place.namespace}", "--")
    return _kubectl(homelab, place).run(*within, *command).strip()

"""What everything else needs of the clusters themselves: name resolution, storage, node sizes, recovery."""

import json
from collections.abc import Iterator

import pytest

from bootstrap.kubectl import Kubectl
from orchestration.promotion.problems import ProblemError
from testbeds.common.processes import wait_until
from testbeds.homelab import clusters, settings
from tests.homelab.disturb import NODE
from tests.homelab.lab import SETTLE_SECONDS, Lab

NAMESPACE = "test-runtime"
CLAIM = "kept"
GIB = 1024**3


@pytest.fixture(scope="module")
def namespace(champion_serves: Lab) -> Iterator[Kubectl]:
    """Create a namespace for this module on edge, with a volume claim, and delete it afterwards."""
    edge = champion_serves.homelab.edge
    edge.apply(
        [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": CLAIM, "namespace": NAMESPACE},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}},
            },
        ]
    )
    yield edge
    edge.run("delete", "namespace", NAMESPACE, seconds=SETTLE_SECONDS)


def start_pod(edge: Kubectl, name: str, node: str) -> None:
    """Start a pod on a node that does nothing but wait, with the claim mounted at /kept."""
    waiting = "import signal; signal.signal(signal.SIGTERM, signal.SIG_DFL); signal.pause()"
    container = {
        "name": "python",
        "image": settings.PYTHON_IMAGE,
        "command": ["python3", "-c", waiting],
        "volumeMounts": [{"name": CLAIM, "mountPath": "/kept"}],
    }
    edge.apply(
        [
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {
                    "nodeSelector": {"kubernetes.io/hostname": node},
                    "containers": [container],
                    "volumes": [{"name": CLAIM, "persistentVolumeClaim": {"claimName": CLAIM}}],
                    "terminationGracePeriodSeconds": 1,
                },
            }
        ]
    )
    edge.run("wait", f"pod/{name}", f"--namespace={NAMESPACE}", "--for=condition=Ready", "--timeout=110s", seconds=120)


def python(edge: Kubectl, pod: str, code: str) -> str:
    """Run Python code in a pod, and return what it prints."""
    return edge.run("exec", pod, f"--namespace={NAMESPACE}", "--", "python3", "-c", code).strip()


def addresses(edge: Kubectl) -> dict[str, str]:
    return {node["metadata"]["name"]: node["status"]["addresses"][0]["address"] for node in edge.items("nodes")}


def test_a_pod_on_the_agent_resolves_all_names_and_keeps_what_it_writes(namespace: Kubectl) -> None:
    """Names of services and of the control plane resolve, gcp's ports answer, and a volume outlives its pod."""
    start_pod(namespace, "first", NODE)
    lookup = "import socket, sys; print(*(socket.gethostbyname(name) for name in sys.argv[1:]))"
    names = (settings.CONTROL_PLANE_HOST, "kubernetes.default.svc.cluster.local", "kube-dns.kube-system")
    output = namespace.run("exec", "first", f"--namespace={NAMESPACE}", "--", "python3", "-c", lookup, *names)
    assert output.split() == [settings.ADDRESS, "10.53.0.1", "10.53.0.10"]
    url = f"http://{settings.CONTROL_PLANE_HOST}:{settings.PROMETHEUS_PORT}/-/ready"
    code = f"import urllib.request as r; print(r.urlopen('{url}', timeout=10).status)"
    assert python(namespace, "first", code) == "200"
    python(namespace, "first", "open('/kept/note', 'w').write('still here')")
    namespace.run("delete", "pod", "first", f"--namespace={NAMESPACE}", seconds=SETTLE_SECONDS)
    start_pod(namespace, "second", NODE)
    assert python(namespace, "second", "print(open('/kept/note').read())") == "still here"


def test_gcps_node_is_as_small_as_an_e2_small(champion_serves: Lab) -> None:
    """The scheduler sees a node of 2 GiB, and the kernel limits the node to that."""
    node = champion_serves.homelab.gcp.items("nodes")[0]
    amount = node["status"]["capacity"]["memory"]
    assert amount.endswith("Ki")
    assert int(amount[:-2]) * 1024 <= 2.1 * GIB
    host = json.loads(champion_serves.homelab.docker.run("inspect", "k3d-gcp-server-0"))[0]["HostConfig"]
    assert host["Memory"] == 2 * GIB


def test_a_killed_node_gets_its_address_and_routes_back(lab: Lab, namespace: Kubectl) -> None:
    """A node that is killed and started again has the same address, and its pods reach those on the other node."""
    docker, before = lab.homelab.docker, addresses(namespace)
    docker.run("kill", NODE)
    docker.run("start", NODE)
    started = docker.run("inspect", "--format={{.State.StartedAt}}", NODE)
    wait_until(lambda: has_renewed_its_lease(namespace, started), SETTLE_SECONDS, f"{NODE} is alive again")
    assert addresses(namespace) == before
    start_pod(namespace, "third", NODE)
    code = "import socket; print(socket.gethostbyname('kube-dns.kube-system'))"
    assert python(namespace, "third", code) == "10.53.0.10"


def has_renewed_its_lease(edge: Kubectl, since: str) -> bool:
    """Return whether the node's kubelet has renewed its lease since then.

    The Ready condition does not answer this, because it outlives the node for a while.
    """
    lease = edge.read("lease", NODE, "kube-node-lease") or {}
    return str(lease["spec"]["renewTime"]) > since


def test_a_frozen_api_answers_no_request_until_it_is_thawed(lab: Lab) -> None:
    """After `freeze_api` requests end only by a timeout, and after `thaw_api` they are answered again."""
    docker, edge = lab.homelab.docker, lab.homelab.edge
    clusters.freeze_api(docker, settings.EDGE)
    try:
        with pytest.raises(ProblemError, match="timed out"):
            edge.run("get", "--raw", "/readyz", seconds=3)
    finally:
        clusters.thaw_api(docker, settings.EDGE)
    assert edge.run("get", "--raw", "/readyz") == "ok"

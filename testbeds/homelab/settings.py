"""Names, addresses, ports and versions of the homelab; they are stated only here.

The network's gateway stands in for the tailnet address of `edge`: every published port is bound to it, and it can be
reached from the machine and from the pods of both clusters. `HOMELAB_ADDRESS` moves it, with the network around it.
"""

import ipaddress
import os

from bootstrap.owner import ControlPlane, Edge, GitHub, Images, Mlflow, Owner
from testbeds.common.tools import CHECKOUT

ADDRESS = os.environ.get("HOMELAB_ADDRESS", "100.85.38.128")

GCP_MEMORY = os.environ.get("HOMELAB_GCP_MEMORY", "2g")
"""What the control plane's node has: as much as an e2-small, and more for Dagster on it."""

NETWORK = "homelab"
BRIDGE = "homelab0"
"""The network's interface on the machine; with a name of its own it can be found after the daemon has ended."""
SUBNET = ipaddress.IPv4Interface(f"{ADDRESS}/24").network
DYNAMIC_RANGE = list(SUBNET.subnets(new_prefix=26))[1]
"""The range of the nodes' addresses, which Docker chooses; the fixed addresses are outside."""

GCP = "gcp"
EDGE = "edge"
CLUSTERS = (GCP, EDGE)
API_PORTS = {GCP: 6443, EDGE: 6550}
MLFLOW_PORT = 30500
PROMETHEUS_PORT = 30900
ALERTMANAGER_PORT = 30930
EXPORTER_PORT = 30950
"""The port of `incumbent companion`, which runs beside the control plane as a process of the machine."""
SERVICE_PORTS = (30808, 30809)
CONTROL_PLANE_HOST = "gcp-control-plane"
"""The name by which edge's pods reach the ports that gcp publishes."""

REGISTRY = "homelab-registry"
REGISTRY_PORT = 5000
REGISTRY_ADDRESS = str(SUBNET[10])
GIT = "homelab-git"
GIT_PORT = 3000
GIT_ADDRESS = str(SUBNET[11])
RECEIVER = "homelab-receiver"
RECEIVER_PORT = 3001
RECEIVER_ADDRESS = str(SUBNET[12])
GITHUB = "homelab-github"
GITHUB_PORT = 3002
GITHUB_ADDRESS = str(SUBNET[13])

MLFLOW_URL = f"http://{ADDRESS}:{MLFLOW_PORT}"
PROMETHEUS_URL = f"http://{ADDRESS}:{PROMETHEUS_PORT}"
ALERTMANAGER_URL = f"http://{ADDRESS}:{ALERTMANAGER_PORT}"
EXPORTER_URL = f"http://{ADDRESS}:{EXPORTER_PORT}/metrics"
REGISTRY_URL = f"http://{ADDRESS}:{REGISTRY_PORT}"
GIT_URL = f"http://{ADDRESS}:{GIT_PORT}"
RECEIVER_URL = f"http://{ADDRESS}:{RECEIVER_PORT}"
GITHUB_URL = f"http://{ADDRESS}:{GITHUB_PORT}"

OWNER = Owner(
    repository=f"{GIT_URL}/another-owner/serving.git",
    branch="production",
    runbooks="https://git.example.org/another-owner/serving/runbooks.md",
    registry="ghcr.io/another-owner",
    images=Images(pipeline="pipeline", companion="companion"),
    models={"iris-classifier": "iris", "wine-quality": "wine"},
    control_plane=ControlPlane(context=GCP, host=CONTROL_PLANE_HOST, address=ADDRESS),
    edge=Edge(context=EDGE, address=ADDRESS, api_port=API_PORTS[EDGE]),
    mlflow=Mlflow(allowed_hosts=(f"{ADDRESS}:{MLFLOW_PORT}",)),  # the machine reaches its NodePort by this address
    github=GitHub(api=GITHUB_URL),
)
"""Everything follows from these settings, as it follows from `homelab.yaml` in a fork. Their owner is another one than
the checkout's, so that nothing can work because a name of the checkout's owner was forgotten somewhere."""
GITHUB_REPOSITORY = OWNER.github_repository
"""As the dispatcher's configuration names it."""
COMPANION_IMAGE = f"{OWNER.companion}:0.1.0"
"""As the dispatcher's manifest names it; it is made from the checkout."""
PIPELINE_IMAGE = f"{OWNER.pipeline}:0.1.0"
"""As the manifests of Dagster name it; it is made from the checkout, too."""

KUBERNETES_VERSION = "v1.34.4"
K3D_VERSION = "v5.8.3"
ARGOCD_VERSION = "v3.2.11"
ARGO_ROLLOUTS_VERSION = "v1.8.3"
KSERVE_VERSION = "v0.15.2"
_GITHUB = "https://github.com"
MANIFEST_URLS = {
    "argocd": f"https://raw.githubusercontent.com/argoproj/argo-cd/{ARGOCD_VERSION}/manifests/core-install.yaml",
    "argo-rollouts": f"{_GITHUB}/argoproj/argo-rollouts/releases/download/{ARGO_ROLLOUTS_VERSION}/install.yaml",
    "kserve": f"{_GITHUB}/kserve/kserve/releases/download/{KSERVE_VERSION}/kserve.yaml",
}
"""Where the programs' own projects publish what installs them."""

NODE_IMAGE = "docker.io/rancher/k3s:v1.34.4-k3s1"
BUILT_HERE_LABEL = "incumbent.homelab.built-here"
"""The label of a node image that is not k3s's own: a key of what the image was made from."""
K3D_TOOLS_IMAGE = "ghcr.io/k3d-io/k3d-tools:5.8.3"
REGISTRY_IMAGE = "docker.io/library/registry:2"
PYTHON_IMAGE = "docker.io/library/python:3.11-bookworm"
PAUSE_IMAGE = "docker.io/rancher/mirrored-pause:3.6"
COREDNS_IMAGE = "docker.io/rancher/mirrored-coredns-coredns:1.12.4"
LOCAL_PATH_IMAGE = "docker.io/rancher/local-path-provisioner:v0.0.30"
METRICS_SERVER_IMAGE = "docker.io/rancher/mirrored-metrics-server:v0.9.0"
BUSYBOX_IMAGE = "docker.io/rancher/mirrored-library-busybox:1.36.1"
ARGOCD_IMAGE = f"quay.io/argoproj/argocd:{ARGOCD_VERSION}"
REDIS_IMAGE = "public.ecr.aws/docker/library/redis:8.2.2-alpine"
PROMETHEUS_IMAGE = "docker.io/prom/prometheus:v3.5.0"
ALERTMANAGER_IMAGE = "docker.io/prom/alertmanager:v0.28.1"
KUBE_STATE_METRICS_IMAGE = "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.18.0"
GRAFANA_IMAGE = "docker.io/grafana/grafana:11.3.0"
POSTGRES_IMAGE = "docker.io/library/postgres:17.6-bookworm"
MLFLOW_IMAGE = "ghcr.io/mlflow/mlflow:v3.17.2-full"
ARGO_ROLLOUTS_IMAGE = f"quay.io/argoproj/argo-rollouts:{ARGO_ROLLOUTS_VERSION}"
KSERVE_IMAGE = f"docker.io/kserve/kserve-controller:{KSERVE_VERSION}"

STATE = CHECKOUT / ".state" / "homelab"


def service_url(port: int) -> str:
    """Return the URL of a model's NodePort on edge."""
    return f"http://{ADDRESS}:{port}"


def api_url(cluster: str) -> str:
    """Return the URL of a cluster's API server, for the machine and for the pods of both clusters."""
    return f"https://{ADDRESS}:{API_PORTS[cluster]}"

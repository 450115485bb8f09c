"""A real API server with etcd on the loopback, in the homelab's version, and Argo CD's kinds in it.

There is no node, so that objects are admitted or refused as in a cluster, and no pod ever runs.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bootstrap.kubectl import Kubectl
from orchestration.adapters.kube_api import KubeApi
from orchestration.promotion.problems import DependencyError, ProblemError
from testbeds.common.certificates import self_signed
from testbeds.common.processes import Processes, Service, wait_until
from testbeds.common.services import HOST, free_ports
from testbeds.homelab.offline.go_build import argocd_sources
from tests.platform import programs

CONTEXT = "cluster"
CONTROLLERS = ("deployment", "replicaset", "resourcequota", "serviceaccount")
"""What makes pods of Deployments, counts them against quotas, and makes each namespace's account."""
_ADMIN = "of-this-test"
_SECONDS = 120.0


@dataclass(frozen=True)
class ApiServer:
    """A running API server, and its administrator's kubectl."""

    url: str
    folder: Path
    admin: Kubectl

    def account(self, namespace: str, name: str) -> KubeApi:
        """Return the API as a service account sees it, with a token of its own."""
        token = self.admin.run("create", "token", name, f"--namespace={namespace}").strip()
        return KubeApi(_kubeconfig(self.folder, f"{namespace}-{name}", self.url, token), CONTEXT)


@contextmanager
def running_api_server(folder: Path) -> Iterator[ApiServer]:
    """Run etcd, an API server and the controllers in `CONTROLLERS` until the block ends."""
    processes = Processes(folder)
    store, peers, port = free_ports(3)
    try:
        etcd = processes.start("etcd", _etcd(folder, store, peers))
        server = processes.start("kube-apiserver", _api_server(folder, store, port))
        url = f"https://localhost:{port}"
        kubeconfig = _kubeconfig(folder, "admin", url, _ADMIN)
        wait_until(lambda: _is_ready(KubeApi(kubeconfig, CONTEXT)), _SECONDS, "the API server is ready", server)
        running = ApiServer(url, folder, Kubectl(programs.kubernetes("kubectl"), kubeconfig, CONTEXT))
        processes.start("kube-controller-manager", _controllers(kubeconfig))
        _make_kinds(running, etcd)
        yield running
    finally:
        processes.stop_all()


def _etcd(folder: Path, store: int, peers: int) -> Sequence[str | Path]:
    clients, peer = f"http://{HOST}:{store}", f"http://{HOST}:{peers}"
    return [
        *(programs.etcd(), "--unsafe-no-fsync", f"--data-dir={folder / 'etcd'}"),
        *(f"--listen-client-urls={clients}", f"--advertise-client-urls={clients}"),
        *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}"),
    ]


def _api_server(folder: Path, store: int, port: int) -> Sequence[str | Path]:
    """Return the command, with the flags of the homelab's nodes as far as they concern no node."""
    certificate, key = folder / "server.crt", folder / "server.key"
    for path, text in zip((certificate, key), self_signed("localhost"), strict=True):
        path.write_text(text, encoding="utf-8")
    (folder / "tokens.csv").write_text(f'{_ADMIN},admin,admin,"system:masters"\n', encoding="utf-8")
    return [
        *(programs.kubernetes("kube-apiserver"), f"--etcd-servers=http://{HOST}:{store}"),
        *(f"--bind-address={HOST}", f"--advertise-address={HOST}", f"--secure-port={port}"),
        *(f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}"),
        *(f"--token-auth-file={folder / 'tokens.csv'}", "--authorization-mode=Node,RBAC"),
        *(f"--service-account-key-file={certificate}", f"--service-account-signing-key-file={key}"),
        *("--service-account-issuer=https://kubernetes.default.svc.cluster.local", "--allow-privileged=true"),
        *("--service-cluster-ip-range=10.43.0.0/16", "--endpoint-reconciler-type=none", "--profiling=false"),
    ]


def _controllers(kubeconfig: Path) -> Sequence[str | Path]:
    names = ",".join(f"{name}-controller" for name in CONTROLLERS)
    (port,) = free_ports(1)
    program = programs.kubernetes("kube-controller-manager")
    return [
        *(program, f"--kubeconfig={kubeconfig}", f"--controllers={names}", "--leader-elect=false"),
        *(f"--bind-address={HOST}", f"--secure-port={port}", "--profiling=false"),
    ]


def _is_ready(api: KubeApi) -> bool:
    try:
        api.ready()
    except DependencyError:
        return False
    return True


def _make_kinds(server: ApiServer, etcd: Service) -> None:
    """Teach the API server Argo CD's kinds, and wait until it serves them."""
    crds = argocd_sources() / "manifests/crds"
    files = [f"--filename={crds / name}" for name in ("application-crd.yaml", "appproject-crd.yaml")]
    server.admin.run("apply", "--server-side", *files)

    def served() -> bool:
        try:
            return server.admin.items("applications") == []
        except ProblemError:
            return False

    wait_until(served, _SECONDS, "Applications are served", etcd)


def _kubeconfig(folder: Path, name: str, url: str, token: str) -> Path:
    path = folder / f"{name}.kubeconfig"
    cluster = {"server": url, "certificate-authority": str(folder / "server.crt")}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": CONTEXT, "cluster": cluster}],
        "users": [{"name": CONTEXT, "user": {"token": token}}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}],
        "current-context": CONTEXT,
    }
    path.write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML
    return path

"""The sandbox's services, one function each: how it is started, and how one knows that it answers."""

import json
import random
import shutil
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestration.promotion.images import ImageRef
from orchestration.promotion.policy import Policy
from testbeds.sandbox.git_server import create_repository
from testbeds.sandbox.processes import Processes, Service, wait_until
from testbeds.sandbox.state import node_port
from testbeds.sandbox.tools import CHECKOUT, find_tool

HOST = "127.0.0.1"
BRANCH = "main"
_REPOSITORY = "gitops.git"
_START_SECONDS = 120.0
# Below the ports that the kernel gives to outgoing connections: what was free stays free until it is taken.
_PORTS = range(20000, 32000)


def free_ports(count: int, liked: Sequence[int] = ()) -> list[int]:
    """That many different ports on which nobody listens; the liked ones first, when they are free."""
    found: list[int] = []
    for port in (*liked, *random.sample(_PORTS, len(_PORTS))):
        with socket.socket() as one:
            if one.connect_ex((HOST, port)) == 0:
                continue
        with socket.socket() as one:
            # As servers bind: connections of an earlier one that linger do not take the port from the next.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind((HOST, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"no {count} free ports between {_PORTS.start} and {_PORTS.stop}")


def answers(url: str) -> bool:
    """Whether a GET of that URL is answered with a success."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
            return bool(200 <= answer.status < 300)
    except (urllib.error.URLError, OSError):
        return False


def python(module: str, *arguments: str | Path) -> list[str | Path]:
    """The command that runs a module of the checkout with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


@dataclass(frozen=True)
class Git:
    service: Service
    url: str
    token_file: Path


def start_git(processes: Processes, state: Path, token: str) -> Git:
    """A Git server with one repository, made from this checkout's manifests and applications."""
    content, root = state / "gitops-content", state / "git"
    if not root.exists():
        for folder in ("manifests", "argocd-apps"):
            shutil.copytree(CHECKOUT / folder, content / folder)
        create_repository(root, _REPOSITORY, content, BRANCH)
    token_file, port_file = state / "git-token", state / "git-port"
    port_file.unlink(missing_ok=True)
    token_file.touch(mode=0o600)
    token_file.write_text(token, encoding="utf-8")
    service = processes.start(
        "git",
        python("testbeds.sandbox.git_server", "--root", root, "--token-file", token_file, "--port-file", port_file),
        cwd=CHECKOUT,
    )
    port = wait_until(lambda: _read(port_file), _START_SECONDS, "the Git server listens", service)
    return Git(service, f"http://{HOST}:{port}/{_REPOSITORY}", token_file)


def start_registry(processes: Processes, state: Path, port: int) -> Service:
    """An OCI registry that keeps its images below the state folder."""
    config = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(state / "registry")}, "delete": {"enabled": True}},
        "http": {"addr": f"{HOST}:{port}"},
    }
    file = state / "registry.yml"
    file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML, and quotes paths with spaces
    return processes.start("registry", [find_tool("docker-registry"), "serve", file])


def start_mlflow(processes: Processes, state: Path, port: int) -> Service:
    """An MLflow server with SQLite and proxied artifacts; one worker, because each takes half a gigabyte."""
    folder = state / "mlflow"
    folder.mkdir(exist_ok=True)
    command = python("mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1", "--serve-artifacts")
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", folder / "artifacts"]
    command += ["--allowed-hosts", f"{HOST}:*,localhost:*"]
    settings = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return processes.start("mlflow", command, settings, cwd=folder)


@dataclass(frozen=True)
class Cluster:
    service: Service
    url: str
    kubeconfig: Path
    token_file: Path
    node_ports: Mapping[int, int]


def start_cluster(
    processes: Processes, state: Path, git: Git, *, registry_url: str, mlflow_url: str, policies: Sequence[Policy]
) -> Cluster:
    """The stand-in for Kubernetes and Argo CD, with the applications of these policies, each at a node port."""
    port_file = state / "cluster.json"
    port_file.unlink(missing_ok=True)
    command = python("testbeds.sandbox.cluster", "--state", state / "cluster", "--port-file", port_file)
    command += ["--repo-url", git.url, "--token-file", git.token_file, "--mlflow-uri", mlflow_url]
    command += ["--oci-mirror", f"ghcr.io={registry_url}"]
    for policy in policies:
        command += ["--application", f"argocd-apps/{policy.argocd.application}-app.yaml"]
        command += ["--node-port", f"{node_port(policy)}=0"]
    service = processes.start("cluster", command, cwd=CHECKOUT)
    told = json.loads(wait_until(lambda: _read(port_file), _START_SECONDS, "the cluster's API answers", service))
    return Cluster(
        service,
        told["url"],
        Path(told["kubeconfig"]),
        Path(told["token_file"]),
        {int(port): int(real) for port, real in told["node_ports"].items()},
    )


def start_prometheus(processes: Processes, state: Path, cluster: Cluster, port: int) -> Service:
    """Prometheus with targets and labels as the real one has them, one pod at a time through the cluster's API."""
    # Without its type, Prometheus 2.42 sends the bare token when it discovers targets, though not when it scrapes.
    authorization = {"type": "Bearer", "credentials_file": str(cluster.token_file)}
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "scrape_configs": [
            {
                "job_name": "edge-pods",
                "authorization": authorization,
                "http_sd_configs": [
                    {
                        "url": f"{cluster.url}/sandbox/prometheus/targets",
                        "refresh_interval": "1s",
                        "authorization": authorization,
                    }
                ],
            }
        ],
    }
    file = state / "prometheus.yml"
    file.write_text(json.dumps(config), encoding="utf-8")
    command: list[str | Path] = [
        find_tool("prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={state / 'prometheus'}",
    ]
    command += [f"--web.listen-address={HOST}:{port}", "--storage.tsdb.retention.time=1d", "--log.level=warn"]
    return processes.start("prometheus", command, cwd=state)


def start_training(
    processes: Processes,
    results: Path,
    *,
    registry_url: str,
    mlflow_url: str,
    baselines: Mapping[str, ImageRef],
    images: str = "notes",
    login: Mapping[str, str] | None = None,
) -> Service:
    """Train, log and publish all models, with images of that kind; each is a line of `results` when done.

    `baselines` are the images that serve before anything is promoted, by model.
    """
    command = python("testbeds.training", "--mlflow-uri", mlflow_url, "--registry-url", registry_url)
    for model, image in baselines.items():
        command += ["--baseline", f"{model}={image.repository.partition('/')[2]}:{image.tag}"]
    command += ["--results", results, "--images", images]
    return processes.start("training", command, {"MLFLOW_DISABLE_TELEMETRY": "true", **(login or {})}, cwd=CHECKOUT)


# The daemon, the webserver and the code server would each lay out the same databases, and trip over one another.
_LAY_OUT = "import dagster as dg; one = dg.DagsterInstance.get(); one.get_runs_count(); one.all_instigator_state()"


def prepare_dagster(processes: Processes, home: Path) -> Service:
    """Lay out DAGSTER_HOME's databases by a process that ends when that is done; nothing may use them before."""
    home.mkdir(exist_ok=True)
    shutil.copy(CHECKOUT / "dagster.yaml", home)
    return processes.start("dagster-home", [sys.executable, "-c", _LAY_OUT], {"DAGSTER_HOME": str(home)})


def start_dagster(processes: Processes, settings: Mapping[str, str], port: int) -> tuple[Service, Service]:
    """Dagster's daemon and webserver on this checkout's workspace."""
    programs = Path(sys.executable).parent
    workspace = CHECKOUT / "workspace.yaml"
    daemon = processes.start(
        "dagster-daemon", [programs / "dagster-daemon", "run", "-w", workspace], settings, CHECKOUT
    )
    command: list[str | Path] = [programs / "dagster-webserver", "-w", workspace, "-h", HOST, "-p", str(port)]
    return daemon, processes.start("dagster-webserver", command, settings, CHECKOUT)


def _read(path: Path) -> str:
    """A file's text; empty until it is there."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""

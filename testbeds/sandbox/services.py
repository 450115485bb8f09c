"""The services that only the sandbox has: one function starts each."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestration.promotion.policy import Policy
from testbeds.common.git_server import create_repository
from testbeds.common.mlflow_database import lay_out_mlflow
from testbeds.common.processes import Processes, Service, wait_until
from testbeds.common.services import BRANCH, HOST, REPOSITORY, python
from testbeds.common.state import node_port
from testbeds.common.tools import CHECKOUT, find_tool

_START_SECONDS = 120.0


@dataclass(frozen=True)
class Git:
    service: Service
    url: str
    token_file: Path


def start_git(processes: Processes, state: Path, token: str) -> Git:
    """Start a Git server with one repository, made from this checkout's manifests and applications."""
    content, root = state / "gitops-content", state / "git"
    if not root.exists():
        for folder in ("manifests", "argocd-apps"):
            shutil.copytree(CHECKOUT / folder, content / folder)
        create_repository(root, REPOSITORY, content, BRANCH)
    token_file, port_file = state / "git-token", state / "git-port"
    port_file.unlink(missing_ok=True)
    token_file.touch(mode=0o600)
    token_file.write_text(token, encoding="utf-8")
    service = processes.start(
        "git",
        python("testbeds.common.git_server", "--root", root, "--token-file", token_file, "--port-file", port_file),
        cwd=CHECKOUT,
    )
    port = wait_until(lambda: _read(port_file), _START_SECONDS, "the Git server listens", service)
    return Git(service, f"http://{HOST}:{port}/{REPOSITORY}", token_file)


def start_registry(processes: Processes, state: Path, port: int) -> Service:
    """Start an OCI registry that keeps its images below the state folder."""
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
    """Start MLflow's server with SQLite and proxied artifacts; with one worker, because each takes half a gigabyte."""
    folder = state / "mlflow"
    folder.mkdir(exist_ok=True)
    database = folder / "mlflow.db"
    if not database.exists():
        lay_out_mlflow(database)
    command = python("mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1", "--serve-artifacts")
    command += ["--backend-store-uri", f"sqlite:///{database}"]
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
    """Start the stand-in for Kubernetes and Argo CD with these policies' applications, each at its node port."""
    port_file = state / "cluster.json"
    port_file.unlink(missing_ok=True)
    command = python("testbeds.sandbox.cluster", "--state", state / "cluster", "--port-file", port_file)
    command += ["--repo-url", git.url, "--token-file", git.token_file, "--mlflow-uri", mlflow_url]
    command += ["--branch", BRANCH, "--oci-mirror", f"ghcr.io={registry_url}"]
    for policy in policies:
        command += ["--application", f"argocd-apps/{policy.argocd.application}-app.yaml"]
        command += ["--node-port", f"{node_port(policy)}=0"]
    service = processes.start("cluster", command, cwd=CHECKOUT)
    addresses = json.loads(wait_until(lambda: _read(port_file), _START_SECONDS, "the cluster's API answers", service))
    return Cluster(
        service,
        addresses["url"],
        Path(addresses["kubeconfig"]),
        Path(addresses["token_file"]),
        {int(port): int(real) for port, real in addresses["node_ports"].items()},
    )


def start_prometheus(processes: Processes, state: Path, cluster: Cluster, port: int) -> Service:
    """Start Prometheus with targets and labels as on a real cluster; it reaches each pod through the cluster's API."""
    # Without the type, Prometheus 2.42 sends the bare token to discover targets, though not to scrape them.
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


def _read(path: Path) -> str:
    """Read a file's text; empty while the file is missing."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""

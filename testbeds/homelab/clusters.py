"""The two clusters and the containers beside them on their network: created, inspected, disturbed and deleted.

k3d's configurations are those of `k3d/*.yaml`, as `python -m bootstrap init` writes them for the homelab's owner.
"""

import json
import os
import subprocess
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ruamel.yaml import YAML

from bootstrap.kubectl import Kubectl
from orchestration.promotion.problems import Problem, ProblemError
from testbeds.common.tools import CHECKOUT
from testbeds.homelab import gitops, settings
from testbeds.homelab.docker import Docker, daemon_answers
from testbeds.homelab.progress import Say, phase
from testbeds.homelab.supply import Supply
from testbeds.homelab.waiting import await_all, not_rolled_out

_CONFIGURATIONS = "testbeds/homelab/k3d"
_GCP_MEMORY = "serversMemory: 2g"
"""As the control plane's configuration has it, where `settings.GCP_MEMORY` may put more."""
_NODES = {settings.GCP: 1, settings.EDGE: 2}
_CREATE_SECONDS = 300.0
_READY_SECONDS = 120.0
_API_SERVERS = "kube-apiserver|k3s-server"
"""Names of the API server's process: k3s runs the whole control plane in one."""


@dataclass(frozen=True)
class Clusters:
    """Two clusters whose nodes are ready."""

    docker: Docker
    admin_kubeconfig: Path
    """An administrator's kubeconfig, with the contexts `gcp` and `edge`."""


def remove_earlier(supply: Supply, state: Path, say: Say) -> None:
    """Start Docker unless it is running, and remove what is left of earlier clusters and of the containers beside them.

    Only then may the state be cleared: a starting daemon makes a folder in place of each missing file that a container
    mounts.
    """
    supply.prepare(say)
    _remove(supply, Docker(supply.docker, supply.environment()), state)


def start(supply: Supply, state: Path, say: Say) -> Clusters:
    """Make network, registry and both clusters; nothing of earlier ones may be left.

    Raises:
        ProblemError: a part did not come up; with what Docker, k3d or the nodes said.
    """
    docker = Docker(supply.docker, supply.environment())
    _create_network(docker)
    with phase("the registry is up", say):
        _start_registry(docker)
    supply.fill_registry(settings.REGISTRY_URL, say)
    with phase("both clusters created", say), ThreadPoolExecutor() as both:
        list(both.map(lambda name: _create(supply, docker, state, name), settings.CLUSTERS))
    kubeconfig = _write_kubeconfig(supply, state)
    for name in settings.CLUSTERS:
        missing = partial(_not_ready, Kubectl(supply.kubectl, kubeconfig, name))
        await_all(f"{name} is ready", missing, _READY_SECONDS, say)
    return Clusters(docker, kubeconfig)


def stop(supply: Supply, state: Path, say: Say) -> None:
    """Remove the clusters and the containers beside them, and end what the supply started."""
    docker = Docker(supply.docker, supply.environment())
    if daemon_answers(docker.program, docker.settings):
        with phase("the clusters are gone", say):
            _remove(supply, docker, state)
    supply.stop(say)


def lose(supply: Supply, docker: Docker, state: Path, name: str, say: Say) -> None:
    """Delete one cluster with its disks, as when its machine is gone; what runs beside it stays."""
    with phase(f"{name} is gone", say):
        volumes = {mount for container in _nodes_of(docker, name) for mount in _volumes(docker, container)}
        _k3d(supply, state, "cluster", "delete", name)
        left = [volume for volume in sorted(volumes) if docker.find("volume", volume, "{{.Name}}") is not None]
        if left:
            docker.run("volume", "rm", *left)


def replace(supply: Supply, docker: Docker, state: Path, name: str, say: Say) -> None:
    """Make a lost cluster again, empty, under the same name and address.

    Raises:
        ProblemError: it did not come up.
    """
    with phase(f"{name} created again", say):
        _create(supply, docker, state, name)
    kubeconfig = _write_kubeconfig(supply, state)
    missing = partial(_not_ready, Kubectl(supply.kubectl, kubeconfig, name))
    await_all(f"{name} is ready", missing, _READY_SECONDS, say)


def _nodes_of(docker: Docker, name: str) -> list[str]:
    return docker.run("ps", "--all", "--quiet", f"--filter=label=k3d.cluster={name}").split()


def _volumes(docker: Docker, container: str) -> list[str]:
    each = '{{range .Mounts}}{{if eq .Type "volume"}}{{.Name}}{{"\\n"}}{{end}}{{end}}'
    return docker.run("inspect", f"--format={each}", container).split()


def freeze_api(docker: Docker, cluster: str) -> None:
    """Freeze the cluster's API server (SIGSTOP): it accepts connections, and answers nothing."""
    _signal_api(docker, cluster, "STOP")


def thaw_api(docker: Docker, cluster: str) -> None:
    """Let a frozen API server continue."""
    _signal_api(docker, cluster, "CONT")


def _signal_api(docker: Docker, cluster: str, signal: str) -> None:
    # For a plain shell, since k3s's image has no pkill.
    script = (
        "found=; for process in /proc/[0-9]*; do "
        f'case $(cat $process/comm) in {_API_SERVERS}) kill -{signal} "${{process#/proc/}}" && found=1 ;; esac; '
        'done 2>/dev/null; test -n "$found"'
    )
    docker.run("exec", f"k3d-{cluster}-server-0", "sh", "-c", script)


def _create_network(docker: Docker) -> None:
    docker.run(
        "network",
        "create",
        f"--subnet={settings.SUBNET}",
        f"--gateway={settings.ADDRESS}",
        f"--ip-range={settings.DYNAMIC_RANGE}",
        f"--opt=com.docker.network.bridge.name={settings.BRIDGE}",
        settings.NETWORK,
    )


def _start_registry(docker: Docker) -> None:
    docker.run(
        "run",
        "--detach",
        f"--name={settings.REGISTRY}",
        f"--network={settings.NETWORK}",
        f"--ip={settings.REGISTRY_ADDRESS}",
        f"--publish={settings.ADDRESS}:{settings.REGISTRY_PORT}:5000",
        "--restart=unless-stopped",
        settings.REGISTRY_IMAGE,
    )
    await_all("the registry answers", _registry_is_silent, _READY_SECONDS, lambda line: None)


def _registry_is_silent() -> str:
    try:
        with urllib.request.urlopen(f"{settings.REGISTRY_URL}/v2/", timeout=5):
            return ""
    except OSError as error:
        return str(error)


def _create(supply: Supply, docker: Docker, state: Path, name: str) -> None:
    arguments = ("cluster", "create", f"--config={_configuration(name, state)}")
    registries = f"--registry-config={CHECKOUT / _CONFIGURATIONS / 'registries.yaml'}"
    try:
        _k3d(supply, state, *arguments, registries)
    except ProblemError as error:
        problem = error.problem
        found = f"{problem.found}\n{docker.logs(f'label=k3d.cluster={name}')}\n"
        raise ProblemError(Problem(problem.subject, problem.expected, found, problem.next_step)) from error


def _configuration(name: str, state: Path) -> Path:
    """Write k3d's configuration of a cluster, as the homelab's owner has it, into the state."""
    configuration = state / f"{name}.yaml"
    text = gitops.followed(f"{_CONFIGURATIONS}/{name}.yaml")
    configuration.write_text(text.replace(_GCP_MEMORY, f"serversMemory: {settings.GCP_MEMORY}"), encoding="utf-8")
    return configuration


def _k3d(supply: Supply, state: Path, *arguments: str) -> str:
    """Run k3d and return its output; its notes, kubeconfig and temporary files go to the state, not to the user's."""
    folder = state / "k3d"
    folder.mkdir(parents=True, exist_ok=True)
    notes = {"XDG_CONFIG_HOME": str(folder), "KUBECONFIG": str(folder / "kubeconfig"), "TMPDIR": str(folder)}
    done = subprocess.run(
        [str(supply.k3d), *arguments],
        env={**os.environ, **supply.environment(), **notes},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_CREATE_SECONDS,
    )
    if done.returncode != 0:
        last_lines = "\n".join(f"    {line}" for line in (done.stdout + done.stderr).splitlines()[-15:])
        found = f"exit code {done.returncode}:\n{last_lines}\n"
        raise ProblemError(Problem(f"k3d {' '.join(arguments[:3])}", "success", found, "Try again."))
    return done.stdout


def _write_kubeconfig(supply: Supply, state: Path) -> Path:
    """Write one kubeconfig for both clusters, with a context for each."""
    merged: dict[str, object] = {"apiVersion": "v1", "kind": "Config", "current-context": settings.GCP}
    clusters: list[object] = []
    users: list[object] = []
    for name in settings.CLUSTERS:
        single = YAML(typ="safe").load(_k3d(supply, state, "kubeconfig", "get", name))
        clusters.append({"name": name, "cluster": single["clusters"][0]["cluster"]})
        users.append({"name": name, "user": single["users"][0]["user"]})
    contexts = [{"name": name, "context": {"cluster": name, "user": name}} for name in settings.CLUSTERS]
    kubeconfig = state / "admin.kubeconfig"
    kubeconfig.unlink(missing_ok=True)
    kubeconfig.touch(mode=0o600)
    merged |= {"clusters": clusters, "users": users, "contexts": contexts}
    kubeconfig.write_text(json.dumps(merged, indent=2) + "\n", encoding="utf-8")  # JSON is YAML
    return kubeconfig


def _not_ready(kubectl: Kubectl) -> str:
    """Say what a cluster still lacks: nodes, or its name service; empty when it is ready."""
    nodes = kubectl.items("nodes")
    ready = [node for node in nodes if _is_ready(node["status"].get("conditions", []))]
    if len(ready) < _NODES[kubectl.context]:
        return f"{len(ready)} of {_NODES[kubectl.context]} nodes ready"
    return not_rolled_out(kubectl, "kube-system")


def _is_ready(conditions: Sequence[dict[str, str]]) -> bool:
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _remove(supply: Supply, docker: Docker, state: Path) -> None:
    """Remove the clusters, the other containers of the network, and the network itself, as far as they exist."""
    existing = [
        name for name in settings.CLUSTERS if docker.run("ps", "--all", "--quiet", f"--filter=label=k3d.cluster={name}")
    ]
    with ThreadPoolExecutor() as both:
        list(both.map(lambda name: _k3d(supply, state, "cluster", "delete", name), existing))
    others = docker.run("ps", "--all", "--quiet", "--filter", f"network={settings.NETWORK}").split()
    if others:
        docker.run("rm", "--force", "--volumes", *others)
    if docker.find("network", settings.NETWORK) is not None:
        docker.run("network", "rm", settings.NETWORK)
    (state / "admin.kubeconfig").unlink(missing_ok=True)

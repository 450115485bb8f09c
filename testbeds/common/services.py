"""What the services of both testbeds share: where they listen, whether they answer, and the training of the models."""

import random
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestration.promotion.images import ImageRef
from testbeds.common.processes import Processes, Service
from testbeds.common.tools import CHECKOUT

HOST = "127.0.0.1"
BRANCH = "models"
"""The branch of the GitOps repository from which Argo CD deploys the models, and to which the pipeline pushes."""
REPOSITORY = "gitops.git"
# Below the ports that the kernel gives to outgoing connections: what was free stays free until it is taken.
_PORTS = range(20000, 32000)
_claimed: dict[int, socket.socket] = {}
"""The ports that this process has been given, each with the socket that keeps other processes from it."""


def free_ports(count: int, preferred: Sequence[int] = ()) -> list[int]:
    """Find different ports of the loopback on which nothing listens, and keep them for this process while it runs.

    No two processes get the same port here, however late their servers begin to listen. Preferred ports come first
    while they are free; this process gets a port that it was given before only if it prefers it.

    Raises:
        OSError: fewer than `count` ports are free.
    """
    free: list[int] = []
    first = random.choice(_PORTS)
    for port in dict.fromkeys((*preferred, *range(first, _PORTS.stop), *range(_PORTS.start, first))):
        is_known = port in _claimed
        if is_known and port not in preferred:
            continue
        if _is_free(port) and (is_known or _claim(port)):
            free.append(port)
        if len(free) == count:
            return free
    raise OSError(f"no {count} free ports between {_PORTS.start} and {_PORTS.stop}")


def accepts(port: int) -> bool:
    """Check that something on this machine accepts connections at a port."""
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) == 0


def _is_free(port: int) -> bool:
    if accepts(port):
        return False
    with socket.socket() as server:
        # As servers bind: lingering connections of an earlier server do not keep the port from the next one.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((HOST, port))
        except OSError:
            return False
    return True


def _claim(port: int) -> bool:
    """Take a port's name among Linux's abstract sockets, which the kernel frees when this process ends."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0incumbent port {port}")
    except OSError:
        claim.close()
        return False
    _claimed[port] = claim
    return True


def answers(url: str) -> bool:
    """Check that a GET of the URL succeeds."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
            return bool(200 <= answer.status < 300)
    except (urllib.error.URLError, OSError):
        return False


def python(module: str, *arguments: str | Path) -> list[str | Path]:
    """Build the command that runs a module of the checkout with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def start_training(
    processes: Processes,
    results: Path,
    *,
    program: str,
    registry_url: str,
    mlflow_url: str,
    baselines: Mapping[str, ImageRef],
    login: Mapping[str, str] | None = None,
) -> Service:
    """Start the program that trains, logs and publishes all models; it ends by itself.

    Args:
        processes: what the program belongs to.
        results: the file that gets one line per model as soon as the model is published.
        program: the testbed's module that says what its images are made of.
        registry_url: where the images go.
        mlflow_url: where the models go.
        baselines: by model, the image that serves before anything is promoted.
        login: MLflow's account, as environment variables; none where MLflow asks for none.
    """
    command = python(program, "--mlflow-uri", mlflow_url, "--registry-url", registry_url, "--results", results)
    for model, image in baselines.items():
        command += ["--baseline", f"{model}={image.repository.partition('/')[2]}:{image.tag}"]
    settings = {"MLFLOW_DISABLE_TELEMETRY": "true", **(login or {})}
    return processes.start("training", command, settings, cwd=CHECKOUT, ends_by_itself=True)

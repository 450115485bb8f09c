"""Start the stand-in: `python -m testbeds.sandbox.cluster --help`."""

import argparse
import asyncio
import contextlib
import json
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import uvicorn

from testbeds.sandbox.cluster.api import build_app
from testbeds.sandbox.cluster.argocd import ApplicationController, create_application
from testbeds.sandbox.cluster.daemon_sets import DaemonSetController
from testbeds.sandbox.cluster.deployments import DeploymentController
from testbeds.sandbox.cluster.forks import open_forks
from testbeds.sandbox.cluster.gitsource import GitSource, SourceError, parse_manifests
from testbeds.sandbox.cluster.kubeconfig import write_kubeconfig
from testbeds.sandbox.cluster.kubelet import Kubelet
from testbeds.sandbox.cluster.nodes import create_node
from testbeds.sandbox.cluster.objects import Json
from testbeds.sandbox.cluster.rights import Tokens
from testbeds.sandbox.cluster.scaling import Autoscaler
from testbeds.sandbox.cluster.services import ServiceProxy, reserve
from testbeds.sandbox.cluster.stateful_sets import StatefulSetController
from testbeds.sandbox.cluster.tasks import Tasks
from testbeds.sandbox.cluster.world import Settings, World


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m testbeds.sandbox.cluster", description=__doc__)
    parser.add_argument("--repo-url", required=True, help="the GitOps repository, http(s) or file")
    parser.add_argument("--token-file", type=Path, help="file with the repository's token")
    parser.add_argument("--branch", default="main", help="what targetRevision HEAD means")
    parser.add_argument("--application", action="append", help="path of an Application manifest in the repository")
    parser.add_argument("--state", type=Path, required=True, help="folder for the clone, the logs and the kubeconfig")
    parser.add_argument("--oci-mirror", action="append", default=[], metavar="HOST=URL", help="where that registry is")
    parser.add_argument("--mlflow-uri", default="", help="MLFLOW_TRACKING_URI of the pods")
    parser.add_argument("--port", type=int, default=0, help="port of the API server; 0: a free port")
    parser.add_argument(
        "--node-port",
        action="append",
        default=[],
        metavar="PORT=REAL",
        help="0: a free port",
    )
    parser.add_argument("--port-file", type=Path, required=True, help="written as JSON when all listens")
    parser.add_argument("--pod-command", nargs=argparse.REMAINDER, default=[], help="what a pod runs (last option)")
    given = parser.parse_args()
    given.state.mkdir(parents=True, exist_ok=True)
    _forget(given.state, given.port_file)
    settings = Settings(
        state=given.state.resolve(),
        repo_url=given.repo_url,
        token_file=given.token_file.resolve() if given.token_file else None,
        branch=given.branch,
        applications=tuple(given.application or ["argocd-apps/iris-classifier-app.yaml"]),
        mlflow_uri=given.mlflow_uri,
        oci_mirrors=dict(pair.split("=", 1) for pair in given.oci_mirror),
        node_ports={int(port): int(real) for port, real in (pair.split("=", 1) for pair in given.node_port)},
        pod_command=tuple(given.pod_command),
    )
    try:
        asyncio.run(serve(settings, given.port, given.port_file))
    except SourceError as error:
        sys.exit(f"the cluster cannot start: {error}")


def _forget(state: Path, port_file: Path) -> None:
    """Remove what an earlier stand-in left: its ports lead nowhere, and a killed fetch may have locked its clone."""
    port_file.unlink(missing_ok=True)
    for folder in (state / "pods", state / "repository.git"):
        shutil.rmtree(folder, ignore_errors=True)


async def serve(settings: Settings, port: int, port_file: Path) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        SourceError: the repository, or an Application in it, cannot be read.
    """
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    world, tasks = World(settings), Tasks()

    def lost() -> None:
        world.log("pods", "their parent process ended, and they with it")
        stopped.set()

    forks, listening = await open_forks(not settings.pod_command, lost)
    client = httpx2.AsyncClient(timeout=10, trust_env=False, limits=httpx2.Limits(max_keepalive_connections=0))
    server = _Server(uvicorn.Config("", log_level="warning", access_log=False, timeout_graceful_shutdown=1))
    try:
        node_ports = reserve(settings.node_ports)
        kubelet = Kubelet(world, forks, client, tasks)
        create_node(world)
        ServiceProxy(world, tasks, node_ports)
        DeploymentController(world, tasks)
        StatefulSetController(world, tasks)
        DaemonSetController(world, tasks)
        Autoscaler(world, tasks)
        tokens = Tokens.make()
        listener = _listen(port)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        source = GitSource(settings.repo_url, settings.token_file, settings.state, settings.branch)

        def follow(manifest: Json) -> Json:
            application = create_application(world, manifest)
            ApplicationController(world, source, application, tasks)
            return application

        server.config.app = build_app(world, kubelet, client, tokens, follow)
        serving = asyncio.create_task(server.serve([listener]))
        await _start_applications(settings, source, follow)
        real_ports = {str(number): bound.getsockname()[1] for number, bound in node_ports.items()}
        _publish(settings.state, port_file, address, tokens, real_ports)
        world.log("cluster", f"serves at {address}")
        stopping = asyncio.create_task(_until(stopped))
        ends: list[asyncio.Future[None]] = [stopping, serving, tasks.failed]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if tasks.failed.done():
            tasks.failed.result()
    finally:
        world.log("cluster", "stops")
        tasks.cancel()
        forks.close()
        listening.cancel()
        server.should_exit = True
        await client.aclose()


async def _until(event: asyncio.Event) -> None:
    await event.wait()


async def _start_applications(settings: Settings, source: GitSource, follow: Callable[[Json], Json]) -> None:
    revision = await source.resolve("HEAD")
    for path in settings.applications:
        for manifest in parse_manifests(path, await source.file(revision, path)):
            follow(manifest)


def _publish(state: Path, port_file: Path, address: str, tokens: Tokens, node_ports: dict[str, int]) -> None:
    """Write kubeconfigs and token, and the port file last: when it appears, everything can be used."""
    kubeconfig, token_file = state / "kubeconfig.yaml", state / "api-token"
    write_kubeconfig(kubeconfig, address, tokens.pipeline)
    write_kubeconfig(state / "stranger.yaml", address, tokens.stranger)
    token_file.touch(mode=0o600)
    token_file.write_text(tokens.pipeline)
    ports = {"url": address, "kubeconfig": str(kubeconfig), "token_file": str(token_file), "node_ports": node_ports}
    half = port_file.with_name(f"{port_file.name}.new")
    half.write_text(json.dumps(ports, indent=2) + "\n")
    half.replace(port_file)


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `serve`."""
        yield


if __name__ == "__main__":
    main()

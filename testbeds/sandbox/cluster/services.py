"""Services: a node port is a listening socket that hands each connection to a ready pod at random, as kube-proxy does.

Nothing is tried twice: a connection goes to the pod that was chosen, whatever comes of it. Routes follow the pods'
readiness and deletion after `route_lag_seconds`, both ways, so a pod that ends before the routes have left it loses
requests here as in a real cluster (a preStop hook that sleeps is the cure).
"""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Mapping

from testbeds.sandbox.cluster.kubelet import is_ready
from testbeds.sandbox.cluster.objects import Json
from testbeds.sandbox.cluster.probes import port_number
from testbeds.sandbox.cluster.tasks import Tasks
from testbeds.sandbox.cluster.world import World

Endpoint = tuple[str, int]
_BLOCK = 1 << 16
_REFUSE = struct.pack("ii", 1, 0)  # SO_LINGER 0: closing resets the connection


def reserve(node_ports: Mapping[int, int]) -> dict[int, socket.socket]:
    """A bound socket for each node port (0: any free port); it refuses connections until a Service uses it."""
    sockets = {}
    for node_port, real in node_ports.items():
        sockets[node_port] = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sockets[node_port].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sockets[node_port].bind(("127.0.0.1", real))
    return sockets


class ServiceProxy:
    def __init__(self, world: World, tasks: Tasks, sockets: dict[int, socket.socket]) -> None:
        self._world, self._tasks, self._sockets = world, tasks, sockets
        self._servers: dict[int, asyncio.Server] = {}
        self._truth: dict[int, list[Endpoint]] = {}
        self._routes: dict[int, list[Endpoint]] = {}
        self._connections: set[asyncio.Task[None]] = set()
        world.store.listeners.append(self._notice)

    def _notice(self, kind: str, item: Json) -> None:
        if kind not in ("Service", "Pod"):
            return
        now: dict[int, list[Endpoint]] = {}
        for service in self._world.store.all("Service"):
            for port in service["spec"].get("ports", []):
                if "nodePort" in port:
                    now[port["nodePort"]] = self._endpoints(service, port)
        loop = asyncio.get_running_loop()
        for node_port in now.keys() | self._truth.keys():
            addresses = now.get(node_port, [])
            if node_port not in self._servers and node_port in now:
                self._tasks.start(self._listen(node_port))
            if addresses != self._truth.get(node_port):
                self._truth[node_port] = addresses
                loop.call_later(self._world.faults.route_lag_seconds, self._route, node_port, addresses)

    def _endpoints(self, service: Json, port: Json) -> list[Endpoint]:
        selector: dict[str, str] = service["spec"].get("selector", {})
        addresses = []
        for pod in self._world.store.all("Pod", service["metadata"]["namespace"]):
            labels = pod["metadata"].get("labels", {})
            chosen = selector and selector.items() <= labels.items()
            if not chosen or "deletionTimestamp" in pod["metadata"] or not is_ready(pod):
                continue
            for container in pod["spec"]["containers"]:
                with contextlib.suppress(ValueError):  # another container of the pod may have the port of that name
                    addresses.append(
                        (pod["status"]["podIP"], port_number(container, port.get("targetPort", port["port"])))
                    )
                    break
        return addresses

    def _route(self, node_port: int, endpoints: list[Endpoint]) -> None:
        if self._routes.get(node_port) != endpoints:
            self._routes[node_port] = endpoints
            where = ", ".join(f"{address}:{port}" for address, port in endpoints) or "nowhere"
            self._world.log(f"service port {node_port}", f"leads to {where}")

    async def _listen(self, node_port: int) -> None:
        if node_port in self._servers:
            return
        if node_port not in self._sockets:
            try:
                self._sockets |= reserve({node_port: node_port})
            except OSError as error:
                self._world.log(f"service port {node_port}", f"cannot listen: {error}; map it with --node-port")
                return

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._serve(node_port, reader, writer))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

        self._servers[node_port] = await asyncio.start_server(accept, sock=self._sockets[node_port])

    async def _serve(self, node_port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        endpoints = self._routes.get(node_port, [])
        try:
            if not endpoints:
                raise ConnectionRefusedError
            pod_reader, pod_writer = await asyncio.open_connection(*random.choice(endpoints))
        except OSError:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _REFUSE)
            writer.transport.abort()
            return
        try:
            await asyncio.gather(_pipe(reader, pod_writer), _pipe(pod_reader, writer))
        except OSError:  # one side has closed its connection, perhaps before it was told of the other's end (ENOTCONN)
            writer.transport.abort()
            pod_writer.transport.abort()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, and pass the end on to the other side."""
    while block := await reader.read(_BLOCK):
        writer.write(block)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()

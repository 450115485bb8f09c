"""Startup, readiness and liveness probes, as a kubelet makes them: httpGet and tcpSocket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx2

from testbeds.sandbox.cluster.objects import Json


def port_number(container: Json, port: object) -> int:
    """Return the number of a port that is given by its number or by the container's name for it.

    Raises:
        ValueError: the container has no port of that name.
    """
    if isinstance(port, int) or str(port).isdigit():
        return int(str(port))
    for container_port in container.get("ports", []):
        if container_port.get("name") == port:
            return int(container_port["containerPort"])
    raise ValueError(f"couldn't find port {port!r} of container {container['name']!r}")


async def check(client: httpx2.AsyncClient, probe: Json, container: Json, address: str) -> str | None:
    """Probe once, and return why the probe failed; None when it succeeded."""
    seconds = probe.get("timeoutSeconds", 1)
    if "httpGet" in probe:
        get = probe["httpGet"]
        url = f"http://{address}:{port_number(container, get['port'])}{get.get('path', '/')}"
        try:
            answer = await client.get(url, timeout=seconds, headers={"User-Agent": "kube-probe/1.34"})
        except httpx2.TimeoutException:
            return f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
        except httpx2.TransportError as error:
            return f'Get "{url}": {error or type(error).__name__}'
        ok = 200 <= answer.status_code < 400
        return None if ok else f"HTTP probe failed with statuscode: {answer.status_code}"
    if "tcpSocket" in probe:
        port = port_number(container, probe["tcpSocket"]["port"])
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), seconds)
        except (OSError, TimeoutError) as error:
            return f"dial tcp {address}:{port}: {error or type(error).__name__}"
        writer.close()
        return None
    return "the sandbox plays httpGet and tcpSocket probes, and no others"


async def outcomes(
    probe: Json, ask: Callable[[], Awaitable[str | None]], failed: Callable[[str], None]
) -> AsyncIterator[bool]:
    """Probe for ever, and yield True or False whenever enough probes in a row have succeeded or failed.

    `failed` is told of each failure.
    """
    await asyncio.sleep(probe.get("initialDelaySeconds", 0))
    successes = failures = 0
    while True:
        reason = await ask()
        if reason is None:
            successes, failures = successes + 1, 0
            if successes >= probe.get("successThreshold", 1):
                yield True
        else:
            successes, failures = 0, failures + 1
            failed(reason)
            if failures >= probe.get("failureThreshold", 3):
                yield False
        await asyncio.sleep(probe.get("periodSeconds", 10))

"""Start the stand-in as a process of its own, and talk to it; for tests that need nothing else from the sandbox."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2

_ROOT = Path(__file__).resolve().parents[3]
_START_SECONDS = 60.0
Found = TypeVar("Found")


@dataclass(frozen=True)
class ClusterHandle:
    """A running stand-in."""

    process: "subprocess.Popen[bytes]"
    url: str
    kubeconfig: Path
    token_file: Path
    node_ports: Mapping[int, int]
    log_file: Path
    client: httpx2.Client
    """An HTTP client that sends the token, for paths below `url`."""

    def get(self, path: str, **query: str) -> Any:
        """Return the JSON of a successful GET."""
        answer = self.client.get(path, params=query)
        answer.raise_for_status()
        return answer.json()

    def patch(self, path: str, patch: Mapping[str, Any]) -> httpx2.Response:
        return self.client.patch(path, json=patch, headers={"Content-Type": "application/merge-patch+json"})

    def set_faults(self, **faults: object) -> None:
        self.client.post("/sandbox/faults", json=faults).raise_for_status()

    def wait_for(self, what: str, find: Callable[[], Found], seconds: float = 60.0) -> Found:
        """Call `find` until it returns something true, and return that.

        Raises:
            AssertionError: it was not true in time; with the end of the stand-in's log.
        """
        until = time.monotonic() + seconds
        while not (value := find()):
            if time.monotonic() > until or self.process.poll() is not None:
                log = "\n".join(self.log_file.read_text().splitlines()[-40:])
                raise AssertionError(f"expected {what} within {seconds:g} s; the stand-in's log ends:\n{log}")
            time.sleep(0.05)
        return value


@contextlib.contextmanager
def start_cluster(
    state: Path,
    repo_url: str,
    *,
    oci_mirrors: Mapping[str, str],
    pod_command: Sequence[str] = (),
    options: Sequence[str] = (),
) -> Iterator[ClusterHandle]:
    """Run a stand-in in the folder `state` until the block ends; its node port 30808 is a free port."""
    state.mkdir(parents=True, exist_ok=True)
    port_file, log_file = state / "ports.json", state / "cluster.log"
    command = [sys.executable, "-m", "testbeds.sandbox.cluster", "--repo-url", repo_url, "--state", str(state)]
    command += ["--port-file", str(port_file), "--node-port", "30808=0", *options]
    command += [part for host, url in oci_mirrors.items() for part in ("--oci-mirror", f"{host}={url}")]
    command += ["--pod-command", *pod_command] if pod_command else []
    # The kernel kills it with the thread that started it, so that killed tests leave nothing.
    command = ["setpriv", "--pdeathsig", "KILL", *command]
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, cwd=_ROOT, stdout=log, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + _START_SECONDS
        while not port_file.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"expected the stand-in to start, found in its log:\n{log_file.read_text()}")
            time.sleep(0.02)
        ports = json.loads(port_file.read_text())
        token = Path(ports["token_file"]).read_text()
        headers = {"Authorization": f"Bearer {token}"}
        with httpx2.Client(base_url=ports["url"], headers=headers, timeout=10, trust_env=False) as client:
            yield ClusterHandle(
                process,
                ports["url"],
                Path(ports["kubeconfig"]),
                Path(ports["token_file"]),
                {int(number): real for number, real in ports["node_ports"].items()},
                log_file,
                client,
            )
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

"""The companion as a process with the alert dispatcher, and a GitHub to which it sends."""

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from orchestration.dispatcher.notification import Alert
from testbeds.common.github_server import GitHubServer
from testbeds.common.processes import wait_until
from testbeds.common.services import free_ports
from testbeds.common.tools import CHECKOUT
from tests.fakes.dispatching import notification
from tests.fakes.github import TOKEN
from tests.fakes.plain_http import HTTP

HOOK_TOKEN = "the-token-of-alertmanager"
AUTHORIZED = {"Authorization": f"Bearer {HOOK_TOKEN}"}
SECONDS = 60.0


@dataclass
class Companion:
    """The process, and what its files are."""

    folder: Path
    port: int
    process: "subprocess.Popen[str] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def configuration(self) -> Path:
        return self.folder / "dispatcher.yaml"

    def start(self, limit_bytes: int | None = None) -> None:
        """Start it, and wait until it serves; with a limit, no file that it writes may be larger."""

        def before() -> None:
            if limit_bytes is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing then fails, as on a full disk
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

        command = [sys.executable, "-m", "orchestration.cli", "companion", "--no-promotions"]
        command += [f"--listen=127.0.0.1:{self.port}", f"--dispatch={self.configuration}"]
        output = (self.folder / "output").open("a")
        self.process = subprocess.Popen(command, cwd=CHECKOUT, stderr=output, text=True, preexec_fn=before)
        output.close()
        wait_until(lambda: self.process_is_up() and self.answers("/live"), SECONDS, "the companion serves")

    def process_is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.output
        return True

    def answers(self, path: str) -> bool:
        try:
            return HTTP.get(f"{self.url}{path}").status_code == 200
        except httpx2.TransportError:
            return False

    def end(self, number: int = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(SECONDS)
        self.process = None
        return code

    def post(self, *alerts: Alert, **options: Any) -> httpx2.Response:
        return HTTP.post(
            f"{self.url}/alerts", json=notification(*alerts), timeout=SECONDS, **{"headers": AUTHORIZED, **options}
        )

    def sample(self, name: str, **labels: str) -> float:
        families = text_string_to_metric_families(HTTP.get(f"{self.url}/metrics").text)
        samples = [sample for family in families for sample in family.samples]
        (value,) = [sample.value for sample in samples if sample.name == name and sample.labels == labels]
        return value

    @property
    def waits(self) -> float:
        return self.sample("incumbent_outbox_alerts", state="waiting")

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text(encoding="utf-8")


@contextmanager
def companion_of(github: GitHubServer, folder: Path) -> Iterator[Companion]:
    """Yield a companion that has not been started, with its files in a folder; its process ends with the block."""
    (folder / "outbox").mkdir()
    (folder / "github-token").write_text(TOKEN, encoding="utf-8")
    (folder / "webhook-token").write_text(f"{HOOK_TOKEN}\n", encoding="utf-8")
    (port,) = free_ports(1)
    made = Companion(folder, port)
    made.configuration.write_text(
        f"repository: {github.name}\napi: {github.url}\noutbox: {folder}/outbox\n"
        f"token_file: {folder}/github-token\nwebhook_token_file: {folder}/webhook-token\n",
        encoding="utf-8",
    )
    try:
        yield made
    finally:
        if made.process is not None:
            made.process.kill()
            made.process.wait()

"""MLflow tells the companion that an alias was set, and a tick of the sensor that waits is woken."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.webhooks.delivery import _generate_hmac_signature
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.routing import Route

from orchestration.adapters.bell import bell, ring
from orchestration.cli import main
from orchestration.companion.registry_webhook import PATH, registry_webhook_part
from orchestration.companion.requests import RefusedRequestError
from orchestration.promotion.registry_webhook import LARGEST_DELIVERY
from testbeds.common.processes import wait_until
from testbeds.common.services import accepts, free_ports
from testbeds.common.tools import CHECKOUT
from tests.adapters.conftest import mlflow_of

SECRET = "what MLflow signs with"
SECONDS = 120.0
BODY = json.dumps({"entity": "model_version_alias", "action": "created", "data": {"name": "iris"}})


class Receiver:
    """The companion's part, asked without a server."""

    def __init__(self, folder: Path) -> None:
        self.state, self.secret, self.said = folder / "state", folder / "secret", list[str]()
        self.secret.write_text(f"{SECRET}\n", encoding="utf-8")
        self.registry = CollectorRegistry()
        (route,) = registry_webhook_part(self.state, self.secret, self.registry, self.said.append).routes
        assert isinstance(route, Route)
        self.route = route

    def deliver(self, body: str = BODY, delivery: str = "d-1", kind: str = "application/json", **more: str) -> int:
        """Return how many ticks were woken."""
        at = str(int(time.time()))
        headers = {
            "content-type": kind,
            "x-mlflow-delivery-id": delivery,
            "x-mlflow-timestamp": at,
            "x-mlflow-signature": _generate_hmac_signature(SECRET, delivery, at, body),
            **more,
        }
        left = [{"type": "http.request", "body": body.encode(), "more_body": False}]

        async def receive() -> dict[str, object]:
            return left.pop()

        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        request = Request({"type": "http", "method": "POST", "path": PATH, "headers": encoded}, receive)
        answer = asyncio.run(self.route.endpoint(request))
        return int(json.loads(answer.body)["woken"])

    def refused(self, ask: Callable[[], int]) -> tuple[int, str]:
        with pytest.raises(RefusedRequestError) as caught:
            ask()
        assert SECRET not in str(caught.value.detail)
        return caught.value.status_code, caught.value.reason


@pytest.fixture
def receiver(tmp_path: Path) -> Receiver:
    return Receiver(tmp_path)


def test_every_tick_that_waits_is_woken_once_for_a_delivery(receiver: Receiver) -> None:
    """Two ticks hear for which model; the same delivery again, or another event, wakes nobody."""
    with bell(receiver.state) as first, bell(receiver.state) as second:
        assert receiver.deliver() == 2
        assert [each.wait(0) for each in (first, second)] == [{"iris"}, {"iris"}]
        assert receiver.deliver() == 0
        assert receiver.deliver(BODY.replace("_alias", "_tag"), "d-2") == 0
        assert first.wait(0) == frozenset()
    assert receiver.deliver(delivery="d-3") == 0
    assert receiver.registry.get_sample_value("incumbent_registry_webhooks_total") == 2


def test_what_is_no_delivery_of_mlflow_is_refused(receiver: Receiver) -> None:
    """Another type, a body above 64 KiB, a signature by another secret, and any while there is no secret."""
    with bell(receiver.state) as tick:
        assert receiver.refused(lambda: receiver.deliver(kind="text/plain")) == (415, "not_json")
        large = BODY + " " * LARGEST_DELIVERY
        assert receiver.refused(lambda: receiver.deliver(large)) == (413, "too_large")
        forged = {"x-mlflow-signature": _generate_hmac_signature("a guess", "d-1", "1", BODY)}
        assert receiver.refused(lambda: receiver.deliver(**forged)) == (401, "unauthorized")
        receiver.secret.unlink()
        assert receiver.refused(receiver.deliver) == (503, "no_token")
        assert "--mlflow-webhook" in receiver.said[0]
        assert tick.wait(0) == frozenset()


def test_a_killed_tick_leaves_nothing_that_stays(tmp_path: Path) -> None:
    """Its socket is removed by the next call, and those that wait hear it all the same."""
    waiting = "from orchestration.adapters.bell import bell; from pathlib import Path; import os, sys\n"
    waiting += "with bell(Path(sys.argv[1])): os._exit(0)"
    subprocess.run([sys.executable, "-c", waiting, str(tmp_path)], cwd=CHECKOUT, check=True)
    with bell(tmp_path) as tick:
        assert len(list((tmp_path / "bell").iterdir())) == 2
        assert ring(tmp_path, "iris") == 1
        assert tick.wait(0) == {"iris"}
        assert len(list((tmp_path / "bell").iterdir())) == 1


def test_where_no_socket_can_be_made_a_tick_only_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder that cannot be used costs the sensor the webhooks, with a warning, and nothing else."""
    (tmp_path / "bell").write_text("no folder", encoding="utf-8")
    with bell(tmp_path) as tick:
        assert tick.wait(0) == frozenset()
    assert "wake no tick" in caplog.text


@pytest.fixture
def companion(receiver: Receiver) -> Iterator[str]:
    """The companion's process, which takes webhooks alone."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "orchestration.cli", "companion", "--no-promotions"]
    command += [f"--listen=127.0.0.1:{port}", f"--mlflow-webhook={receiver.secret}"]
    settings = {**os.environ, "INCUMBENT_STATE": str(receiver.state)}
    process = subprocess.Popen(command, cwd=CHECKOUT, env=settings)
    try:
        wait_until(lambda: accepts(port), SECONDS, "the companion serves")
        yield f"http://127.0.0.1:{port}{PATH}"
    finally:
        process.terminate()
        process.wait(SECONDS)


def test_a_real_mlflow_wakes_a_tick(
    receiver: Receiver, companion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is told once, also when the command is run again, tries the address, and tells of each alias."""
    settings = {"MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true"}
    with mlflow_of(tmp_path, sys.executable, settings=settings) as url, bell(receiver.state) as tick:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        for _ in range(2):
            told = CliRunner().invoke(main, ["register-webhook", companion, str(receiver.secret)])
            assert told.exit_code == 0, told.output
        client = MlflowClient(url, url)
        assert [webhook.url for webhook in client.list_webhooks()] == [companion]
        client.create_registered_model("wine")
        run = client.create_run("0")
        client.create_model_version("wine", f"{run.info.artifact_uri}/model", run.info.run_id)
        wait_until(lambda: "example_model" in tick.wait(0.1), SECONDS, "MLflow has tried the address")
        client.set_registered_model_alias("wine", "challenger", "1")
        wait_until(lambda: "wine" in tick.wait(0.1), SECONDS, "MLflow has told of the alias")
        receiver.secret.write_text("another", encoding="utf-8")
        refused = CliRunner().invoke(main, ["register-webhook", f"{companion}/wrong", str(receiver.secret)])
        assert refused.exit_code == 4
        assert "--mlflow-webhook" in refused.stderr

"""The sandbox as a whole: real services, a baseline that serves, and nothing left of it afterwards."""

import json
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from orchestration.promotion.policy import parse_policy
from orchestration.promotion.problems import ProblemError
from testbeds.common.guardian import MARK
from testbeds.common.processes import wait_until
from testbeds.common.services import free_ports
from testbeds.common.state import POLICY, SECOND_POLICY, baseline_image, read_policy
from testbeds.common.tools import CHECKOUT
from testbeds.sandbox.sandbox import Sandbox


@pytest.fixture
def sandbox(sandbox_services: Sandbox) -> Sandbox:
    return sandbox_services


def ask(url: str, body: bytes | None = None) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=10) as answer:
        return json.load(answer)


def query(sandbox: Sandbox, expression: str) -> list[dict[str, Any]]:
    """What Prometheus answers to an instant query."""
    answer = ask(f"{sandbox.prometheus_url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def test_the_baseline_serves(sandbox: Sandbox) -> None:
    """Requests at the policy's service_url are answered by the image that the manifest names."""
    answer = ask(f"{sandbox.policy.service_url}/predict", b'{"features": [5.1, 3.5, 1.4, 0.2]}')
    assert answer["class_name"] == "setosa"
    assert sandbox.models()["baseline"].image_tag == baseline_image("iris-classifier").tag


def test_the_second_model_serves_beside_it(sandbox: Sandbox) -> None:
    """With a policy, a port and versions of its own."""
    policy = read_policy(sandbox.state / "policies", SECOND_POLICY)
    wine = [14.2, 1.7, 2.4, 15.6, 127.0, 2.8, 3.1, 0.3, 2.3, 5.6, 1.0, 3.9, 1065.0]
    answer = ask(f"{policy.service_url}/predict", json.dumps({"features": wine}).encode())
    assert answer["class_name"] == "class_0"
    models = sandbox.models(SECOND_POLICY)
    assert models["baseline"].image_tag == baseline_image("wine-quality").tag
    assert [models[f"version {number}"].version for number in (1, 2)] == [1, 2]


def test_prometheus_sees_each_pod(sandbox: Sandbox) -> None:
    """Each pod is its own target, with the labels that queries use, and says which model it serves."""
    selector = '{namespace="ml-apps",cluster="edge",app="iris-classifier"}'

    def both() -> list[dict[str, Any]] | None:
        found = query(sandbox, f"up{selector} == 1")
        return found if len(found) == 2 else None

    up = wait_until(both, 60, "both pods are scraped")
    assert len({sample["metric"]["pod"] for sample in up}) == 2
    info = query(sandbox, f"model_info{selector}")
    assert {sample["metric"]["run_id"] for sample in info} == {sandbox.models()["baseline"].run_id}


def test_the_policys_queries_are_ones(sandbox: Sandbox) -> None:
    """Prometheus accepts every query of the policy, and counts the requests of the pods."""
    for text in (sandbox.policy.gate.requests, *(slo.query for slo in sandbox.policy.gate.slos if slo.query)):
        places = {"$pods": ".+", "$window": "30s", "$namespace": "ml-apps", "$source": "real|replayed"}
        for place, value in places.items():
            text = text.replace(place, value)
        assert len(query(sandbox, text)) <= 1


def test_every_version_is_there(sandbox: Sandbox) -> None:
    """When the sandbox is up, all of the story's versions are registered, and all but one are published."""
    models = sandbox.models()
    assert [models[f"version {number}"].version for number in range(1, 6)] == [1, 2, 3, 4, 5]
    assert [name for name, model in models.items() if model.image_digest is None] == ["version 5"]


def test_the_settings_are_the_pipelines(sandbox: Sandbox) -> None:
    """All of the design's settings are there, the files they name exist, and none of them holds a token."""
    settings = sandbox.environment()
    assert set(settings) == {
        "MLFLOW_TRACKING_URI",
        "INCUMBENT_POLICIES",
        "INCUMBENT_GIT_URL",
        "INCUMBENT_GIT_BRANCH",
        "INCUMBENT_GIT_TOKEN_FILE",
        "INCUMBENT_KUBECONFIG",
        "INCUMBENT_ARGOCD_CONTEXT",
        "PROMETHEUS_URL",
        "INCUMBENT_OCI_MIRRORS",
        "INCUMBENT_STATE",
        "DAGSTER_HOME",
        MARK,
    }
    for name in ("INCUMBENT_POLICIES", "INCUMBENT_GIT_TOKEN_FILE", "INCUMBENT_KUBECONFIG", "DAGSTER_HOME"):
        assert Path(settings[name]).exists()
    token = sandbox.git.token_file.read_text(encoding="utf-8")
    assert not any(token in value for value in settings.values())
    text = (Path(settings["INCUMBENT_POLICIES"]) / f"{POLICY}.yaml").read_text(encoding="utf-8")
    assert parse_policy(POLICY, text).service_url == sandbox.service_url


def test_a_second_one_in_the_same_folder_is_refused(sandbox: Sandbox) -> None:
    """Two sandboxes never share a folder, and the first one is not disturbed."""
    with pytest.raises(ProblemError, match="expected a folder that no other process works in"):
        Sandbox(sandbox.state).start()
    assert ask(f"{sandbox.service_url}/health") == {"status": "healthy"}


def test_free_ports_differ() -> None:
    """Ports that are asked for together are different ones, below those of outgoing connections."""
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert max(ports) < 32768


def test_no_two_processes_get_the_same_port() -> None:
    """What one was given stays its own until it ends, although nothing listens there yet."""
    (port,) = free_ports(1)
    assert free_ports(1, [port]) == [port]
    assert free_ports(1) != [port]
    code = f"from testbeds.common.services import free_ports; print(*free_ports(1, [{port}]))"
    other = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert int(other.stdout) != port

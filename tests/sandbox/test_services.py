"""The sandbox as a whole: real services, and a baseline that serves."""

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


def get_json(url: str, body: bytes | None = None) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=10) as answer:
        return json.load(answer)


def query(sandbox: Sandbox, expression: str) -> list[dict[str, Any]]:
    """Return Prometheus's answer to an instant query."""
    answer = get_json(f"{sandbox.prometheus_url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
    samples: list[dict[str, Any]] = answer["data"]["result"]
    return samples


def test_the_baseline_serves(sandbox: Sandbox) -> None:
    """Requests at the policy's service.url are answered by the image that the manifest names."""
    answer = get_json(f"{sandbox.policy.service.url}/predict", b'{"features": [5.1, 3.5, 1.4, 0.2]}')
    assert answer["class_name"] == "setosa"
    assert sandbox.models()["baseline"].image_tag == baseline_image("iris-classifier").tag


def test_a_shell_gets_the_settings_from_a_file(sandbox: Sandbox) -> None:
    """A shell that sources the settings file finds the command, and the command finds the sandbox."""
    command = [
        "bash",
        "-c",
        'source "$1" && incumbent plan iris-classifier-edge 1 | head -1',
        "-",
        str(sandbox.settings_file),
    ]
    shell = subprocess.run(
        command, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True, timeout=120
    )
    assert shell.stdout == "version 1 of iris-classifier under iris-classifier-edge; nothing is changed\n"
    assert MARK not in sandbox.settings_file.read_text(encoding="utf-8")


def test_the_second_model_serves_too(sandbox: Sandbox) -> None:
    """The second model serves with its own policy, port and versions."""
    policy = read_policy(sandbox.state / "policies", SECOND_POLICY)
    wine = [14.2, 1.7, 2.4, 15.6, 127.0, 2.8, 3.1, 0.3, 2.3, 5.6, 1.0, 3.9, 1065.0]
    answer = get_json(f"{policy.service.url}/predict", json.dumps({"features": wine}).encode())
    assert answer["class_name"] == "class_0"
    models = sandbox.models(SECOND_POLICY)
    assert models["baseline"].image_tag == baseline_image("wine-quality").tag
    assert [models[f"version {number}"].version for number in (1, 2)] == [1, 2]


def test_prometheus_scrapes_each_pod(sandbox: Sandbox) -> None:
    """Each pod is its own target, has the labels that queries use, and reports which model it serves."""
    selector = '{namespace="ml-apps",cluster="edge",app="iris-classifier"}'

    def both_pods() -> list[dict[str, Any]] | None:
        samples = query(sandbox, f"up{selector} == 1")
        return samples if len(samples) == 2 else None

    up = wait_until(both_pods, 60, "both pods are scraped")
    assert len({sample["metric"]["pod"] for sample in up}) == 2
    info = query(sandbox, f"model_info{selector}")
    assert {sample["metric"]["run_id"] for sample in info} == {sandbox.models()["baseline"].run_id}


def test_prometheus_accepts_the_policys_queries(sandbox: Sandbox) -> None:
    """Prometheus accepts every query of the policy and returns at most one sample for each."""
    for text in (sandbox.policy.gate.requests, *(slo.query for slo in sandbox.policy.gate.slos if slo.query)):
        values = {"$pods": ".+", "$window": "30s", "$namespace": "ml-apps", "$source": "real|replayed"}
        for placeholder, value in values.items():
            text = text.replace(placeholder, value)
        assert len(query(sandbox, text)) <= 1


def test_every_version_is_registered(sandbox: Sandbox) -> None:
    """When the sandbox is up, all versions of the story are registered, and all but one are published."""
    models = sandbox.models()
    assert [models[f"version {number}"].version for number in range(1, 6)] == [1, 2, 3, 4, 5]
    assert [name for name, model in models.items() if model.image_digest is None] == ["version 5"]


def test_the_environment_has_the_pipelines_settings(sandbox: Sandbox) -> None:
    """The environment has all settings of the pipeline; the files that they name exist, and none contains a token."""
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
    assert parse_policy(POLICY, text).service.url == sandbox.service_url


def test_a_second_sandbox_in_the_same_folder_is_refused(sandbox: Sandbox) -> None:
    """A second sandbox in a folder is refused, and the first one goes on undisturbed."""
    with pytest.raises(ProblemError, match="expected a folder that no other process works in"):
        Sandbox(sandbox.state).start()
    assert get_json(f"{sandbox.service_url}/health") == {"status": "healthy"}


def test_free_ports_differ() -> None:
    """Ports that are requested together differ, and lie below those of outgoing connections."""
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert max(ports) < 32768


def test_no_two_processes_get_the_same_port() -> None:
    """A port stays reserved for its process until that ends, even if no server listens on it yet."""
    (port,) = free_ports(1)
    assert free_ports(1, [port]) == [port]
    assert free_ports(1) != [port]
    code = f"from testbeds.common.services import free_ports; print(*free_ports(1, [{port}]))"
    other = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert int(other.stdout) != port

"""The sandbox as an environment of the stories."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from testbeds.sandbox.processes import Processes, Service, wait_until
from testbeds.sandbox.sandbox import POLICY, Sandbox
from testbeds.sandbox.services import BRANCH, python
from testbeds.sandbox.tools import CHECKOUT
from tests.scenarios.seen import Serving

_LOCATION, _REPOSITORY, _SENSOR = "incumbent", "__repository__", "challenger_sensor"
_START_SECONDS = 90.0
_INFO = re.compile(r"^model_info\{(.*)\} 1(?:\.0)?$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_START_SENSOR = """
mutation($selector: SensorSelector!) {
  startSensor(sensorSelector: $selector) { __typename ... on PythonError { message } }
}
"""


_STARTED_RUNS = """
query {
  runsOrError(filter: {statuses: [STARTED]}) {
    ... on Runs {
      results {
        eventConnection {
          events { ... on EngineEvent { metadataEntries { label ... on TextMetadataEntry { text } } } }
        }
      }
    }
  }
}
"""


class SandboxEnvironment:
    """A running sandbox, seen as what the stories need."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        policy = sandbox.policy
        self.policy, self.model = POLICY, policy.model
        self.challenger_alias, self.champion_alias = policy.challenger_alias, policy.champion_alias
        self.manifest = policy.manifest.path
        self.image_repository = policy.image.repository
        self.judge_within = policy.gate.judge_within
        self.mlflow_url, self.service_url = sandbox.mlflow_url, sandbox.service_url
        self.git_url, self.git_branch = sandbox.git.url, BRANCH
        self.git_token_file = sandbox.git.token_file
        self.client_log = sandbox.state / "client.jsonl"
        self.logs = sandbox.state / "logs"
        self._client: Service | None = None

    @property
    def processes(self) -> Processes:
        return self.sandbox.processes

    def settings(self) -> Mapping[str, str]:
        return self.sandbox.environment()

    def serving(self) -> tuple[Serving, ...]:
        target = self.sandbox.policy.manifest
        pods = f"/api/v1/namespaces/{target.namespace}/pods"
        found = []
        for pod in json.loads(self._api(f"{pods}?labelSelector=app%3D{target.name}"))["items"]:
            name = pod["metadata"]["name"]
            port = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
            info = _INFO.search(self._metrics(f"{pods}/{name}:{port}/proxy/metrics"))
            labels = dict(_LABEL.findall(info[1])) if info else {}
            found.append(Serving(name, *(labels.get(key, "unknown") for key in ("model", "version", "image"))))
        return tuple(found)

    def _metrics(self, path: str) -> str:
        try:
            return self._api(path)
        except urllib.error.HTTPError:  # a pod that does not answer serves no known version
            return ""

    def _api(self, path: str) -> str:
        token = self.sandbox.cluster.token_file.read_text(encoding="utf-8")
        request = urllib.request.Request(
            f"{self.sandbox.cluster.url}{path}", headers={"Authorization": f"Bearer {token}"}
        )
        return read_url(request)

    def start_client(self) -> None:
        command = python("testbeds.sandbox.client", self.service_url, "--log", self.client_log)
        self._client = self.processes.start("client", command, cwd=CHECKOUT)

    def stop_client(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            self.processes.stop(client, 10)

    def start_dagster(self) -> None:
        self.sandbox.start_dagster()
        wait_until(self._start_sensor, _START_SECONDS, "the registry sensor is on")

    def _start_sensor(self) -> bool:
        selector = {"repositoryLocationName": _LOCATION, "repositoryName": _REPOSITORY, "sensorName": _SENSOR}
        answer = self.ask_dagster(_START_SENSOR, {"selector": selector})
        return bool(answer.get("startSensor", {}).get("__typename") == "Sensor")

    def ask_dagster(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The data of an answer of Dagster's GraphQL; empty when it is an error."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        address = f"{self.sandbox.dagster_url}/graphql"
        answer = json.loads(read_url(urllib.request.Request(address, body, {"Content-Type": "application/json"})))
        return dict(answer.get("data") or {})

    def run_processes(self) -> set[int]:
        """The process ids of the runs that Dagster takes for started."""
        runs = self.ask_dagster(_STARTED_RUNS, {})["runsOrError"]["results"]
        events = [event for run in runs for event in run["eventConnection"]["events"]]
        entries = [entry for event in events for entry in event.get("metadataEntries", [])]
        return {int(entry["text"]) for entry in entries if entry["label"] == "pid"}

    def stop_dagster(self) -> None:
        self.sandbox.stop_dagster()


def read_url(request: urllib.request.Request) -> str:
    """The text of an answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is never behind a proxy
    with opener.open(request, timeout=15) as answer:
        return str(answer.read().decode("utf-8"))

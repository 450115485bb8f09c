"""Dagster's code server, daemon and pages on this checkout, as processes of this machine: started, asked and ended."""

import json
import re
import shutil
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testbeds.common.processes import Processes, Service, await_end, wait_until
from testbeds.common.services import HOST, accepts, answers
from testbeds.common.tools import CHECKOUT

_START_SECONDS = 180.0
_RUNS_SECONDS = 300.0
"""Longer than Dagster waits for the process of a run that it has started."""
_INSTANCE = CHECKOUT / "dagster.yaml"
_WORKSPACE = CHECKOUT / "workspace-code-server.yaml"
_LOCATION, _REPOSITORY, _SENSOR = "incumbent", "__repository__", "challenger_sensor"
# The daemon, the webserver and the code server would each lay out the same databases, and trip over one another.
_LAY_OUT = "import dagster as dg; home = dg.DagsterInstance.get(); home.get_runs_count(); home.all_instigator_state()"
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
_UNFINISHED_RUNS = """
query {
  runsOrError(filter: {statuses: [NOT_STARTED, QUEUED, STARTING, STARTED, CANCELING]}) {
    ... on Runs { results { runId } }
  }
}
"""


class Dagster:
    """One DAGSTER_HOME and the programs that work on it; `url` is where its pages are, None while they do not run."""

    def __init__(self, processes: Processes, home: Path, port: int, code_port: int) -> None:
        self.home = home
        self.url: str | None = None
        self._processes, self._port, self._code_port = processes, port, code_port
        self._code: Service | None = None
        self._daemon: Service | None = None
        self._pages: Service | None = None

    def lay_out(self, instance: Path = _INSTANCE, settings: Mapping[str, str] | None = None) -> Service:
        """Start the program that makes the home's databases; nothing else may use them until it has ended.

        Args:
            instance: what becomes the home's dagster.yaml.
            settings: environment variables that it names.
        """
        self.home.mkdir(exist_ok=True)
        shutil.copy(instance, self.home / "dagster.yaml")
        settings = {**(settings or {}), "DAGSTER_HOME": str(self.home)}
        return self._processes.start("dagster-home", [sys.executable, "-c", _LAY_OUT], settings, ends_by_itself=True)

    def start(self, settings: Mapping[str, str]) -> None:
        """Start code server, daemon and pages with the pipeline's settings, and return when the pages answer.

        Raises:
            ProblemError: they do not come up.
        """
        programs = Path(sys.executable).parent
        url = f"http://{HOST}:{self._port}"
        workspace = self._workspace()
        module = ("-m", "orchestration.definitions", "--location-name", _LOCATION)
        code: list[str | Path] = [programs / "dagster", "api", "grpc", *module, "-h", HOST, "-p", str(self._code_port)]
        daemon: list[str | Path] = [programs / "dagster-daemon", "run", "-w", workspace]
        pages: list[str | Path] = [programs / "dagster-webserver", "-w", workspace, "-h", HOST, "-p", str(self._port)]
        self._code = self._processes.start("dagster-code-server", code, settings, CHECKOUT)
        wait_until(lambda: accepts(self._code_port), _START_SECONDS, "Dagster's code server answers", self._code)
        self._daemon = self._processes.start("dagster-daemon", daemon, settings, CHECKOUT)
        self._pages = self._processes.start("dagster-webserver", pages, settings, CHECKOUT)
        wait_until(lambda: answers(f"{url}/server_info"), _START_SECONDS, "Dagster's pages answer", self._pages)
        self.url = url

    def _workspace(self) -> Path:
        """Write the checkout's workspace into the home, with the port at which the code server listens here."""
        workspace = self.home / _WORKSPACE.name
        text = _WORKSPACE.read_text(encoding="utf-8")
        workspace.write_text(re.sub(r"port: \d+", f"port: {self._code_port}", text), encoding="utf-8")
        return workspace

    def start_sensor(self) -> None:
        """Switch the registry's sensor on.

        Raises:
            ProblemError: Dagster does not know the sensor in time.
        """
        wait_until(self._starts_sensor, _START_SECONDS, "the registry sensor is on", self._daemon)

    def _starts_sensor(self) -> bool:
        selector = {"repositoryLocationName": _LOCATION, "repositoryName": _REPOSITORY, "sensorName": _SENSOR}
        answer = self.ask(_START_SENSOR, {"selector": selector})
        return bool(answer.get("startSensor", {}).get("__typename") == "Sensor")

    def ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Ask Dagster's GraphQL and return the answer's data; empty when the answer is an error."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is never behind a proxy
        with opener.open(request, timeout=15) as answer:
            return dict(json.load(answer).get("data") or {})

    def run_processes(self) -> set[int]:
        """Return the process ids of the runs that Dagster takes for started."""
        runs = self.ask(_STARTED_RUNS, {})["runsOrError"]["results"]
        events = [event for run in runs for event in run["eventConnection"]["events"]]
        entries = [entry for event in events for entry in event.get("metadataEntries", [])]
        return {int(entry["text"]) for entry in entries if entry["label"] == "pid"}

    def await_runs(self) -> None:
        """Wait until every run has ended: one that Dagster's end cuts off would be shown as a failure.

        Raises:
            ProblemError: a run does not end.
        """
        wait_until(self._has_no_run, _RUNS_SECONDS, "Dagster's runs have ended", self._daemon)

    def _has_no_run(self) -> bool:
        return self.ask(_UNFINISHED_RUNS, {}).get("runsOrError") == {"results": []}

    def lose(self) -> None:
        """Kill daemon, pages, code server and runs at once and start with an empty home, as after a machine's loss.

        Raises:
            ProblemError: the databases of the new home cannot be laid out.
        """
        for service in self._running():
            self._processes.kill(service)
        self._code = self._daemon = self._pages = self.url = None
        shutil.rmtree(self.home)
        await_end(self.lay_out(), _START_SECONDS, "Dagster's databases are laid out")

    def stop(self) -> None:
        """End daemon, pages and code server, in this order, so that none misses another."""
        for service in self._running():
            self._processes.stop(service)
        self._code = self._daemon = self._pages = self.url = None

    def _running(self) -> list[Service]:
        return [service for service in (self._daemon, self._pages, self._code) if service is not None]

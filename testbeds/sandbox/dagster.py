"""Dagster's daemon and pages on this checkout, as processes of this machine: started, asked and ended."""

import json
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testbeds.sandbox import services
from testbeds.sandbox.processes import Processes, Service, wait_until
from testbeds.sandbox.services import HOST, answers

_START_SECONDS = 180.0
_LOCATION, _REPOSITORY, _SENSOR = "incumbent", "__repository__", "challenger_sensor"
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


class Dagster:
    """One DAGSTER_HOME and the programs that work on it; `url` is where its pages are, None while they are not."""

    def __init__(self, processes: Processes, home: Path, port: int) -> None:
        self.home = home
        self.url: str | None = None
        self._processes, self._port = processes, port
        self._services: tuple[Service, ...] = ()

    def lay_out(self) -> Service:
        """Begin to make the home's databases; the program ends when that is done, and only then may others start."""
        return services.prepare_dagster(self._processes, self.home)

    def start(self, settings: Mapping[str, str]) -> None:
        """Start daemon and pages with the pipeline's settings; returns when the pages answer.

        Raises:
            ProblemError: they do not come up.
        """
        self._services = services.start_dagster(self._processes, settings, self._port)
        url, pages = f"http://{HOST}:{self._port}", self._services[-1]
        wait_until(lambda: answers(f"{url}/server_info"), _START_SECONDS, "Dagster's pages answer", pages)
        self.url = url

    def start_sensor(self) -> None:
        """Switch the registry's sensor on.

        Raises:
            ProblemError: Dagster does not know the sensor in time.
        """
        wait_until(self._starts_sensor, _START_SECONDS, "the registry sensor is on")

    def _starts_sensor(self) -> bool:
        selector = {"repositoryLocationName": _LOCATION, "repositoryName": _REPOSITORY, "sensorName": _SENSOR}
        answer = self.ask(_START_SENSOR, {"selector": selector})
        return bool(answer.get("startSensor", {}).get("__typename") == "Sensor")

    def ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The data of an answer of Dagster's GraphQL; empty when it is an error."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is never behind a proxy
        with opener.open(request, timeout=15) as answer:
            return dict(json.load(answer).get("data") or {})

    def run_processes(self) -> set[int]:
        """The process ids of the runs that Dagster takes for started."""
        runs = self.ask(_STARTED_RUNS, {})["runsOrError"]["results"]
        events = [event for run in runs for event in run["eventConnection"]["events"]]
        entries = [entry for event in events for entry in event.get("metadataEntries", [])]
        return {int(entry["text"]) for entry in entries if entry["label"] == "pid"}

    def stop(self) -> None:
        """End daemon and pages; their code servers follow when nobody asks them any more."""
        for service in self._services:
            self._processes.stop(service)
        self._services, self.url = (), None

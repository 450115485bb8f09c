"""What all environments have in common: the policy's names, and a client and Dagster as processes of this machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from orchestration.promotion.policy import Policy
from testbeds.common.dagster import Dagster
from testbeds.common.processes import Processes, Service
from testbeds.common.service_watch import ServiceWatch
from testbeds.common.services import BRANCH, python
from testbeds.common.tools import CHECKOUT


class Testbed(Protocol):
    """What the sandbox and the homelab have in common."""

    @property
    def state(self) -> Path: ...
    @property
    def policy(self) -> Policy: ...
    @property
    def mlflow_url(self) -> str: ...
    def environment(self) -> dict[str, str]: ...


class Hosted:
    """The part of an environment that testbeds share; `publish`, `serving` and `scale` differ between them."""

    git_branch = BRANCH

    def __init__(
        self,
        testbed: Testbed,
        processes: Processes,
        dagster: Dagster,
        git_url: str,
        git_token_file: Path,
        policy: Policy | None = None,
    ) -> None:
        policy = policy or testbed.policy
        self.policy, self.model = policy.name, policy.model
        self.challenger_alias, self.champion_alias = policy.challenger_alias, policy.champion_alias
        self.manifest = policy.manifest.path
        self.image_repository = policy.image.repository if policy.image is not None else ""
        self.judge_within = policy.gate.judge_within
        self.mlflow_url, self.service_url = testbed.mlflow_url, policy.service.url
        self.git_url, self.git_token_file = git_url, git_token_file
        self.client_log = testbed.state / f"client of {policy.name}.jsonl"
        self.logs = processes.logs
        self.processes = processes
        self._testbed, self.dagster = testbed, dagster
        self._client: Service | None = None

    def settings(self) -> Mapping[str, str]:
        return self._testbed.environment()

    def watch_services(self) -> ServiceWatch:
        return ServiceWatch(self.processes)

    def start_client(self) -> None:
        command = python("testbeds.story.client", self.service_url, "--model", self.model, "--log", self.client_log)
        self._client = self.processes.start(f"client of {self.policy}", command, cwd=CHECKOUT)

    def stop_client(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            self.processes.stop(client, 10)

    def start_dagster(self) -> None:
        self.dagster.start(self.settings())
        self.dagster.start_sensor()

    def stop_dagster(self) -> None:
        self.dagster.stop()

    def lose_dagster(self) -> None:
        self.dagster.lose()

    def ask_dagster(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        return self.dagster.ask(query, variables)

    def run_processes(self) -> set[int]:
        return self.dagster.run_processes()

"""Promotions in the sandbox with Dagster's storage in a real PostgreSQL, each run a process of its own as a pod is."""

import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from ruamel.yaml import YAML

from orchestration.environment import DEFAULTS, SETTINGS, EnvironmentPlatform
from orchestration.promotion.ports import LeaseRecord
from testbeds.common.processes import await_end, wait_until
from testbeds.common.tools import CHECKOUT
from testbeds.sandbox.environment import SandboxEnvironment
from testbeds.story.expectation import promoting
from testbeds.story.look import branch
from testbeds.story.stories import registry, request_promotion, wait_for_end, wait_for_state
from testbeds.story.versions import register_again
from tests.platform.postgresql import PostgreSQL, postgresql
from tests.platform.process_launcher import PROCESS_TAG

MANIFEST = CHECKOUT / "manifests/platform/dagster/config/dagster.yml"
SECONDS = 300.0
_RUNS = """
query($partition: String!) {
  runsOrError(filter: {tags: [{key: "dagster/partition", value: $partition}]}) {
    ... on Runs {
      results {
        runId
        status
        tags { key value }
        eventConnection { events { ... on LogMessageEvent { stepKey } } }
      }
    }
  }
}
"""


@dataclass(frozen=True)
class Run:
    """What Dagster's pages say about a run."""

    id: str
    status: str
    process: int
    spoke_in: frozenset[str]
    """The stages in which it has said something."""


def _run(raw: Mapping[str, Any]) -> Run:
    tags = {tag["key"]: tag["value"] for tag in raw["tags"]}
    stages = frozenset(str(event["stepKey"]) for event in raw["eventConnection"]["events"] if event.get("stepKey"))
    return Run(raw["runId"], raw["status"], int(tags[PROCESS_TAG]), stages)


@dataclass(frozen=True)
class Stored:
    """A sandbox whose Dagster keeps everything in PostgreSQL."""

    environment: SandboxEnvironment
    database: PostgreSQL
    client: Any

    def request(self) -> tuple[int, float]:
        """Register a good version and make it the challenger; return its number, and when that was."""
        version = register_again(self.environment, of=2)
        return version, request_promotion(self.environment, self.client, version)

    def committed(self) -> tuple[int, float]:
        """As `request`, and wait until the version is committed: its rollout and its soak are still to come."""
        version, requested_at = self.request()
        wait_for_state(self.environment, self.client, version, ("committed",), requested_at, print)
        return version, requested_at

    def runs(self, version: int) -> list[Run]:
        """Return the runs of a version, the newest first.

        After PostgreSQL was away, the pages' first question on each of their old connections fails.
        """
        partition = {"partition": f"{self.environment.policy}@{version}"}

        def asked() -> dict[str, Any] | None:
            try:
                return self.environment.ask_dagster(_RUNS, partition)
            except HTTPError:
                return None

        found = wait_until(asked, SECONDS, "Dagster's pages have their storage again")["runsOrError"]["results"]
        return [_run(each) for each in found]

    def becomes_champion_with_one_commit(self, version: int, requested_at: float) -> None:
        outcome = wait_for_end(self.environment, self.client, version, requested_at, print)
        assert outcome.state == "champion", outcome.reason
        assert len(promoting(branch(self.environment), self.environment.policy, version)) == 1


@pytest.fixture(scope="module")
def stored(sandbox: SandboxEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """Provide the sandbox with the storage of the manifests and a daemon that starts runs as processes."""
    instance = YAML(typ="safe").load(CHECKOUT / "dagster.yaml")
    instance["storage"] = YAML(typ="safe").load(MANIFEST)["storage"]
    instance["run_launcher"] = {"module": "tests.platform.process_launcher", "class": "ProcessRunLauncher"}
    file = tmp_path_factory.mktemp("instance") / "dagster.yaml"
    YAML(typ="safe").dump(instance, file)
    with postgresql(sandbox.processes) as database:
        own = {"DAGSTER_POSTGRES_URL": database.url, "PYTHONPATH": str(CHECKOUT)}
        await_end(sandbox.dagster.lay_out(file, own), SECONDS, "Dagster's tables are in PostgreSQL")
        sandbox.start_client()
        sandbox.dagster.start({**sandbox.settings(), **own})
        sandbox.dagster.start_sensor()
        yield Stored(sandbox, database, registry(sandbox))
        sandbox.stop_dagster()
        sandbox.stop_client()


def test_a_version_becomes_champion_on_postgresql(stored: Stored) -> None:
    """Sensor, daemon, queue and run keep their state there, and the promotion has one run."""
    version, requested_at = stored.request()
    stored.becomes_champion_with_one_commit(version, requested_at)
    wait_until(lambda: stored.runs(version)[0].status == "SUCCESS", SECONDS, "its run has ended")
    assert len(stored.runs(version)) == 1


def test_a_postgresql_that_crashes_in_mid_promotion_loses_nothing(stored: Stored) -> None:
    """It is back within a moment, as after its pod was replaced: the run goes on, or another one takes its place."""
    version, requested_at = stored.committed()
    stored.database.crash()
    stored.database.start()
    stored.becomes_champion_with_one_commit(version, requested_at)


def test_a_run_that_ends_because_postgresql_is_away_is_resumed(stored: Stored) -> None:
    """It cannot write down what it found and fails; once PostgreSQL is back, the sensor requests the next run."""
    version, requested_at = stored.committed()
    process = stored.runs(version)[0].process
    stored.database.crash()
    wait_until(lambda: not _runs(process), SECONDS, "the run that cannot write its events has ended")
    stored.database.start()
    stored.becomes_champion_with_one_commit(version, requested_at)
    assert len(stored.runs(version)) > 1


def test_a_run_that_gets_sigterm_gives_its_lease_back_and_is_resumed(stored: Stored) -> None:
    """As when its node is drained in mid-soak: nobody waits for its lease to expire, and no person holds the version.

    Between two stages the lease is nobody's to give back, and expires.
    """
    version, requested_at = stored.committed()
    wait_until(lambda: "serving_model" in stored.runs(version)[0].spoke_in, SECONDS, "the version is being judged")
    (run,) = stored.runs(version)
    os.kill(run.process, signal.SIGTERM)
    wait_until(lambda: not _runs(run.process), SECONDS, "the run has ended")
    lease = _lease(stored.environment)
    assert lease is None or lease.holder != run.id, "it would keep the next run waiting for a minute"
    wait_until(lambda: stored.runs(version)[-1].status == "FAILURE", SECONDS, "Dagster has its end as a failure")
    stored.becomes_champion_with_one_commit(version, requested_at)
    assert len(stored.runs(version)) == 2


def _runs(process: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def _lease(environment: SandboxEnvironment) -> LeaseRecord | None:
    """Return who has the lease of the policy's application now."""
    values = {**DEFAULTS, **environment.settings()}
    platform = EnvironmentPlatform(**{field: values.get(name, "") for field, name in SETTINGS.items()})
    policy = platform.policy(environment.policy)
    return platform.git(policy).lease(policy.argocd.application)

"""Dagster on the control plane, each run a job: the story, twenty promotions at once, and what ends while one soaks.

The node of gcp needs more memory than an e2-small has: start these tests with HOMELAB_GCP_MEMORY=12g. Each test can be
run by itself, with --keep-homelab on one that is up.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from bootstrap.dagster import DAGSTER
from orchestration.promotion.problems import ProblemError
from testbeds.common.processes import wait_until
from testbeds.homelab.dagster import ClusterDagster, dagster_in_the_cluster
from testbeds.homelab.environment import HomelabEnvironment
from testbeds.story.expectation import promoting
from testbeds.story.look import branch, look
from testbeds.story.stories import (
    FIVE_VERSIONS,
    expected,
    promote_in_turn,
    registry,
    request_promotion,
)
from testbeds.story.verifier import false_claims, verify
from tests.homelab.fleet import Member, fleet
from tests.homelab.lab import Lab, Promotion, open_lab
from tests.scenarios.people import decide

pytestmark = pytest.mark.timeout(5400)
NODE = "k3d-gcp-server-0"
SIZE = 20
_BACK_SECONDS = 600.0
_ALL_SECONDS = 3600.0
_NOT_YET = ("", "requested")
_ENDS = ("champion", "rolled_back", "refused", "superseded")
"""What is held goes on by itself when its cause has ended."""
_IMAGE_OF_RUNS = """
query($partition: String!) {
  runsOrError(filter: {tags: [{key: "dagster/partition", value: $partition}]}) {
    ... on Runs { results { runId status tags { key value } } }
  }
}
"""


@dataclass(frozen=True)
class OnTheCluster:
    """The homelab whose only Dagster is the one on the control plane."""

    lab: Lab
    dagster: ClusterDagster

    @property
    def environment(self) -> HomelabEnvironment:
        return self.lab.environment

    def soaking(self) -> Promotion:
        """Promote a version until it is committed: its rollout and its soak are still to come."""
        promotion = self.lab.promote()
        promotion.reach("committed")
        return promotion

    def runs(self, promotion: Promotion) -> list[dict[str, Any]]:
        """Return a promotion's runs, the newest first."""
        partition = f"{self.environment.policy}@{promotion.version}"
        found = self.environment.ask_dagster(_IMAGE_OF_RUNS, {"partition": partition})["runsOrError"]["results"]
        return [{**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in found]

    def kubectl(self, *arguments: str, seconds: float = 120.0) -> str:
        return self.dagster.homelab.gcp.run(*arguments, f"--namespace={DAGSTER}", seconds=seconds)

    def delete_pods(self, app: str, *options: str) -> None:
        self.kubectl("delete", "pods", f"--selector=app={app}", "--wait=false", *options)

    def rolls_out(self, workload: str) -> None:
        self.kubectl("rollout", "status", workload, "--timeout=290s", seconds=300)

    def one_commit(self, promotion: Promotion) -> None:
        """Wait until the promotion has made a champion, by one commit however many runs it took."""
        version = promotion.version
        wait_until(lambda: promotion.state() in _ENDS, _ALL_SECONDS, f"the promotion of version {version} has ended")
        tags = self.lab.client.get_model_version(self.environment.model, str(version)).tags
        assert promotion.state() == "champion", tags.get(f"incumbent.{self.environment.policy}.reason")
        assert self.lab.commits_of(version) == 1


@pytest.fixture(scope="module")
def cluster(environment: HomelabEnvironment) -> Iterator[OnTheCluster]:
    """Stop the Dagster beside the homelab, bring the other one, and turn its sensor on."""
    environment.stop_dagster()
    with dagster_in_the_cluster(environment, print) as dagster:
        own = HomelabEnvironment(environment.homelab, environment.processes, dagster.pages)
        dagster.pages.start_sensor()
        yield OnTheCluster(Lab(own, registry(own)), dagster)


@pytest.fixture
def serving(cluster: OnTheCluster) -> OnTheCluster:
    """Provide it with a champion that serves; where the story was not told, version 1 becomes that first."""
    open_lab(cluster.environment)
    cluster.lab.wait_until_whole()
    return cluster


def test_the_story_of_five_versions_comes_true_on_the_cluster(cluster: OnTheCluster) -> None:
    """The verifier finds what it finds with a Dagster on one machine; each run was a job with the deployed image."""
    aliases = cluster.lab.client.get_registered_model(cluster.environment.model).aliases
    if cluster.environment.champion_alias in aliases:
        pytest.fail("the story was told here already: run this test on a new homelab")
    promote_in_turn(cluster.environment, tuple(end.version for end in FIVE_VERSIONS), print)
    findings = verify(look(cluster.environment), expected(cluster.environment, FIVE_VERSIONS, champion=2))
    assert false_claims(findings) == {}
    (deployed,) = {pod["spec"]["containers"][0]["image"] for pod in cluster.dagster.pods("code-server")}
    assert "@sha256:" in deployed
    jobs = [job["spec"]["template"]["spec"]["containers"][0]["image"] for job in cluster.dagster.jobs()]
    assert len(jobs) >= len(FIVE_VERSIONS)
    assert set(jobs) == {deployed}


def test_twenty_promotions_at_once_are_twenty_jobs_and_none_is_lost(serving: OnTheCluster) -> None:
    """Twenty versions become challengers within seconds; each becomes champion of its own model, by one commit."""
    with fleet(serving.environment, SIZE) as members:
        versions = {member.name: member.register() for member in members}
        client = registry(serving.environment)
        began = time.time()
        for member in members:
            request_promotion(member.environment, client, versions[member.name])
        most = _most_at_once(serving, lambda: all(_state(m, versions) not in _NOT_YET for m in members))
        wait_until(lambda: all(_state(m, versions) in _ENDS for m in members), _ALL_SECONDS, "all have ended")
        print(f"{SIZE} promotions ended after {time.time() - began:.0f} s; at most {most} pods of runs at once")
        assert {m.name: _state(m, versions) for m in members if _state(m, versions) != "champion"} == {}
        commits = branch(serving.environment)
        policies = {member.environment.policy: versions[member.name] for member in members}
        assert {
            policy: len(promoting(commits, policy, version)) for policy, version in policies.items()
        } == dict.fromkeys(policies, 1)


def test_an_upgrade_of_every_deployment_leaves_a_promotion_in_its_soak_alone(serving: OnTheCluster) -> None:
    """Code server, daemon and pages are replaced meanwhile; the promotion has one run, whose pod was never replaced."""
    promotion = serving.soaking()
    (job,) = [job["metadata"]["name"] for job in serving.dagster.jobs() if job.get("status", {}).get("active")]
    serving.kubectl("rollout", "restart", "deployment/code-server", "deployment/daemon", "deployment/webserver")
    for name in ("code-server", "daemon", "webserver"):
        serving.rolls_out(f"deployment/{name}")
    serving.one_commit(promotion)
    serving.dagster.reach()
    (run,) = serving.runs(promotion)
    assert job == f"dagster-run-{run['runId']}"


def test_a_daemon_that_is_killed_is_replaced(serving: OnTheCluster) -> None:
    """Its runs go on without it, and the next challenger is noticed by the next daemon."""
    promotion = serving.soaking()
    serving.delete_pods("daemon", "--grace-period=0", "--force")
    serving.one_commit(promotion)
    serving.rolls_out("deployment/daemon")
    serving.one_commit(serving.lab.promote())


def test_a_run_that_is_drained_from_its_node_is_resumed(serving: OnTheCluster) -> None:
    """Its pod gets SIGTERM as from an eviction: the next run goes on, and no person's hold is in its way."""
    promotion = serving.soaking()
    serving.delete_pods("run")
    serving.one_commit(promotion)
    assert len(serving.runs(promotion)) == 2


def test_a_run_that_is_cancelled_on_the_pages_is_held(serving: OnTheCluster) -> None:
    """The webserver's account may end the run's pod, and the version waits for the person who cancelled it."""
    promotion = serving.soaking()
    (run,) = serving.runs(promotion)
    cancel = "mutation($id: String!) { terminateRun(runId: $id) { __typename } }"
    answer = serving.environment.ask_dagster(cancel, {"id": run["runId"]})
    assert answer == {"terminateRun": {"__typename": "TerminateRunSuccess"}}
    promotion.reach("held")
    wait_until(lambda: not _active(serving), _BACK_SECONDS, "the run's pod is gone")
    decide(serving.environment, "retry", serving.environment.policy, str(promotion.version))
    serving.one_commit(promotion)


def test_postgresql_that_is_restarted_loses_no_promotion(serving: OnTheCluster) -> None:
    """Its pod is killed in mid-soak, and comes back with its volume and so with the history of runs."""
    before = serving.soaking()
    serving.delete_pods("postgresql", "--grace-period=0", "--force")
    serving.one_commit(before)
    serving.rolls_out("statefulset/postgresql")
    wait_until(lambda: _answers(lambda: serving.runs(before)), _BACK_SECONDS, "Dagster still knows the run")


def test_a_node_that_dies_with_runs_on_it_loses_no_promotion(serving: OnTheCluster) -> None:
    """The only node of the control plane is killed and started again, with everything on it; edge serves on."""
    promotion = serving.soaking()
    docker = serving.dagster.homelab.docker
    docker.run("kill", NODE)
    docker.run("start", NODE)
    wait_until(lambda: _answers(lambda: serving.kubectl("get", "pods")), _BACK_SECONDS, "the API server is back")
    serving.dagster.await_well(print)
    serving.dagster.reach()
    serving.one_commit(promotion)
    serving.lab.wait_until_whole()


def _state(member: Member, versions: Mapping[str, int]) -> str:
    client: Any = registry(member.environment)
    tags = client.get_model_version(member.environment.model, str(versions[member.name])).tags
    return str(tags.get(f"incumbent.{member.environment.policy}.state", ""))


def _most_at_once(cluster: OnTheCluster, done: Callable[[], bool]) -> int:
    """Wait until all promotions are under way, and return how many pods of runs there were at once, at most."""
    most = [0]

    def look_again() -> bool:
        most[0] = max(most[0], len(_active(cluster)))
        return done()

    wait_until(look_again, _ALL_SECONDS, f"all {SIZE} promotions are under way")
    return most[0]


def _active(cluster: OnTheCluster) -> list[str]:
    return [pod["metadata"]["name"] for pod in cluster.dagster.pods("run") if pod["status"]["phase"] == "Running"]


def _answers(ask: Callable[[], object]) -> bool:
    try:
        return bool(ask())
    except (ProblemError, OSError, KeyError):  # what was away is not back yet, or its old connections are used up first
        return False

"""wine-quality as a Rollout of Argo Rollouts on edge: its own canary first, then the gate, and each way back."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from testbeds.common.processes import wait_until
from testbeds.homelab import settings
from testbeds.homelab.controllers import bring_argo_rollouts
from testbeds.homelab.environment import HomelabEnvironment
from testbeds.story.expectation import promoting
from testbeds.story.look import branch
from testbeds.story.seen import Seen
from tests.homelab.lab import SETTLE_SECONDS, Lab, Promotion
from tests.homelab.other_workloads import NAMESPACE, Other, application, deployed, edit, text_of, wine_quality

pytestmark = pytest.mark.timeout(1200)  # the first test may have to build the controller
NAME, PORT = "wine-canary", 30812
PATH = f"manifests/applications/{NAME}/rollout.yaml"
RIGHTS = ({"apiGroups": ["argoproj.io"], "resources": ["rollouts"], "verbs": ["get"]},)
PAUSE = "- pause:\n          duration: 10s\n"
ANALYSIS = "- analysis:\n          templates:\n          - templateName: never\n"
PAUSED = "waiting: the Rollout is paused (CanaryPauseStep), which a person or its next step ends"


def manifests() -> str:
    """Return a Rollout with a canary of two steps, its Service, and an analysis that always fails."""
    deployment, service = wine_quality(NAME, PORT)
    spec = {field: deployment["spec"][field] for field in ("revisionHistoryLimit", "selector", "template")}
    canary = {"maxSurge": 1, "maxUnavailable": 0, "steps": [{"setWeight": 50}, {"pause": {"duration": "10s"}}]}
    own = {"replicas": 2, "rollbackWindow": {"revisions": 2}, "strategy": {"canary": canary}}
    rollout = {**deployment, "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "spec": {**own, **spec}}
    metric = {
        "name": "never-good",
        "provider": {"prometheus": {"address": settings.PROMETHEUS_URL, "query": "vector(1)"}},
        "successCondition": "result[0] < 1",
    }
    never = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AnalysisTemplate",
        "metadata": {"name": "never", "namespace": NAMESPACE},
        "spec": {"metrics": [metric]},
    }
    return text_of(rollout, service, never)


@dataclass(frozen=True)
class Canaries:
    """A Rollout with a champion, and the promotion that made it so."""

    lab: Lab
    first: Promotion
    seen: Seen

    def status(self) -> dict[str, Any]:
        rollout = self.lab.homelab.edge.read("rollout", NAME, NAMESPACE)
        assert rollout is not None
        return dict(rollout.get("status", {}))

    def promote_until(self, condition: Callable[[dict[str, Any]], bool], what: str) -> Promotion:
        """Promote another version, and wait until its Rollout's status meets a condition."""
        promotion = self.lab.promote()
        promotion.reach("committed")
        wait_until(lambda: condition(self.status()), SETTLE_SECONDS, what)
        return promotion

    def is_taken_back(self, promotion: Promotion, reason: str) -> None:
        """Wait for the end, and check that Git, the Rollout and the alias have the version before again."""
        outcome = promotion.end()
        assert outcome.state == "rolled_back", outcome.reason
        assert re.search(reason, outcome.reason), outcome.reason
        environment = self.lab.environment
        commits = [commit for commit in branch(environment) if commit.image is not None]
        back, promoted = commits[-1], promoting(commits, environment.policy, promotion.version)
        assert back.trailers["Rollback-Of"] == promoted[-1].trailers["Promotion-Id"]
        assert self.lab.champion() == promotion.incumbent
        self.lab.wait_until_whole()
        assert self.status()["phase"] == "Healthy"


@pytest.fixture(scope="module")
def canaries(environment: HomelabEnvironment) -> Iterator[Canaries]:
    """Install Argo Rollouts, deploy the Rollout, and make a version its champion through its canary."""
    bring_argo_rollouts(environment.homelab, print)
    other = Other("Rollout", NAME, NAME, "model-server", PATH, "wine-quality-edge", PORT, RIGHTS, {PATH: manifests()})
    kinds = (("", "Service"), ("argoproj.io", "Rollout"), ("argoproj.io", "AnalysisTemplate"))
    with deployed(environment, other, application(other, environment.git_url, kinds)) as lab:
        promotion = lab.promote()
        yield Canaries(lab, promotion, promotion.becomes_champion())


def test_a_version_becomes_champion_after_the_rollouts_own_canary(canaries: Canaries) -> None:
    """The promotion says that it waits for the pause, and judges the pods once all are new; no request is lost."""
    assert any(line.endswith(PAUSED) for line in canaries.first.said())
    assert len(canaries.seen.serving) == 2
    assert canaries.status()["phase"] == "Healthy"


def test_a_version_that_passes_its_canary_and_fails_real_requests_is_taken_back(canaries: Canaries) -> None:
    """The gate rejects what the Rollout has made stable, and its rollback window lets the way back skip the steps."""
    promotion = canaries.lab.promote({"FAULT_FAIL_EVERY": "5"})
    promotion.is_rolled_back(r"success_ratio", served=True)
    assert canaries.status()["phase"] == "Healthy"


def test_a_rollout_that_a_person_aborts_is_taken_back(canaries: Canaries) -> None:
    """Its abort counts as a verdict: Git goes back to what serves already, and the version is rejected."""
    promotion = canaries.promote_until(lambda status: status.get("phase") == "Paused", "the Rollout is paused")
    abort = ("patch", "rollout", NAME, f"--namespace={NAMESPACE}", "--subresource=status", "--type=merge")
    canaries.lab.homelab.edge.run(*abort, '--patch={"status": {"abort": true}}')  # as kubectl argo rollouts abort
    canaries.is_taken_back(promotion, r"the Rollout was aborted: Rollout aborted update to revision \d+\.")


def test_a_rollout_whose_own_analysis_fails_is_taken_back(canaries: Canaries) -> None:
    """The reason has the metric that the analysis measured, as Argo Rollouts says it."""
    environment = canaries.lab.environment
    edit(environment, PATH, PAUSE, ANALYSIS, f"Judge {NAME} by an analysis")
    try:
        canaries.lab.refresh_until(NAME, lambda: "never" in str(_steps(canaries.lab)), "the analysis is a step")
        promotion = canaries.lab.promote()
        canaries.is_taken_back(promotion, r'the Rollout was aborted: .*Metric "never-good" assessed Failed')
    finally:
        edit(environment, PATH, ANALYSIS, PAUSE, f"Judge {NAME} by a pause again")
        canaries.lab.refresh_until(NAME, lambda: "pause" in str(_steps(canaries.lab)), "the pause is a step again")


def _steps(lab: Lab) -> Any:
    rollout = lab.homelab.edge.read("rollout", NAME, NAMESPACE)
    assert rollout is not None
    return rollout["spec"]["strategy"]["canary"]["steps"]

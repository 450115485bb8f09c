"""What is live and what does not agree, told from what Git, the registry and the cluster say."""

from dataclasses import replace

import pytest

from orchestration.promotion.branch_standing import committed_promotions
from orchestration.promotion.identity import PromotionId
from orchestration.promotion.model_version import ModelVersion, policy_tags
from orchestration.promotion.policy import parse_policy
from orchestration.promotion.policy_status import (
    ClusterView,
    GitView,
    PolicyStatus,
    RegistryView,
    policy_status,
    silent_services,
)
from orchestration.promotion.ports import BranchCommit
from orchestration.promotion.problems import Problem
from tests.fakes.cluster import a_deployment, a_pod
from tests.fakes.world import POLICY_NAME, POLICY_TEXT, REPOSITORY

POLICY = parse_policy(POLICY_NAME, POLICY_TEXT)


def image_of(number: int) -> str:
    return f"{REPOSITORY}:v{number}@sha256:{number:012x}{'0' * 52}"


def git(on_branch: int, *committed: int) -> GitView:
    """The branch with versions that were committed, oldest first, and the image that it has now."""
    commits = [
        BranchCommit(
            f"commit-{number}",
            "",
            "",
            100.0 * number,
            {"Promotion-Id": str(PromotionId(POLICY_NAME, number, f"{number:012x}", 1))},
        )
        for number in reversed(committed)
    ]
    return GitView("head", image_of(on_branch), committed_promotions(commits, POLICY_NAME), ())


def version(number: int, state: str) -> ModelVersion:
    return ModelVersion("iris", number, "run", None, policy_tags(POLICY_NAME, {"state": state}))


def cluster(number: int) -> ClusterView:
    pods = (a_pod("pod", image_of(number)),)
    return ClusterView(a_deployment(image_of(number), pods, namespace="ml-apps", name="iris"), image_of(number))


def registry(champion: int, challenger: int | None = None, state: str = "requested") -> RegistryView:
    return RegistryView(version(champion, "champion"), version(challenger, state) if challenger is not None else None)


@pytest.mark.parametrize("state", ["requested", "waiting", "committed", "rejected"])
def test_a_promotion_that_is_rolled_out_is_no_disagreement(state: str) -> None:
    """From the commit on, also while the version's tags do not say so yet, the cluster and the alias may lag behind."""
    status = policy_status(POLICY, git(2, 1, 2), registry(1, 2, state), cluster(1))
    assert (status.differences, status.agrees) == ((), True)


def test_a_held_promotion_must_still_run() -> None:
    """Nobody rolls it out any more, so another image in the cluster is a difference; the alias of another is none."""
    assert policy_status(POLICY, git(2, 1, 2), registry(1, 2, "held"), cluster(2)).agrees is True
    status = policy_status(POLICY, git(2, 1, 2), registry(1, 2, "held"), cluster(1))
    assert status.differences == (f"Git has {image_of(2)}, and Deployment ml-apps/iris runs {image_of(1)}",)


@pytest.mark.parametrize("state", ["requested", "waiting", "refused", "superseded", "rolled_back"])
def test_a_challenger_that_is_not_on_the_branch_excuses_nothing(state: str) -> None:
    """A cluster that runs another image than the branch has is a difference, whoever waits."""
    assert policy_status(POLICY, git(1, 1), registry(1, 2, state), cluster(3)).agrees is False


def test_no_pods_are_a_difference() -> None:
    """A workload without an available pod serves nothing; one that is scaled to zero is left alone."""
    view = cluster(1)
    assert view.workload is not None
    none = replace(view, workload=replace(view.workload, available=0))
    assert policy_status(POLICY, git(1, 1), registry(1), none).differences == (
        "Deployment ml-apps/iris wants 1 pods, and none is available",
    )
    scaled = replace(view, workload=replace(view.workload, available=0, wanted=0))
    assert policy_status(POLICY, git(1, 1), registry(1), scaled).agrees is True
    gone = policy_status(POLICY, git(1, 1), registry(1), ClusterView(None, None))
    assert gone.differences == (f"Git has {image_of(1)}, and the cluster has no Deployment ml-apps/iris",)


def test_a_missing_champion_is_a_difference_once_something_was_promoted() -> None:
    """Before the first promotion nobody expects a champion."""
    nobody = RegistryView(None, None)
    assert policy_status(POLICY, git(1, 1), nobody, cluster(1)).differences == (
        "Git has version 1, and the alias champion of iris names no version",
    )
    assert policy_status(POLICY, git(9), nobody, cluster(9)).agrees is True


@pytest.mark.parametrize("state", [None, "superseded"])
def test_a_challenger_that_nothing_has_taken_up_says_what_would(state: str | None) -> None:
    """The sensor may be off, or there is none: nobody here can tell, so both ways on are named."""
    named = version(2, state) if state is not None else ModelVersion("iris", 2, "run", None, {})
    status = policy_status(POLICY, git(1, 1), RegistryView(version(1, "champion"), named), cluster(1))
    (found,) = status.under_way
    assert (found.version, found.state, found.since) == (2, "not requested", None)
    assert "challenger_sensor" in found.reason
    assert found.reason.endswith("incumbent register iris-edge 2")


def test_a_request_whose_run_has_not_begun_says_what_would_start_it() -> None:
    """As after `incumbent register` while the sensor is off; a retry has a reason of its own."""
    (found,) = policy_status(POLICY, git(1, 1), registry(1, 2), cluster(1)).under_way
    assert found.state == "requested"
    assert "challenger_sensor" in found.reason
    assert "materialize its partition" in found.reason
    retried = policy_tags(POLICY_NAME, {"state": "requested", "reason": "Tried again by ana: better now"})
    view = RegistryView(version(1, "champion"), ModelVersion("iris", 2, "run", None, retried))
    (again,) = policy_status(POLICY, git(1, 1), view, cluster(1)).under_way
    assert again.reason == "Tried again by ana: better now"


def test_what_is_not_known_is_not_guessed() -> None:
    """Without Git the cluster alone says what is live; without the cluster, the branch does; without both, nobody."""
    alone = policy_status(POLICY, None, registry(1), cluster(1))
    assert alone.live is not None
    assert (alone.live.image, alone.live.version, alone.live.since) == (image_of(1), None, None)
    branch = policy_status(POLICY, git(1, 1), None, None).live
    assert branch is not None
    assert (branch.version, branch.since, branch.why) == (1, 100.0, "promoted")
    assert policy_status(POLICY, None, registry(1), None).live is None


def test_while_the_registry_is_silent_git_says_what_is_under_way() -> None:
    """A committed promotion without an end in Git is shown, and its rollout is no disagreement with the cluster."""
    branch = git(2, 1, 2)
    branch = replace(branch, unfinished=branch.promotions[0])
    status = policy_status(POLICY, branch, None, cluster(1))
    assert [(found.version, found.state, found.since) for found in status.under_way] == [(2, "committed", 200.0)]
    assert status.differences == ()
    assert policy_status(POLICY, branch, registry(2), cluster(2)).under_way == ()


def test_a_silent_service_is_named_once() -> None:
    """However many policies it was asked for; two clusters are two services."""
    down = Problem("MLflow", "an answer", "none", "Start it.")
    other = replace(down, subject="cluster core")
    found = [
        PolicyStatus("a", unanswered=(("the registry", down), ("the cluster", other))),
        PolicyStatus("b", unanswered=(("the registry", replace(down, found="no answer at all")),)),
    ]
    assert [(silent.problem, silent.policies) for silent in silent_services(found)] == [
        (down, ("a", "b")),
        (other, ("a",)),
    ]

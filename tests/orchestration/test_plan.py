"""`incumbent plan` on a platform of fakes: what it foresees, and that it changes nothing."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

import pytest

from orchestration.promotion.acts import Act, ActKind
from orchestration.promotion.model_version import policy_tags
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.sensor_rules import request_tags
from orchestration.stages.plan import Outlook, Plan, plan_promotion
from tests.fakes.runs import GIT_WRITES, REGISTRY_WRITES, Saboteur, promote
from tests.fakes.world import POLICY_NAME, World


def plan(world: World, number: int | None = None) -> Plan:
    policy = world.policy(POLICY_NAME)
    return plan_promotion(world.clients(policy), policy, number, world.said.append)


def request_tags_of(world: World) -> dict[str, str]:
    return policy_tags(POLICY_NAME, request_tags(world.clock.now()))


def outlooks(found: Plan) -> Mapping[str, Outlook]:
    """How each check would end; of several rows of one check, the worst."""
    rows: dict[str, Outlook] = {}
    for check in found.checks:
        if rows.get(check.name, Outlook.PASSED) is Outlook.PASSED:
            rows[check.name] = check.outlook
    return rows


def test_a_good_version_is_foreseen_to_the_letter(world: World) -> None:
    """The plan's subject, trailers and image are those of the commit that the promotion then makes."""
    world.register()
    found = plan(world)
    assert found.would_promote
    assert found.way_back == "ghcr.io/acme/iris:before (the image before, unverified)"
    assert promote(world, 1, "run")
    made = world.git.log[0]
    assert (made.subject, made.trailers) == (found.subject, found.trailers)
    assert f"+          image: {world.image(1)}" in found.diff
    assert "-          image: ghcr.io/acme/iris:before" in found.diff


def test_a_plan_writes_nothing(world: World) -> None:
    """Neither the registry nor Git gets a single write, for a good version, a bad one and one that must wait."""
    for accuracy, publish in ((0.9, True), (0.1, True), (0.9, False)):
        world.register(accuracy, publish=publish)
        tags, leases = dict(world.git.tags), dict(world.git.leases)
        versions = deepcopy(world.registry.versions)
        saboteur = Saboteur(world, 0, after=False)
        plan(world)
        assert saboteur.count == 0, f"a write among {(*REGISTRY_WRITES, *GIT_WRITES)}"
        assert (tags, leases, versions) == (world.git.tags, world.git.leases, world.registry.versions)


def test_all_problems_are_shown_at_once(world: World) -> None:
    """A version that is bad in several ways is refused for each of them, where a promotion ends at the first."""
    world.register(0.1)
    del world.registry.aliases["iris", "challenger"]
    world.registry.artifacts.clear()
    assert world.argocd.status is not None
    world.argocd.status = replace(world.argocd.status, auto_sync=False)
    found = plan(world, 1)
    assert found.outlook is Outlook.REFUSED
    rows = outlooks(found)
    refused = {name for name, outlook in rows.items() if outlook is Outlook.REFUSED}
    assert refused == {"is_challenger", "quality", "recorded_requests_fit"}
    assert rows["dependencies_ready"] is Outlook.WAITING
    assert rows["image_published"] is Outlook.PASSED
    assert all(check.next_step for check in found.checks if check.outlook is not Outlook.PASSED)


def test_what_cannot_be_asked_says_what_it_needs(world: World) -> None:
    """Without a training run, the checks that read it are not asked, and the others are."""
    world.register()
    world.registry.runs.clear()
    rows = outlooks(plan(world, 1))
    assert rows["run_finished"] is Outlook.REFUSED
    for name in ("quality", "recorded_requests_fit", "image_published"):
        assert rows[name] is Outlook.NOT_ASKED
    assert rows["dependencies_ready"] is Outlook.PASSED


def test_an_image_that_is_still_to_come_is_waited_for_by_the_promotion_alone(world: World) -> None:
    """The plan says that the promotion would wait, and does not wait itself."""
    world.register(publish=False)
    assert outlooks(plan(world))["image_published"] is Outlook.WAITING
    assert world.clock.slept == []
    world.registry.write_tags(world.registry.versions["iris", 1], request_tags_of(world))
    world.clock.sleep(31)
    assert outlooks(plan(world))["image_published"] is Outlook.REFUSED


def test_a_silent_dependency_leaves_the_rest_of_the_plan(world: World) -> None:
    """When Prometheus or Git does not answer, this is said, and all other checks are still asked."""
    world.register()
    world.metrics.down = Problem("Prometheus", "an answer", "none", "Start it.")
    found = plan(world)
    assert found.outlook is Outlook.UNANSWERED
    assert found.diff
    assert [check.outlook for check in found.checks].count(Outlook.UNANSWERED) == 1
    world.metrics.down = None
    world.git.down = "no route"
    found = plan(world)
    assert found.outlook is Outlook.UNANSWERED
    assert found.subject is None
    assert outlooks(found)["quality"] is Outlook.PASSED


def test_the_queries_are_asked_about_the_pods_that_serve_now(world: World) -> None:
    """Each of the gate's queries is shown as it would be asked, with its value, or with why there is none."""
    world.register()
    found = plan(world)
    assert len(found.pods) == 2
    values = {(answer.asked.name, answer.asked.source): answer.value for answer in found.queries}
    expected = {("requests", "real"): 0.0, ("requests", "replayed"): 100.0, ("restarts", "pods"): 0.0}
    assert values == {**expected, ("success_ratio", "real|replayed"): 1.0}
    assert all(pod in answer.asked.query for pod in found.pods for answer in found.queries if answer.asked.query)
    world.metrics.script = {"ratio_of": float("nan")}
    findings = {answer.asked.name: answer.finding for answer in plan(world).queries}
    assert findings["requests"] == "no data for these pods"
    assert findings["success_ratio"].startswith("NaN")


def test_what_is_under_way_is_said(world: World) -> None:
    """A hold, another run's lease and a version whose promotion is committed are all named."""
    world.register()
    saboteur = Saboteur(world, 4, after=True)
    assert not promote(world, 1, "run-of-1")
    saboteur.revive()
    world.register()
    world.git.record_act(Act(POLICY_NAME, ActKind.HOLD, world.clock.now(), "mo", "the fair is on"))
    found = plan(world, 2)
    said = " ".join(found.under_way)
    assert "a hold by mo since" in said
    assert "run run-of-1 holding it" in said
    assert not found.would_promote
    assert {outlooks(found)[name] for name in ("allowed", "lease")} == {Outlook.WAITING}


def test_a_version_on_the_branch_is_not_planned_again(world: World) -> None:
    """The champion's plan has no commit, and nothing stands in its way."""
    world.register()
    promote(world, 1, "run")
    assert world.champion == 1
    found = plan(world)
    assert found.would_promote
    assert found.subject is None


def test_without_a_challenger_a_version_must_be_named(world: World) -> None:
    """The error says how to name one; a version that does not exist is refused, too."""
    with pytest.raises(InvalidInputError, match="incumbent plan iris-edge VERSION"):
        plan(world)
    with pytest.raises(InvalidInputError, match="version 9 of iris"):
        plan(world, 9)

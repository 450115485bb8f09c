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
    world.register()
    assert promote(world, 1, "run")
    world.register(0.1)
    world.registry.set_alias(world.registry.versions["iris", 2], "champion")
    world.registry.artifacts.clear()
    assert world.argocd.status is not None
    world.argocd.status = replace(world.argocd.status, auto_sync=False)
    found = plan(world)
    assert found.outlook is Outlook.REFUSED
    rows = outlooks(found)
    refused = {name for name, outlook in rows.items() if outlook is Outlook.REFUSED}
    assert refused == {"is_challenger", "quality", "recorded_requests_fit"}
    assert rows["dependencies_ready"] is Outlook.WAITING
    assert rows["image_published"] is Outlook.PASSED
    assert all(check.next_step for check in found.checks if check.outlook is not Outlook.PASSED)


def notes(found: Plan) -> list[tuple[str, str]]:
    return [(check.finding, check.next_step) for check in found.checks if check.outlook is Outlook.NOTE]


@pytest.mark.parametrize(
    ("alias", "noted"), [(None, "alias challenger is not set"), (2, "alias challenger names version 2")]
)
def test_a_version_without_the_alias_is_planned_as_if_it_had_it(world: World, alias: int | None, noted: str) -> None:
    """That the alias is elsewhere is a note; all else is judged, to the commit that the alias would lead to."""
    for _ in range(2):
        world.register()
    del world.registry.aliases["iris", "challenger"]
    if alias is not None:
        world.registry.set_alias(world.registry.versions["iris", alias], "challenger")
    found = plan(world, 1)
    ((finding, next_step),) = notes(found)
    assert finding == f"{noted}; the rest is what would happen if it named this version"
    assert next_step == "To set it: incumbent register iris-edge 1."
    assert found.would_promote
    world.registry.set_alias(world.registry.versions["iris", 1], "challenger")
    assert notes(plan(world, 1)) == []
    assert promote(world, 1, "run")
    made = world.git.log[0]
    assert (made.subject, made.trailers) == (found.subject, found.trailers)


def test_a_version_that_the_alias_would_not_help_is_foreseen_as_refused(world: World) -> None:
    """One older than the champion, a bad one, and one that was rolled back say what would end them."""
    for accuracy in (0.9, 0.95, 0.1, 0.99):
        world.register(accuracy)
    assert promote(world, 4, "run")
    old, bad = plan(world, 2), plan(world, 3)
    assert (outlooks(old)["is_challenger"], old.outlook) == (Outlook.NOTE, Outlook.REFUSED)
    assert "a version older than the champion" in " ".join(check.finding for check in old.checks)
    assert outlooks(bad)["quality"] is Outlook.REFUSED
    world.register(0.99)
    world.bad_images.add(world.image(5))
    assert promote(world, 5, "run")
    world.register(0.99)
    assert plan(world, 5).outlook is Outlook.REFUSED
    waits = world.register(0.99, publish=False).version
    world.register(0.99)
    assert plan(world, waits).outlook is Outlook.WAITING


def test_what_cannot_be_asked_says_what_it_needs(world: World) -> None:
    """Without a training run, the checks that read it are not asked, and the others are."""
    world.register()
    world.registry.runs.clear()
    rows = outlooks(plan(world, 1))
    assert rows["run_finished"] is Outlook.REFUSED
    for name in ("quality", "recorded_requests_fit", "image_published", "image_signed"):
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


def test_a_server_that_takes_no_pushes_is_foreseen(world: World) -> None:
    """As far as it tells before anything is sent, such as that it takes no atomic ones."""
    world.register()
    world.git.push_forbidden = "no atomic pushes"
    found = plan(world)
    assert found.outlook is Outlook.UNANSWERED
    assert outlooks(found)["server_takes_pushes"] is Outlook.UNANSWERED


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


def test_a_presets_queries_are_shown_as_they_are_asked(world: World) -> None:
    """They are nowhere in the policy's file; with counters that do not tell, there is one count of requests."""
    text = world.policies[POLICY_NAME]
    gate = "\ngate: {metrics: kserve, slos: [{name: success_ratio, no_worse_than_live: 1%}]}\n"
    world.policies[POLICY_NAME] = text[: text.index("\ngate:")] + gate
    world.register()
    requests, ratio = (answer.asked for answer in plan(world).queries)
    assert (requests.name, requests.source, ratio.source) == ("requests", "", "")
    assert "request_preprocess_seconds_count{" in requests.query
    assert "$" not in requests.query + ratio.query
    assert ratio.bound == "at most 1% worse than before"


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
    assert "on application iris: run run-of-1 at work, with the lease until " in said
    assert not found.would_promote
    assert {outlooks(found)[name] for name in ("allowed", "lease")} == {Outlook.WAITING}


def test_a_version_on_the_branch_is_not_planned_again(world: World) -> None:
    """The champion's plan has no commit, and nothing stands in its way, also when another version is challenger."""
    world.register()
    promote(world, 1, "run")
    assert world.champion == 1
    for number in (None, 1):
        found = plan(world, number)
        assert found.would_promote
        assert found.subject is None
        assert notes(found) == []
        world.register()


def test_without_a_challenger_a_version_must_be_named(world: World) -> None:
    """The error says how to name one; a version that does not exist is refused, too."""
    with pytest.raises(InvalidInputError, match="incumbent plan iris-edge VERSION"):
        plan(world)
    with pytest.raises(InvalidInputError, match="version 9 of iris"):
        plan(world, 9)

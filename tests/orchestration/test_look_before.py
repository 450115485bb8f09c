"""What the stage `manifest_commit` looks at before it commits: what cannot be judged is never committed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestration.promotion.cluster_status import ApplicationSource
from orchestration.promotion.ports import Answer, QueryRejected, QueryResult
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.state import State
from orchestration.stages.plan import Outlook, plan_promotion
from tests.fakes.runs import promote
from tests.fakes.world import POLICY_NAME, World

COUNT = "max_over_time(count_over_time(up"


@pytest.fixture
def served() -> World:
    """A world in which version 1 is champion, and version 2 the challenger."""
    world = World()
    world.register()
    assert promote(world, 1, "first")
    assert world.champion == 1
    world.register()
    return world


def change_application(world: World, **changes: Any) -> None:
    """Have Argo CD show an Application with these fields, whatever it compares."""
    reconcile = world.reconcile

    def reconciled() -> None:
        reconcile()
        assert world.argocd.status is not None
        world.argocd.status = replace(world.argocd.status, **changes)

    world.reconcile = reconciled  # type: ignore[method-assign]
    world.reconcile()


def change_source(world: World, **changes: Any) -> None:
    status = world.argocd.status
    assert status is not None
    assert status.source is not None
    change_application(world, source=replace(status.source, **changes))


def change_workload(world: World, **changes: Any) -> None:
    assert world.cluster.status is not None
    world.cluster.status = replace(world.cluster.status, **changes)


def rename_workload(world: World) -> None:
    """What Kustomize's namePrefix does: the cluster has another name than the file and the policy."""
    change_application(world, resources=(("Deployment", "ml-apps", "prod-iris"),))
    change_workload(world, name="prod-iris")


def _not_synced_yet(world: World) -> None:
    change_application(world, resources=())
    world.cluster.status = None


def answer(world: World, status: int, body: bytes = b"no") -> None:
    world.cluster.respond = lambda *_: Answer(status, body, 0.01)


def outcome(world: World, number: int = 2) -> tuple[State | None, str]:
    """How a promotion ends that makes no commit, and why."""
    head = world.git.head
    promote(world, number, "looking")
    assert world.git.head == head, "nothing is committed"
    return world.state(number), world.reason(number)


FAULTS: dict[str, tuple[Callable[[World], object], State, str]] = {
    "another workload": (rename_workload, State.REFUSED, "set manifest.name: prod-iris"),
    "no workload yet": (_not_synced_yet, State.WAITING, "for the first time"),
    "a kind that cannot be read": (
        lambda w: setattr(w.cluster, "workload", _unreadable),
        State.REFUSED,
        "Correct manifest.kind",
    ),
    "another container": (
        lambda w: change_workload(w, images={"server": "x"}),
        State.REFUSED,
        "manifest.container",
    ),
    "no replicas": (lambda w: change_workload(w, wanted=0), State.WAITING, "Give it a replica"),
    "another branch": (
        lambda w: change_source(w, revision="prod"),
        State.REFUSED,
        "Set INCUMBENT_GIT_BRANCH to the branch that Argo CD follows",
    ),
    "another folder": (
        lambda w: change_source(w, path="elsewhere"),
        State.REFUSED,
        "a source that builds apps/iris.yaml",
    ),
    "an image in the Application": (
        lambda w: change_source(w, kustomize_images=("ghcr.io/acme/iris:v0",)),
        State.REFUSED,
        "Remove spec.source.kustomize.images[0]",
    ),
    "an image from elsewhere": (
        lambda w: change_workload(w, images={"model-server": "ghcr.io/acme/iris:x"}),
        State.WAITING,
        "Something else sets the image",
    ),
    "a manifest that a rule denies": (
        lambda w: w.cluster.deny("images must come from elsewhere", of=w.image(2)),
        State.REFUSED,
        "found in a dry run: images must come from elsewhere",
    ),
    "a query with a typing error": (
        lambda w: w.metrics.script.update({"ratio_of": QueryRejected("parse error")}),
        State.REFUSED,
        "Correct SLO success_ratio in iris-edge.yaml",
    ),
    "a query without data": (
        lambda w: w.metrics.script.update({"ratio_of": QueryResult(())}),
        State.REFUSED,
        "no data for these pods",
    ),
    "rare scrapes": (
        lambda w: w.metrics.script.update({COUNT: dict.fromkeys(_pods(w), 2.0)}),
        State.REFUSED,
        "expected 3 scrapes within a soak of 60 s, found 2 of them at most",
    ),
    "another path": (lambda w: answer(w, 404), State.REFUSED, "there is no such path"),
    "a server that is down": (lambda w: answer(w, 503), State.WAITING, "goes on by itself when they answer"),
    "a silent Prometheus": (
        lambda w: setattr(w.metrics, "query", _down),
        State.WAITING,
        "Start it",
    ),
}


def _pods(world: World) -> list[str]:
    return [pod.name for pod in world.cluster.status.pods] if world.cluster.status else []


def _unreadable(*_: object) -> None:
    raise InvalidInputError(Problem("Job ml-apps/iris", "a kind that serves", "a Job", "Correct manifest.kind."))


def _down(*_: object) -> QueryResult:
    raise DependencyError(Problem("Prometheus", "an answer", "none", "Start it."))


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_committed_that_cannot_be_judged(served: World, fault: str) -> None:
    """Each fault ends the promotion before its commit, with one line that says what to do, as the plan foresees."""
    put_wrong, state, said = FAULTS[fault]
    put_wrong(served)
    policy = served.policy(POLICY_NAME)
    foreseen = plan_promotion(served.clients(policy), policy, 2, served.said.append)
    expected = {Outlook.UNANSWERED} if fault == "a silent Prometheus" else {Outlook.REFUSED, Outlook.WAITING}
    assert foreseen.outlook in expected
    assert any(said in f"{check.finding} {check.next_step}" for check in foreseen.checks)
    assert outcome(served) == (state, served.reason(2))
    assert said in served.reason(2)
    assert served.champion == 1


def test_what_was_waited_for_goes_on_by_itself(served: World) -> None:
    """Once the server answers again, the next run commits and promotes, without anybody's retry."""
    respond = served.cluster.respond
    answer(served, 503)
    assert outcome(served)[0] is State.WAITING
    served.cluster.respond = respond
    assert promote(served, 2, "next")
    assert served.champion == 2


def test_a_champion_that_answers_otherwise_is_replaced(served: World) -> None:
    """A wrong answer of what serves now blocks nothing: the promotion may be its cure."""
    respond, old = served.cluster.respond, set(_pods(served))
    served.cluster.respond = lambda pod, *asked: (
        Answer(200, b'{"prediction": 99}', 0.01) if pod in old else respond(pod, *asked)
    )
    assert promote(served, 2, "cure")
    assert served.champion == 2


def test_a_baseline_without_metrics_does_not_block_the_first_promotion() -> None:
    """What was there before the first promotion need neither have the gate's metrics nor answer any request."""
    world = World()
    world.register()
    right = world.cluster.respond
    world.metrics.script = {}
    answer(world, 404)

    def roll_out(_: str) -> None:
        world.reconcile()
        world.cluster.respond = right

    world.argocd.on_refresh = roll_out
    assert promote(world, 1, "first")
    assert world.champion == 1


def test_an_application_with_several_sources_is_rolled_out_by_ours() -> None:
    """The chart is elsewhere, the values are ours: the commit of our source is the one that is waited for."""
    world = World()
    world.register()
    reconcile, address = world.reconcile, world.git.address()
    chart = ApplicationSource("https://charts.example", "1.2.3", "", chart="model", value_files=("$v/apps/iris.yaml",))
    ours = ApplicationSource(address.url, address.branch, "", ref="v")

    def reconciled() -> None:
        reconcile()
        revisions = (None, world.git.head)
        assert world.argocd.status is not None
        world.argocd.status = replace(
            world.argocd.status,
            source=None,
            sources=(chart, ours),
            sync_revision=None,
            operation_revision=None,
            sync_revisions=revisions,
            operation_revisions=revisions,
        )

    world.argocd.on_refresh = lambda _: reconciled()
    reconciled()
    assert promote(world, 1, "first")
    assert world.champion == 1


def test_looking_costs_the_same_however_much_there_is(served: World) -> None:
    """Each thing is asked once for one promotion, however many versions, pods and recorded requests there are."""
    calls: dict[str, int] = {}

    def count(port: Any, name: str) -> None:
        real = getattr(port, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            calls[name] = calls.get(name, 0) + 1
            return real(*arguments, **named)

        setattr(port, name, counted)

    for _ in range(5):
        served.register()
    served.scale(True, True, True, True)
    served.metrics.script[COUNT] = dict.fromkeys(_pods(served), 9.0)
    for port, name in (
        (served.argocd, "application"),
        (served.cluster, "workload"),
        (served.cluster, "may"),
        (served.cluster, "try_to_apply"),
        (served.cluster, "ask_pod"),
        (served.service, "ask"),
        (served.metrics, "query"),
    ):
        count(port, name)
    served.git.before_push.append(lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        promote(served, 7, "stops at its push")
    looks = {"application": 1, "workload": 1, "may": 1, "try_to_apply": 1}
    assert calls == {**looks, "ask_pod": 2, "ask": 2, "query": 4}

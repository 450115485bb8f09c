"""Before the commit: whether the API server would apply what is committed, by a dry run or by its schema."""

import copy
from typing import Any

import pytest

from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.state import State
from orchestration.stages.plan import plan_promotion
from tests.fakes.runs import promote
from tests.fakes.world import POLICY_NAME, World
from tests.orchestration.test_look_before import change_application, change_source, outcome
from tests.promotion.test_manifest_schema import SCHEMAS

PATCH = "patch deployments.apps in namespace ml-apps"
SELECTOR = "spec: the field 'selector' is missing"
"""What is wrong with the world's manifest by the schema: no real cluster would take it."""
DOWN = Problem("Kubernetes API", "an answer", "HTTP 500: failed calling webhook", "Start it.")


@pytest.fixture
def challenged() -> World:
    """A world with a challenger, and a cluster that publishes its schemas."""
    world = World()
    world.register()
    world.cluster.published = {"apps/v1": SCHEMAS}
    return world


def row(world: World, number: int = 1) -> str:
    """What a plan says of the manifest."""
    policy = world.policy(POLICY_NAME)
    found = plan_promotion(world.clients(policy), policy, number, world.said.append)
    (finding,) = (
        check.finding for check in found.checks if check.finding.startswith(("manifest: ", "apps/iris.yaml: "))
    )
    return finding


def test_a_dry_run_is_of_what_would_be_committed(challenged: World) -> None:
    """With the new image, and the names that the cluster knows; its refusal is the version's."""
    assert promote(challenged, 1, "first")
    ((document, server_side),) = challenged.cluster.tried
    assert document["spec"]["template"]["spec"]["containers"][0]["image"] == challenged.image(1)
    assert document["metadata"] == {"name": "iris", "namespace": "ml-apps"}
    assert not server_side
    challenged.register()
    challenged.cluster.deny("images must come from ghcr.io/other", of=challenged.image(2))
    assert outcome(challenged) == (State.REFUSED, challenged.reason(2))
    assert "found in a dry run: images must come from ghcr.io/other" in challenged.reason(2)
    assert "Correct apps/iris.yaml, or meet the rule that denies it" in challenged.reason(2)


def test_a_refusal_of_what_runs_says_nothing_about_the_version(challenged: World) -> None:
    """Admission may deny to this account what it lets Argo CD do, and a webhook may know no dry runs."""
    challenged.cluster.deny("only Argo CD may change this")
    said = row(challenged)
    assert "a dry run refuses what Argo CD has applied: only Argo CD may change this" in said
    assert promote(challenged, 1, "first")
    assert challenged.champion == 1


def test_without_the_right_to_patch_the_schema_decides(challenged: World) -> None:
    """Nothing is tried then, and the reason has the field's path."""
    challenged.cluster.denied = {PATCH}
    change_application(challenged, sync_status="OutOfSync")
    assert outcome(challenged, 1) == (State.REFUSED, challenged.reason(1))
    assert f"valid by the schema of apps/v1, found {SELECTOR}. Correct apps/iris.yaml" in challenged.reason(1)
    assert challenged.cluster.tried == []


def test_what_argo_cd_has_applied_is_not_wrong(challenged: World) -> None:
    """A webhook may have filled in what is missing, so the schema counts for what is new alone."""
    challenged.cluster.denied = {PATCH}
    assert f"applied by Argo CD in spite of {SELECTOR} by the schema of apps/v1" in row(challenged)
    assert promote(challenged, 1, "first")


def test_a_file_that_is_not_synced_is_not_tried_on_top_of_another_one(challenged: World) -> None:
    """A dry run would have fields of what is there now, so the schema decides."""
    change_application(challenged, sync_status="OutOfSync")
    assert SELECTOR in outcome(challenged, 1)[1]
    assert challenged.cluster.tried == []


def test_a_person_who_changed_the_file_since_is_no_dry_run_either(challenged: World) -> None:
    """Argo CD is Synced, at a commit whose file is another one."""
    synced = challenged.git.head
    content = challenged.git.read_file(synced, "apps/iris.yaml")
    assert content is not None
    challenged.git.commit("Say more", {"apps/iris.yaml": content + b"# more\n"})
    change_application(challenged, sync_revision=synced)
    assert SELECTOR in row(challenged)
    assert challenged.cluster.tried == []


def _no_answer(*_: Any, **__: Any) -> str | None:
    raise DependencyError(DOWN)


def test_what_cannot_be_decoded_is_told_by_the_schema(challenged: World) -> None:
    """An API server answers 500 to it, as it does when a webhook is down; that one is waited for."""
    short = copy.deepcopy(SCHEMAS)
    short["io.k8s.api.core.v1.Container"]["properties"]["image"]["maxLength"] = 1
    challenged.cluster.published = {"apps/v1": short}
    challenged.cluster.try_to_apply = _no_answer  # type: ignore[method-assign]
    assert outcome(challenged, 1) == (State.REFUSED, challenged.reason(1))
    assert "containers[0].image: " in challenged.reason(1)
    challenged.register()
    del challenged.cluster.published["apps/v1"]
    assert outcome(challenged) == (State.WAITING, challenged.reason(2))
    assert "failed calling webhook" in challenged.reason(2)


@pytest.mark.parametrize(
    ("api", "published", "said"),
    [
        ("apps/v1", {}, "not checked: the account may not patch"),
        ("extensions/v1beta1", {"apps/v1": SCHEMAS}, "such as apps/v1, found apiVersion: extensions/v1beta1"),
        ("extensions/v1beta1", {}, "the API server publishes no schema of it"),
        ("apps/v1", {"apps/v1": {}}, "not checked: the account may not patch"),
        ("apps/v2", {"apps/v1": SCHEMAS, "apps/v2": {}}, "found apiVersion: apps/v2, which has no Deployment there"),
    ],
)
def test_an_api_that_is_not_there_is_told_from_one_that_nobody_describes(
    challenged: World, api: str, published: dict[str, Any], said: str
) -> None:
    """Only where schemas are published at all does a missing one mean something."""
    content = challenged.git.read_file(challenged.git.head, "apps/iris.yaml")
    assert content is not None
    challenged.git.commit("Change it", {"apps/iris.yaml": content.replace(b"apps/v1", api.encode())})
    challenged.reconcile()
    challenged.cluster.denied, challenged.cluster.published = {PATCH}, published
    assert said in row(challenged)


def test_what_helm_renders_is_not_checked_and_does_not_block(challenged: World) -> None:
    """The file is none that the API server ever sees; `incumbent plan` says so."""
    change_source(challenged, has_plugin=True)
    assert row(challenged).startswith("manifest: not checked: a plugin")
    change_application(challenged, source_type="Helm")
    assert row(challenged) == "manifest: not checked: Helm renders it"
    assert promote(challenged, 1, "first")
    assert challenged.champion == 1
    assert challenged.cluster.tried == []


@pytest.mark.parametrize(
    ("everywhere", "option", "server_side"),
    [
        (False, "", False),
        (True, "", True),
        (False, "ServerSideApply=true", True),
        (True, "ServerSideApply=false", False),
    ],
)
def test_a_dry_run_applies_as_argo_cd_does(challenged: World, everywhere: bool, option: str, server_side: bool) -> None:
    """Server-side apply may be set for all of an Application, and for or against it for one object."""
    change_application(challenged, applies_server_side=everywhere)
    edit(
        challenged,
        b"name: iris",
        b"annotations: {argocd.argoproj.io/sync-options: 'Prune=false, %s'}, name: iris" % option.encode(),
    )
    assert "a dry run of the API server of edge applies it" in row(challenged)
    assert [each for _, each in challenged.cluster.tried] == [server_side]


@pytest.mark.parametrize("server_side", [False, True])
def test_unknown_fields_are_wrong_for_a_server_side_apply_alone(challenged: World, server_side: bool) -> None:
    """Argo CD's patch does not ask the API server to refuse them, so that they are dropped, and named here."""
    change_application(challenged, sync_status="OutOfSync", applies_server_side=server_side)
    edit(challenged, b"spec:\n", b"spec:\n  selector: {matchLabels: {app: iris}}\n  replica: 2\n")
    unknown = "spec: the field 'replica' is unknown"
    said = row(challenged)
    if server_side:
        assert said.startswith("apps/iris.yaml: ")
        assert f"found {unknown}" in said
    else:
        assert f"valid by the schema of apps/v1 but for what is dropped ({unknown})" in said


def edit(world: World, old: bytes, new: bytes) -> None:
    """Commit the manifest with one text in place of another, and have Argo CD sync it."""
    content = world.git.read_file(world.git.head, "apps/iris.yaml")
    assert content is not None
    world.git.commit("Change it", {"apps/iris.yaml": content.replace(old, new, 1)})
    world.reconcile()


def test_a_look_at_the_manifest_takes_two_requests(challenged: World) -> None:
    """The question about the right, and the dry run or the schema."""
    asked: list[str] = []

    def count(name: str) -> None:
        real = getattr(challenged.cluster, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            asked.append(name)
            return real(*arguments, **named)

        setattr(challenged.cluster, name, counted)

    for name in ("may", "try_to_apply", "schemas"):
        count(name)
    row(challenged)
    challenged.cluster.denied = {PATCH}
    row(challenged)
    assert asked == ["may", "try_to_apply", "may", "schemas"]

"""The asset graph on a platform of fakes: each story of a promotion, and what must not happen in it."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from orchestration.promotion.model_version import TrainingRun, tag_key
from orchestration.promotion.ports import LeaseRecord
from orchestration.promotion.recorded_requests import RECORDING_PATH
from orchestration.promotion.state import State
from orchestration.stages.pipeline import STAGES
from tests.fakes.cluster import an_application
from tests.fakes.runs import promote, run_stages
from tests.fakes.world import POLICY_NAME, REPOSITORY, World, materialize


def failure(result: dg.ExecuteInProcessResult) -> str:
    """The reason that a person reads on the failed run's page."""
    events = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    assert len(events) == 1, "one stage failed"
    data = events[0].step_failure_data
    assert data.user_failure_data is not None, data.error
    return data.user_failure_data.description or ""


def test_a_good_version_becomes_champion(world: World, instance: dg.DagsterInstance) -> None:
    """One commit, evidence, an annotated tag and the alias, with all checks passed."""
    world.register()
    result = materialize(world, 1, instance)
    assert result.success
    assert world.champion == 1
    assert world.state(1) is State.CHAMPION
    assert world.subjects == ["Promote iris-edge to version 1"]
    assert world.live_image == world.image(1)
    checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert checks.keys() == {check for stage in STAGES for check in stage.checks}
    assert all(checks.values())
    tag = world.git.tags["incumbent/iris-edge/1-1"]
    evidence = json.loads(world.registry.artifacts["run1", "incumbent/iris-edge/1-1.json"])
    assert evidence["verdict"] == "Passed"
    assert "Evidence-Digest: sha256:" in tag.message
    assert world.git.leases == {}


def test_each_stage_looks_at_the_branch_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A good promotion fetches and reads the history once per stage, and once more for its one push.

    What people decided is read by the stage that commits alone: once, and once more for its push. The evidence's tag is
    looked for by the last stage, and that of the champion before by the one that commits.
    """
    for number in (1, 2):
        world.register()
        with monkeypatch.context() as patched:
            calls: Counter[str] = Counter()
            for name in ("fetch", "history", "push_edit", "tags_below", "tag"):
                patched.setattr(world.git, name, counted(calls, name, getattr(world.git, name)))
            assert run_stages(world, number).success
        looks = len(STAGES) + 1
        assert calls == {"fetch": looks, "history": looks, "push_edit": 1, "tags_below": 2, "tag": number}


def counted(calls: Counter[str], name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def counting(*arguments: Any) -> Any:
        calls[name] += 1
        return method(*arguments)

    return counting


def test_running_it_again_makes_no_second_commit(world: World) -> None:
    """A champion that is materialized again is checked again, and nothing is committed or tagged."""
    world.register()
    assert run_stages(world, 1).success
    assert run_stages(world, 1).success
    assert world.subjects == ["Promote iris-edge to version 1"]
    assert len(world.git.tags) == 1


def test_a_broken_slo_is_rolled_back_in_the_same_run(world: World, instance: dg.DagsterInstance) -> None:
    """The gate stops it, the champion's image is back by a commit, and the alias has not moved."""
    world.register()
    materialize(world, 1, instance)
    world.register()
    world.bad_images.add(world.image(2))
    result = materialize(world, 2, instance)
    assert not result.success
    assert world.champion == 1
    assert world.state(2) is State.ROLLED_BACK
    assert world.subjects[-1] == "Roll back iris-edge from version 2 to version 1"
    assert world.live_image == world.image(1)
    assert "success_ratio" in failure(result)
    assert "success_ratio" in world.reason(2)


def test_a_crash_is_rolled_back_with_its_last_words(world: World) -> None:
    """A pod that crashes is the model's fault; the reason holds the exit code and the log's last lines."""
    world.register()
    world.crashing_images.add(world.image(1))
    result = run_stages(world, 1)
    assert world.state(1) is State.ROLLED_BACK
    assert world.live_image == f"{REPOSITORY}:before"
    assert "KeyError: 'model'" in result.failure
    assert world.champion is None


def test_a_rejected_version_never_comes_back_by_itself(world: World) -> None:
    """Whatever is materialized afterwards, with its tags or without them, commits nothing."""
    world.register()
    world.bad_images.add(world.image(1))
    run_stages(world, 1)
    commits = len(world.git.log)
    for selection in (None, ["manifest_commit"], ["rollout"], ["serving_model"]):
        assert not run_stages(world, 1, selection).success
    world.registry.write_tags(
        world.registry.versions["iris", 1], {tag_key(POLICY_NAME, name): "" for name in ("state", "attempt")}
    )
    world.bad_images.clear()
    assert not run_stages(world, 1).success
    assert len(world.git.log) == commits
    assert world.champion is None


def test_worse_than_the_champion_is_refused_before_any_commit(world: World) -> None:
    """On the same data a lower metric is refused, with both numbers in the reason."""
    world.register(0.95)
    run_stages(world, 1)
    world.register(0.90)
    result = run_stages(world, 2)
    assert world.state(2) is State.REFUSED
    assert len(world.subjects) == 1
    assert "0.9" in result.failure
    assert "0.95" in result.failure


def test_incomparable_with_the_champion_is_refused(world: World) -> None:
    """Metrics measured on other data say nothing; the reason has the lines that would log the data."""
    world.register(0.95)
    run_stages(world, 1)
    world.register(0.99, dataset="other")
    assert "mlflow.log_input" in run_stages(world, 2).failure
    assert world.state(2) is State.REFUSED


def test_a_champion_without_its_run_is_incomparable(world: World) -> None:
    """A champion whose metrics are lost cannot be compared with, so nothing is promoted over it."""
    world.register(0.95)
    run_stages(world, 1)
    del world.registry.runs["run1"]
    world.register(0.99)
    assert "its training run" in run_stages(world, 2).failure
    assert world.state(2) is State.REFUSED


def test_a_crash_while_the_registry_is_down_is_not_the_models_fault(world: World) -> None:
    """A server that cannot load its model crashes; with the registry down that is held, not rejected."""
    world.register()
    run_stages(world, 1, ["promotion_candidate", "manifest_commit"])
    world.crashing_images.add(world.image(1))
    world.registry.ping = _down  # type: ignore[method-assign]
    assert not run_stages(world, 1, ["rollout"]).success
    assert world.state(1) is State.HELD
    assert world.live_image == world.image(1)


@pytest.mark.parametrize("call", ["model_location", "artifact"])
def test_a_crash_while_the_artifact_store_is_down_is_not_the_models_fault(
    world: World, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """MLflow answers without its artifact store, whether that lists no files or lists them and does not give them."""
    world.register()
    run_stages(world, 1, ["promotion_candidate", "manifest_commit"])
    world.crashing_images.add(world.image(1))
    with monkeypatch.context() as store:
        store.setattr(world.registry, call, lambda *_: _down())
        assert not run_stages(world, 1, ["rollout"]).success
    assert world.state(1) is State.HELD
    assert world.live_image == world.image(1)
    world.crashing_images.clear()
    world.reconcile()
    assert run_stages(world, 1).success
    assert world.champion == 1


def test_a_crash_is_not_the_models_fault_while_its_files_are_gone(world: World) -> None:
    """An artifact store that is not mounted looks like one without the files, which were there before the commit."""
    world.register()
    run_stages(world, 1, ["promotion_candidate", "manifest_commit"])
    world.crashing_images.add(world.image(1))
    world.registry.locations["iris", 1] = None
    assert not run_stages(world, 1, ["rollout"]).success
    assert world.state(1) is State.HELD
    assert "no files of it in the artifact store. Bring the artifact store back." in world.reason(1)


def _down(*_: object) -> None:
    from orchestration.promotion.problems import DependencyError
    from tests.fakes.cluster import DOWN

    raise DependencyError(DOWN)


def test_an_image_that_is_published_in_time_is_waited_for(world: World) -> None:
    """The wait holds no lease, and the promotion goes on when the image is there."""
    world.register(publish=False)
    seen: list[object] = []

    def publish() -> None:
        seen.append(dict(world.git.leases))
        world.images.publish(REPOSITORY, "v1", {"MODEL_URI": "models:/iris/1"})

    world.clock.after(10, publish)
    assert run_stages(world, 1, ["promotion_candidate"]).success
    assert seen == [{}]
    assert world.state(1) is State.WAITING


def test_an_image_that_is_never_published_is_refused(world: World) -> None:
    """After the deadline the version is refused before any commit."""
    world.register(publish=False)
    run_stages(world, 1)
    assert world.state(1) is State.REFUSED
    assert world.subjects == []


def test_a_newer_challenger_supersedes_one_that_waits(world: World) -> None:
    """The alias is looked at again while waiting, and nothing is committed for the version that lost it."""
    world.register(publish=False)
    world.clock.after(4, world.register)
    result = run_stages(world, 1)
    assert world.state(1) is State.SUPERSEDED
    assert world.subjects == []
    assert "version 2" in result.failure


@pytest.mark.parametrize("stage", ["manifest_commit", "rollout", "serving_model"])
def test_selecting_a_stage_alone_bypasses_nothing(world: World, stage: str) -> None:
    """A failed run's version is refused by each stage on its own."""
    world.register()
    world.registry.add_run(TrainingRun("run1", "FAILED", {"accuracy": 0.9}))
    assert not run_stages(world, 1, [stage]).success
    assert world.subjects == []
    assert world.champion is None


def test_an_image_of_another_version_is_refused(world: World) -> None:
    """An image that says it serves another version would promote nothing."""
    world.register(publish=False)
    world.images.publish(REPOSITORY, "v1", {"MODEL_URI": "models:/iris/9"})
    assert "models:/iris/9" in run_stages(world, 1).failure
    assert world.state(1) is State.REFUSED


def test_a_dead_cluster_blocks_the_commit(world: World) -> None:
    """While the cluster does not answer, nothing is committed and the promotion waits."""
    from tests.fakes.cluster import DOWN

    world.register()
    run_stages(world, 1, ["promotion_candidate"])
    world.cluster.down = DOWN
    assert not run_stages(world, 1, ["manifest_commit"]).success
    assert world.subjects == []
    assert world.git.leases == {}
    world.cluster.down = None
    assert run_stages(world, 1).success


def test_prometheus_down_in_the_gate_holds(world: World) -> None:
    """What cannot be judged is the platform's fault: no alias moves, nothing is taken back, and it goes on later."""
    from tests.fakes.cluster import DOWN

    world.register()
    run_stages(world, 1, ["promotion_candidate", "manifest_commit", "rollout"])
    world.metrics.down = DOWN
    assert not run_stages(world, 1, ["serving_model"]).success
    assert world.state(1) is State.HELD
    assert world.live_image == world.image(1)
    assert world.champion is None
    assert "Held" in world.reason(1)
    world.metrics.down = None
    assert run_stages(world, 1).success
    assert world.champion == 1


def test_an_autoscaler_in_mid_soak_costs_nothing(world: World) -> None:
    """Pods that come, not yet ready and never scraped, and pods that go neither fail the version nor hold it up."""
    world.register()
    run_stages(world, 1, ["promotion_candidate", "manifest_commit", "rollout"])
    began = world.clock.now()
    for at, ready in ((15, (True, True, False)), (35, (True, True, True, False)), (55, (True,))):
        world.clock.after(at, lambda ready=ready: world.scale(*ready))  # type: ignore[misc]
    assert run_stages(world, 1, ["serving_model"]).success
    assert world.champion == 1
    evidence = json.loads(world.registry.artifacts["run1", "incumbent/iris-edge/1-1.json"])
    assert [evaluation["wanted"] for evaluation in evidence["evaluations"]] == [2, 2, 3, 3, 4, 4, 1]
    assert world.clock.now() - began < 65
    assert [len(evaluation["scrapes"]) for evaluation in evidence["evaluations"]] == [2, 2, 2, 2, 3, 3, 1]


def test_git_down_for_a_moment_in_the_rollout_is_waited_out(world: World) -> None:
    """A revision that cannot be looked up just now is no end; the rollout goes on when Git answers again."""
    world.register()
    run_stages(world, 1, ["promotion_candidate", "manifest_commit"])
    world.argocd.on_refresh = lambda _: None
    world.argocd.status = an_application("f" * 40, name="iris")
    for at, down in ((1, "down"), (5, None)):
        world.clock.after(at, lambda down=down: setattr(world.git, "down", down))  # type: ignore[misc]
    world.clock.after(9, world.reconcile)
    assert run_stages(world, 1, ["rollout"]).success


def test_when_unjudged_roll_back_does_not_reject() -> None:
    """The policy may roll back what cannot be judged; the version keeps its good name and may be retried."""
    from tests.fakes.cluster import DOWN
    from tests.fakes.world import POLICY_TEXT

    world = World(POLICY_TEXT.replace("judge_within: 120s", "judge_within: 120s\n  when_unjudged: roll_back"))
    world.register()
    run_stages(world, 1, ["promotion_candidate", "manifest_commit", "rollout"])
    world.metrics.down = DOWN
    run_stages(world, 1, ["serving_model"])
    assert world.state(1) is State.ROLLED_BACK
    assert world.live_image == f"{REPOSITORY}:before"
    assert world.git.log[0].trailers["Verdict"] == "Error"


def test_a_foreign_revert_counts_as_a_rejection(world: World) -> None:
    """A person's change after our commit is never overwritten, and the version is rejected."""
    world.register()
    run_stages(world, 1, ["promotion_candidate", "manifest_commit"])
    before = world.git.commits[world.git.log[1].id].files
    world.git.commit("Revert that", before)
    result = run_stages(world, 1, ["rollout"])
    assert not result.success
    assert world.state(1) is State.ROLLED_BACK
    assert world.subjects == ["Promote iris-edge to version 1", "Revert that"]


def test_a_rejection_without_its_rollback_is_finished_first(world: World) -> None:
    """A run that died between the tag and the rollback commit is finished by whatever runs next."""
    version = world.register()
    run_stages(world, 1, ["promotion_candidate", "manifest_commit"])
    world.registry.write_tags(version, {tag_key(POLICY_NAME, "state"): "rejected"})
    assert not run_stages(world, 1, ["promotion_candidate"]).success
    assert world.state(1) is State.ROLLED_BACK
    assert world.live_image == f"{REPOSITORY}:before"


@pytest.mark.parametrize("selection", [None, ["manifest_commit"]])
def test_a_busy_lease_ends_the_run_as_waiting(world: World, selection: list[str] | None) -> None:
    """Another run holds the application for too long: this one writes no state, and says who it waited for."""
    world.register()
    world.git.acquire_lease("iris", "the-other-run", 600)
    result = run_stages(world, 1, selection)
    assert not result.success
    assert result.failure.startswith("waiting: ")
    assert "the-other-run" in result.failure
    assert "not decided here" in result.failure
    assert world.state(1) is None
    assert world.subjects == []
    assert world.git.leases["iris"].holder == "the-other-run"


@pytest.mark.parametrize("selection", [None, ["serving_model"]])
def test_another_runs_lease_is_waited_for(world: World, selection: list[str] | None) -> None:
    """A run whose exit code is the answer finds what the other run did: the version is champion, by one commit."""
    world.register()
    assert promote(world, 1, "the-other-run")
    lease = world.git.acquire_lease("iris", "the-other-run", 600)
    assert isinstance(lease, LeaseRecord)
    world.clock.after(40, lambda: world.git.release_lease(lease))
    result = run_stages(world, 1, selection)
    assert result.success
    assert world.subjects == ["Promote iris-edge to version 1"]
    waiting = [line for line in result.said if "for run the-other-run" in line]
    assert 2 < len(waiting) < 5
    assert waiting[0].startswith("waiting for 300 s at most ")


def test_a_dead_runs_lease_is_waited_for_until_it_expires(world: World) -> None:
    """What a killed run left half done is finished by the run that waited."""
    world.register()
    promote(world, 1, "the-other-run")
    world.git.acquire_lease("iris", "the-other-run", 60)
    assert run_stages(world, 1).success
    assert world.champion == 1


def test_a_lease_that_is_lost_stops_all_writing(world: World) -> None:
    """A run whose lease was taken in mid-soak writes nothing more, neither to Git nor to the registry."""
    world.register()

    def steal() -> None:
        world.git.leases.pop("iris", None)
        world.git.acquire_lease("iris", "thief", 600)

    run_stages(world, 1, ["promotion_candidate", "manifest_commit", "rollout"])
    world.clock.after(25, steal)
    assert not run_stages(world, 1, ["serving_model"]).success
    assert world.champion is None
    assert world.git.tags == {}
    assert world.state(1) is State.COMMITTED


def test_a_lease_that_is_lost_before_the_commit_leaves_the_state_alone(world: World) -> None:
    """A run that finds its lease taken when it pushes does not even write that it waits."""
    world.register()

    def steal() -> None:
        world.git.leases.pop("iris", None)
        world.git.acquire_lease("iris", "thief", 600)

    world.git.before_push = [steal]
    result = run_stages(world, 1, ["manifest_commit"])
    assert result.failure.startswith("waiting: ")
    assert "thief" in result.failure
    assert world.state(1) is None
    assert world.subjects == []


def test_an_image_is_not_waited_for_under_the_lease(world: World) -> None:
    """The commit alone ends as waiting at once, and says which stage waits for the image."""
    world.register(publish=False)
    began = world.clock.now()
    result = run_stages(world, 1, ["manifest_commit"])
    assert "promotion_candidate" in result.failure
    assert world.state(1) is State.WAITING
    assert world.clock.now() == began
    assert world.git.leases == {}


def test_a_persons_image_in_mid_soak_is_never_crowned(world: World) -> None:
    """The pods of an image that a person committed are not those that were judged: the version is rejected."""
    world.register()
    run_stages(world, 1, ["promotion_candidate", "manifest_commit", "rollout"])
    before = world.git.commits[world.git.log[1].id].files

    def person() -> None:
        world.git.commit("Revert that", before)
        world.reconcile()

    world.clock.after(25, person)
    assert not run_stages(world, 1, ["serving_model"]).success
    assert world.champion is None
    assert world.state(1) is State.ROLLED_BACK
    assert world.subjects == ["Promote iris-edge to version 1", "Revert that"]


def test_what_cannot_be_read_after_the_commit_holds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A committed version whose workload's kind cannot be judged is held, and not left as committed for ever."""
    from orchestration.promotion.problems import InvalidInputError, Problem

    def refuse(kind: str, namespace: str, name: str) -> None:
        raise InvalidInputError(Problem(f"{kind} {name}", "kind Deployment", kind, "Correct the policy."))

    world.register()
    run_stages(world, 1, ["promotion_candidate", "manifest_commit"])
    monkeypatch.setattr(world.cluster, "workload", refuse)
    assert run_stages(world, 1, ["rollout"]).failure.startswith("held: ")
    assert world.state(1) is State.HELD


def test_a_committed_version_is_finished_before_the_next(world: World) -> None:
    """A newer challenger waits while another version is committed and unjudged."""
    world.register()
    run_stages(world, 1, ["promotion_candidate", "manifest_commit"])
    world.git.leases.clear()
    world.register()
    result = run_stages(world, 2)
    assert world.state(2) is State.WAITING
    assert "version 1" in result.failure
    assert run_stages(world, 1).success
    assert run_stages(world, 2).success
    assert world.champion == 2


def test_wrong_recorded_answers_fail_at_once(world: World) -> None:
    """A pod that answers a recorded request wrong is rolled back at the first evaluation."""
    from orchestration.promotion.ports import Answer

    world.register()
    world.cluster.respond = lambda *_: Answer(200, b'{"prediction": 99}', 0.01)
    result = run_stages(world, 1)
    assert world.state(1) is State.ROLLED_BACK
    assert "99" in result.failure


def test_without_recorded_requests_there_is_no_candidate(world: World) -> None:
    """The reason names the command that records them."""
    world.register()
    del world.registry.artifacts["run1", RECORDING_PATH]
    assert "incumbent record iris 1" in run_stages(world, 1).failure


def test_evidence_without_the_alias_is_finished(world: World) -> None:
    """A run that died between the Git tag and the alias is finished without a second soak."""
    world.register()
    run_stages(world, 1)
    world.registry.aliases.pop(("iris", "champion"))
    queries = len(world.metrics.queries)
    assert run_stages(world, 1, ["serving_model"]).success
    assert world.champion == 1
    assert len(world.metrics.queries) == queries


def test_an_unknown_partition_is_no_traceback(world: World) -> None:
    """A version that the registry does not have is refused by name."""
    assert "version 7 of iris" in run_stages(world, 7).failure


def interrupt(world: World, instance: dg.DagsterInstance, *, by_person: bool) -> None:
    """Version 1's run is interrupted in mid-soak: a person cancelled it, or its host shuts down."""
    world.register()

    def stop() -> None:
        if by_person:
            instance.report_run_canceling(instance.get_runs()[0])
        raise dg.DagsterExecutionInterruptedError

    materialize(world, 1, instance, ["promotion_candidate", "manifest_commit", "rollout"])
    world.clock.after(25, stop)
    assert not materialize(world, 1, instance, ["serving_model"]).success


def test_a_cancelled_promotion_is_held_by_a_person(world: World, instance: dg.DagsterInstance) -> None:
    """It is not resumed by itself, says how to go on, and holds no lease; materialized again it goes on."""
    interrupt(world, instance, by_person=True)
    assert world.state(1) is State.HELD
    assert world.registry.versions["iris", 1].tag(POLICY_NAME, "held_by") == "person"
    assert "To go on, materialize partition iris-edge@1" in world.reason(1)
    assert world.git.leases == {}
    assert materialize(world, 1, instance).success
    assert world.champion == 1
    assert world.registry.versions["iris", 1].tag(POLICY_NAME, "held_by") == ""


def test_a_run_that_is_cancelled_before_the_commit_has_nothing_to_revert(
    world: World, instance: dg.DagsterInstance
) -> None:
    """It is held by a person, who is told that nothing was committed."""
    world.register(publish=False)

    def stop() -> None:
        instance.report_run_canceling(instance.get_runs()[0])
        raise dg.DagsterExecutionInterruptedError

    world.clock.after(5, stop)
    assert not materialize(world, 1, instance).success
    assert world.state(1) is State.HELD
    assert "Nothing was committed" in world.reason(1)


def test_a_host_that_shuts_down_holds_nothing(world: World, instance: dg.DagsterInstance) -> None:
    """Without a person's wish the promotion stays committed, and the sensor resumes it."""
    interrupt(world, instance, by_person=False)
    assert world.state(1) is State.COMMITTED
    assert world.git.leases == {}

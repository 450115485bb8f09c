"""Between two steps of a stage: what others do there, and what does not answer, leads to no false claim."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestration.promotion.branch_standing import committed_promotions
from orchestration.promotion.decided import Decided
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.ports import Answer, BranchCommit, LeaseRecord, TagRecord
from orchestration.promotion.problems import DependencyError
from orchestration.promotion.state import State
from orchestration.stages.lease import LEASE_SECONDS, ApplicationLease
from orchestration.stages.rollback import record_ended
from orchestration.stages.rollback_target import rollback_target
from orchestration.stages.runner import StageFailed
from orchestration.stages.stage import Promotion, promotion_of
from tests.fakes.cluster import DOWN
from tests.fakes.runs import run_until
from tests.fakes.world import POLICY_NAME, REPOSITORY, World

EVIDENCE_TAG = f"incumbent/{POLICY_NAME}/1-1"


class Said(list[str]):
    """What runs say; at the first line with some words, something happens."""

    def __init__(self, words: str, then: Callable[[], object]) -> None:
        self.words, self.then = words, then

    def append(self, line: str) -> None:
        if self.words in line and not any(self.words in said for said in self):
            super().append(line)
            self.then()
        else:
            super().append(line)


def steal_lease(world: World) -> None:
    world.git.leases["iris"] = LeaseRecord("iris", "another run", world.clock.now() + 60, "another object")


def fail(world: World, version: int = 1) -> None:
    """Register a version that breaks its SLO."""
    world.register()
    world.bad_images.add(world.image(version))


def promotion_by_hand(world: World, version: ModelVersion) -> Promotion:
    """A version's promotion as a stage works with it, without a stage."""
    policy, say = world.policy(POLICY_NAME), world.said.append
    lease = ApplicationLease(world.git, world.clock, policy.argocd.application, "run", say, say)
    return promotion_of(world.clients(policy), policy, version, lease, say)


def acts_of(world: World) -> list[str]:
    return [name for name in world.git.tags if "/acts/" in name]


def test_pods_that_are_replaced_after_they_passed_are_soaked(world: World) -> None:
    """A restart between the verdict and the alias brings pods that nobody has judged."""
    world.register()

    def restart() -> None:
        status = world.cluster.status
        assert status is not None
        pods = tuple(replace(pod, template_hash="restarted") for pod in status.pods)
        world.cluster.status = replace(status, template_hash="restarted", pods=pods)

    world.said = Said("verdict Passed", restart)
    run_until(world, 1)
    assert world.champion == 1
    assert "soaking again: other pods serve than those that passed" in world.said


def test_an_evidence_tag_of_another_commit_crowns_nobody(world: World) -> None:
    """Whoever may push tags can name one as evidence; it counts only on the commit that it is of."""
    fail(world)
    run_until(world, 1, "rollout")
    world.git.tags[EVIDENCE_TAG] = TagRecord(EVIDENCE_TAG, "elsewhere", "passed", world.clock.now())
    run_until(world, 1)
    assert (world.champion, world.state(1)) == (None, State.ROLLED_BACK)


def test_a_champion_has_its_evidence_in_git(world: World) -> None:
    """The annotated tag is on the promotion's commit, and there before the alias."""
    world.register()
    run_until(world, 1)
    tag = world.git.tags.get(EVIDENCE_TAG)
    assert tag is not None
    assert tag.commit == world.git.head


def test_a_lease_that_is_lost_before_the_evidence_leaves_no_evidence(world: World) -> None:
    """Nothing is stored for a run that another one has overtaken."""
    world.register()
    world.said = Said("verdict Passed", lambda: steal_lease(world))
    run_until(world, 1)
    assert not [path for _, path in world.registry.artifacts if path.startswith(f"incumbent/{POLICY_NAME}/")]
    assert world.champion is None


def test_a_lease_that_is_lost_before_the_alias_moves_nothing(world: World) -> None:
    """The registry cannot compare and swap, so the lease is read again right before."""
    world.register()
    create = world.git.create_tag

    def create_and_lose(*arguments: object) -> object:
        created = create(*arguments)  # type: ignore[arg-type] # passed on as they came
        steal_lease(world)
        return created

    world.git.create_tag = create_and_lose  # type: ignore[method-assign,assignment] # as a slow network does
    run_until(world, 1)
    assert EVIDENCE_TAG in world.git.tags
    assert world.champion is None


def test_an_alias_that_does_not_stay_is_no_champion(world: World) -> None:
    """It is read back: what someone else moves at once is not claimed."""
    world.register()
    world.registry.set_alias = lambda *_: None  # type: ignore[method-assign] # someone moves it back at once
    result = run_until(world, 1)
    assert isinstance(result, StageFailed)
    assert (world.champion, world.state(1)) == (None, State.HELD)


@pytest.mark.parametrize("forged", [False, True])
def test_the_way_back_leads_to_what_was_verified(world: World, forged: bool) -> None:
    """An attempt below that was never verified is no target, nor one whose evidence tag is on another commit."""
    world.register()
    run_until(world, 1)
    promotion = promotion_by_hand(world, world.register())
    (verified,) = committed_promotions(world.git.history(world.git.head, POLICY_NAME), POLICY_NAME)
    rollback = BranchCommit("r", "", "", 0.0, {})
    unverified = replace(verified, identity=replace(verified.identity, version=8, digest="8" * 12))
    taken_back = replace(verified, identity=replace(verified.identity, version=9, digest="9" * 12), rollback=rollback)
    if forged:
        name = unverified.identity.evidence_tag
        world.git.tags[name] = TagRecord(name, "elsewhere", "passed", world.clock.now())
    before = f"{REPOSITORY}@sha256:{'9' * 64}"
    target = rollback_target(promotion, [taken_back, unverified, verified], before)
    assert target is not None
    assert target.version == 1


def test_a_failed_version_is_rejected_before_its_rollback_is_pushed(world: World) -> None:
    """A crash between the two is noticed by the tag, and the commit says that the model was at fault."""
    fail(world)
    states: list[State | None] = []
    run_until(world, 1, "rollout")
    world.git.before_push = [lambda: states.append(world.state(1))] * 9
    run_until(world, 1)
    assert states[-1] is State.REJECTED
    assert world.git.commits[world.git.head].trailers["Verdict"] == "Failed"


def test_a_rollback_that_was_committed_is_finished_without_another_end(world: World) -> None:
    """A run that died before it wrote the end leaves `rejected`; the next one finds the commit that is there."""
    fail(world)
    run_until(world, 1)
    version, commits = world.registry.versions["iris", 1], len(world.subjects)
    world.registry.write_tags(version, {f"incumbent.{POLICY_NAME}.state": "rejected"})
    run_until(world, 1, run="next")
    assert world.state(1) is State.ROLLED_BACK
    assert (len(world.subjects), acts_of(world)) == (commits, [])


def test_a_rollback_whose_target_does_not_serve_has_not_ended(world: World) -> None:
    """The version stays rejected until the image before it serves again."""
    fail(world)
    run_until(world, 1, "rollout")
    world.argocd.on_refresh = lambda _: None  # Argo CD looks no more
    run_until(world, 1)
    assert world.state(1) is State.REJECTED
    world.argocd.on_refresh = lambda _: world.reconcile()
    run_until(world, 1, run="next")
    assert world.state(1) is State.ROLLED_BACK


def test_a_revert_by_someone_else_is_the_models_fault(world: World) -> None:
    """It rejects the version, and the act that ends its promotion says so."""
    world.register()
    run_until(world, 1, "manifest_commit")
    first = world.git.log[-1].files
    world.git.commit("Revert", first)
    run_until(world, 1, run="next")
    (act,) = acts_of(world)
    assert "Verdict: Failed" in world.git.tags[act].message


def test_a_lease_is_renewed_when_half_of_its_time_is_over(world: World) -> None:
    """Long waits write nothing, and would let it run out."""
    lease = promotion_by_hand(world, world.register()).lease
    lease.acquire()
    world.clock.sleep(LEASE_SECONDS * 0.6)
    assert lease.keep().expires_at == world.clock.now() + LEASE_SECONDS


def test_an_alias_that_moves_while_the_branch_is_contended_stops_the_commit(world: World) -> None:
    """Each new head is decided on anew, and the alias is part of that."""
    world.register()
    other = world.register()
    world.registry.set_alias(world.registry.versions["iris", 1], "challenger")

    def meanwhile() -> None:
        world.git.commit("Mention it", {"README": b"again\n"})
        world.registry.set_alias(other, "challenger")

    run_until(world, 1, "promotion_candidate")
    world.git.before_push = [meanwhile]
    run_until(world, 1, run="next")
    assert "Promote iris-edge to version 1" not in world.subjects
    assert world.state(1) is State.SUPERSEDED


def test_a_version_that_is_taken_back_while_the_branch_is_contended_is_not_committed(world: World) -> None:
    """Another process committed it and took it back meanwhile: the image is the same as before, and the history not."""
    world.register()
    identity = f"{POLICY_NAME}/1/{world.image(1).partition('sha256:')[2][:12]}/1"

    def meanwhile() -> None:
        world.git.commit("Promote", {"README": b"1\n"}, {"Promotion-Id": identity})
        world.git.commit("Roll back", {"README": b"2\n"}, {"Rollback-Of": identity, "Verdict": "Aborted"})

    world.git.before_push = [meanwhile]
    run_until(world, 1)
    assert "Promote iris-edge to version 1" not in world.subjects


def test_a_cluster_that_is_not_ready_is_not_believed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its API may still serve what it remembers, and Argo CD goes on to say Synced and Healthy."""
    world.register()
    run_until(world, 1, "manifest_commit")

    def not_ready() -> None:
        raise DependencyError(DOWN)

    monkeypatch.setattr(world.cluster, "ready", not_ready)
    monkeypatch.setattr(world.cluster, "workload", lambda *_: world.cluster.status)
    assert isinstance(run_until(world, 1, "rollout", run="next"), StageFailed)
    assert world.state(1) is State.HELD


def test_a_pod_that_does_not_answer_is_not_the_models_fault(world: World) -> None:
    """A time-out is no wrong answer: the version is held, and neither rejected nor crowned."""
    world.register()
    run_until(world, 1, "rollout")
    world.cluster.respond = lambda *_: Answer(0, b"timed out", 1.0)
    run_until(world, 1)
    assert (world.state(1), world.champion) == (State.HELD, None)


def test_an_end_without_a_commit_is_recorded_once(world: World) -> None:
    """However often a run finds that a person put another image there, Git says it once."""
    world.register()
    run_until(world, 1, "manifest_commit")
    promotion = promotion_by_hand(world, world.registry.versions["iris", 1])
    promotion.lease.acquire()
    (committed,) = committed_promotions(world.git.history(world.git.head, POLICY_NAME), POLICY_NAME)
    for _ in range(2):
        record_ended(promotion, committed, "Failed", Decided("incumbent", "replaced"))
        world.clock.sleep(1)
    assert len(acts_of(world)) == 1

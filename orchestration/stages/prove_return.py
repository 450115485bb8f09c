"""Proving a return to a former champion: its recorded requests are asked, and any failure holds.

It was soaked before it became champion for the first time. A person left what served, so nothing here goes back there.
"""

from collections.abc import Mapping
from dataclasses import asdict

from orchestration.promotion.branch_standing import CommittedPromotion
from orchestration.promotion.cluster_status import WorkloadStatus
from orchestration.promotion.decided import decided_in
from orchestration.promotion.evaluation import RecordedRound
from orchestration.promotion.identity import committed_facts
from orchestration.promotion.originals import with_originals
from orchestration.promotion.problems import Problem
from orchestration.promotion.recorded_requests import Recording, recording_of
from orchestration.promotion.returns import RETURNS_FROM, left_version
from orchestration.promotion.served_model import NOT_ASKED, ServedModel, unproved
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import format_time
from orchestration.stages.evidence import pods_as_record, put_evidence
from orchestration.stages.judge_rollout import require_live
from orchestration.stages.measure import served_check, served_models
from orchestration.stages.replay import Replay, replay_once
from orchestration.stages.results import Check, StageEnded
from orchestration.stages.stage import Promotion
from orchestration.stages.unjudged import hold
from orchestration.stages.version_record import VersionRecord

_ASK_AGAIN_SECONDS = 2.0
_NO_SOAK = "not judged again: the version kept them before it became champion"
_LEFT_STATES = (None, State.CHAMPION, State.FORMER_CHAMPION, State.COMMITTED, State.HELD)
"""States in which a version can be that a return leaves; in others it was asked for again since, or has ended."""


def prove_return(
    promotion: Promotion, committed: CommittedPromotion, image: str
) -> tuple[tuple[Check, ...], Mapping[str, object]]:
    """Ask each pod and the service the version's recorded requests, and keep the answers as the evidence.

    Returns:
        The checks, and the evidence's facts; the alias may move now.

    Raises:
        StageEnded: an answer was wrong or did not come, and the return is held; or the lease was lost.
    """
    started = promotion.clients.clock.now()
    recording = _recording(promotion)
    if recording is None:
        workload = require_live(promotion, committed, image)
        recorded = RecordedRound(0, 0)
        summary = "the version has no recorded requests, so only the rollout was checked"
        promotion.say(summary)
    else:
        workload, recorded = _ask(promotion, committed, image, recording)
        right = recorded.asked - len(recorded.wrong)
        summary = f"{right} of {recorded.asked} recorded requests answered correctly"
    served = served_check(_require_this_version(promotion, workload, doubt="" if recording is not None else NOT_ASKED))
    numbers = {"right": float(recorded.asked - len(recorded.wrong)), "asked": float(recorded.asked)}
    checks = (served, Check("recorded_requests", True, summary, (), numbers), Check("slos", True, _NO_SOAK))
    return checks, _keep_evidence(promotion, committed, workload, recorded, started)


def _require_this_version(promotion: Promotion, workload: WorkloadStatus, *, doubt: str) -> tuple[ServedModel, ...]:
    """Hold the return when a pod serves another model than the version, by its server's own word or by its spec.

    Where an address is deployed and no recorded request was asked, each server must say what it loaded, and is given
    the time to be scraped. Answers suffice for a version that they told apart when it became champion.
    """
    clients, policy = promotion.clients, promotion.policy
    version = with_originals(clients.registry, promotion.version)
    give_up_at = clients.clock.now() + policy.gate.judge_within
    while True:
        promotion.lease.keep()
        served = served_models(clients, policy, workload.new_pods, version)
        wrong = next((pod.problem for pod in served if pod.problem), None)
        silent = unproved(policy, served, doubt=doubt)
        if wrong is None and silent is None:
            return served
        problem = wrong or (silent if clients.clock.now() >= give_up_at else None)
        if problem is not None:
            raise _held(promotion, problem, (served_check(served),))
        clients.clock.sleep(_ASK_AGAIN_SECONDS)


def _recording(promotion: Promotion) -> Recording | None:
    """Read the version's recorded requests; None when it has none, as an adopted version may."""
    recording = recording_of(promotion.clients.registry, promotion.version.run_id)
    if not isinstance(recording, Problem):
        return recording
    next_step = "Record them again (incumbent record); the return then goes on by itself."
    raise _held(promotion, Problem(recording.subject, recording.expected, recording.found, next_step))


def _ask(
    promotion: Promotion, committed: CommittedPromotion, image: str, recording: Recording
) -> tuple[WorkloadStatus, RecordedRound]:
    """Ask until every request is answered by the pods that serve; a wrong answer ends it at once."""
    clients, policy = promotion.clients, promotion.policy
    give_up_at = clients.clock.now() + policy.gate.judge_within
    while True:
        workload = require_live(promotion, committed, image)
        problems: list[Problem] = []
        name, keep = str(committed.identity), promotion.lease.keep
        asked = Replay(clients, policy, workload, workload.new_pods, recording, name, keep)
        recorded = replay_once(asked, problems)
        if len(recorded.wrong) >= policy.gate.wrong_answers:
            raise _wrong(promotion, recorded)
        if recorded.is_complete and require_live(promotion, committed, image).template_hash == workload.template_hash:
            return workload, recorded
        if clients.clock.now() >= give_up_at:
            raise _unanswered(promotion, recorded, problems)
        clients.clock.sleep(_ASK_AGAIN_SECONDS)


def _wrong(promotion: Promotion, recorded: RecordedRound) -> StageEnded:
    fault = recorded.wrong[0]
    next_step = (
        "It serves already. Return to another version (incumbent rollback POLICY VERSION), or correct the cause."
    )
    problem = Problem(fault.asked, "the recorded answer", fault.reason, next_step)
    rows = tuple(asdict(wrong) for wrong in recorded.wrong)
    return _held(promotion, problem, (Check("recorded_requests", False, str(problem), rows),))


def _unanswered(promotion: Promotion, recorded: RecordedRound, problems: list[Problem]) -> StageEnded:
    asked, reason = (
        (recorded.unanswered[0].asked, recorded.unanswered[0].reason)
        if recorded.unanswered
        else ("the recorded requests", f"{recorded.asked} of {recorded.due} that could be asked")
    )
    next_step = "It serves already, and the champion's alias moves by itself when they are answered."
    problem = problems[0] if problems else Problem(asked, "an answer", reason, next_step)
    rows = tuple(asdict(fault) for fault in recorded.unanswered)
    return _held(promotion, problem, (Check("recorded_requests", False, str(problem), rows),))


def _held(promotion: Promotion, problem: Problem, checks: tuple[Check, ...] = ()) -> StageEnded:
    hold(promotion, problem)
    return StageEnded(State.HELD, problem, checks)


def _keep_evidence(
    promotion: Promotion,
    committed: CommittedPromotion,
    workload: WorkloadStatus,
    recorded: RecordedRound,
    started: float,
) -> Mapping[str, object]:
    """Keep what was asked beside the training run, then the annotated tag that names it."""
    identity, trailers, run_id = committed.identity, committed.commit.trailers, promotion.version.run_id
    wrong = [asdict(fault) for fault in recorded.wrong]
    document = {
        "promotion_id": str(identity),
        "commit": committed.commit.commit,
        **committed_facts(trailers),
        "verdict": "Passed",
        "reason": f"a return to a version that was verified before: {decided_in(trailers)}",
        "returns_from": trailers.get(RETURNS_FROM),
        "pods": pods_as_record(workload.new_pods),
        "template_hash": workload.template_hash,
        "gate_started": format_time(started),
        "soak_ended": format_time(promotion.clients.clock.now()),
        "recorded": {"due": recorded.due, "asked": recorded.asked, "wrong": wrong, "unanswered": []},
    }
    kept: dict[str, object] = {}
    if run_id is not None:
        kept = {"evidence": identity.evidence_path, "evidence_digest": put_evidence(promotion, identity, document)}
    lines = [f"Evidence: {kept['evidence']}", f"Evidence-Digest: {kept['evidence_digest']}"] if kept else []
    body = "\n".join([f"Promotion-Id: {identity}", "Verdict: Passed", *lines])
    message = f"{identity.policy}: returned to version {identity.version}\n\n{body}\n"
    promotion.lease.create_tag(identity.evidence_tag, committed.commit.commit, message)
    return kept


def record_left(promotion: Promotion, committed: CommittedPromotion) -> None:
    """Write on the version that a return left that a person went back from it, so that nothing promotes it again.

    Nothing is written when the return had ended before: the version may have been asked for again since.
    """
    policy, registry, number = promotion.policy, promotion.clients.registry, left_version(committed)
    ended_before = (
        promotion.record.state is State.CHAMPION
        and promotion.version.tag(policy.name, "commit") == committed.commit.commit
    )
    left = registry.version(policy.model, number) if number is not None and not ended_before else None
    if left is None or left.version == promotion.version.version or left.state(policy.name) not in _LEFT_STATES:
        return
    record = VersionRecord(registry, promotion.clients.clock, policy, left, promotion.lease)
    by = decided_in(committed.commit.trailers)
    record.write(State.ROLLED_BACK, f"Rolled back to version {promotion.version.version} by {by}.")

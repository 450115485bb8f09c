"""Stage 4, `serving_model`: prove the new pods healthy, then make the version the champion; or take it back."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from orchestration.promotion.branch_standing import Promoted
from orchestration.promotion.cluster_status import WorkloadStatus
from orchestration.promotion.evaluation import Evaluation, as_record
from orchestration.promotion.gate import Continue, SoakAgain, Verdict, VerdictKind, judge
from orchestration.promotion.ports import LeaseLost
from orchestration.promotion.problems import Problem
from orchestration.promotion.recorded_requests import RECORDING_PATH, Recording, parse_recording
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import format_time
from orchestration.stages.measure import measure
from orchestration.stages.rollback import roll_back
from orchestration.stages.rollout import not_judged, require_on_branch, wait_for
from orchestration.stages.session import LEASE_SECONDS, Check, Checklist, Session, StageDone, StageEnded

ASSET = "serving_model"
CHECKS = ("recorded_requests", "slos", "champion_alias")


@dataclass(frozen=True)
class Gate:
    """What the gate came to: its verdict and every measurement behind it."""

    verdict: Verdict
    evaluations: tuple[Evaluation, ...]
    started: float
    """When this run first found the version rolled out; a soak may have begun anew since."""
    soak_started: float
    workload: WorkloadStatus


def serve(session: Session) -> StageDone:
    """Judge what serves, and make the version the champion when it passed.

    Raises:
        StageEnded: rolled back in this run, or held.
    """
    promoted = require_on_branch(session)
    session.acquire()
    evidence = session.clients.git.tag(promoted.identity.evidence_tag)
    if evidence is not None and evidence.commit == promoted.commit.commit:
        wait_for(session, promoted, Checklist())
        note = f"verified before: Git tag {evidence.name}"
        checks = (Check("recorded_requests", True, note), Check("slos", True, note))
        return _crown(session, promoted, checks, {"evidence": evidence.message.strip()})
    gate = run_gate(session, promoted)
    while (
        gate.verdict.kind is VerdictKind.PASSED
        and _live(session, promoted).template_hash != gate.workload.template_hash
    ):
        session.say("soaking again: other pods serve than those that passed")
        gate = replace(run_gate(session, promoted), started=gate.started)
    checks = gate_checks(gate)
    problem = gate.verdict.problem
    if gate.verdict.kind is VerdictKind.PASSED:
        return _crown(session, promoted, checks, _keep_evidence(session, promoted, gate))
    _keep_measurements(session, promoted, gate)
    if gate.verdict.kind is VerdictKind.FAILED:
        roll_back(session, promoted, problem, reject=True)
        raise StageEnded(State.ROLLED_BACK, problem, checks)
    raise not_judged(session, promoted, StageEnded(State.HELD, problem, checks))


def run_gate(session: Session, promoted: Promoted) -> Gate:
    """Evaluate again and again until there is a verdict; a rollout in mid-soak starts the soak again.

    Raises:
        StageEnded: the lease was lost, or the rollout does not stand any more.
    """
    policy, clock = session.policy, session.clients.clock
    recording = _recording(session)
    give_up_at = clock.now() + policy.gate.judge_within
    evaluations: list[Evaluation] = []
    been_ready: set[str] = set()
    workload = _live(session, promoted)
    started = soak_started = clock.now()
    session.say(f"soaking for {policy.gate.soak:g} s: {len(workload.new_pods)} pods, template {workload.template_hash}")
    while True:
        session.keep()
        next_at = clock.now() + policy.gate.every
        identity = str(promoted.identity)
        # A pod that an autoscaler has just added is not asked before it is ready; one that ceases to be ready is.
        been_ready |= {pod.uid for pod in workload.new_pods if pod.ready}
        pods = [pod for pod in workload.new_pods if pod.uid in been_ready]
        evaluation = measure(session.clients, policy, workload, pods, recording, soak_started, identity)
        evaluations.append(evaluation)
        now = clock.now()
        gate = policy.gate.model_copy(update={"judge_within": give_up_at - soak_started})
        decision = judge(evaluations, soak_started=soak_started, now=now, gate=gate)
        match decision:
            case Verdict():
                session.say(f"verdict {decision.kind}: {decision.reason}")
                return Gate(decision, tuple(evaluations), started, soak_started, workload)
            case SoakAgain(why):
                session.say(f"soaking again: {why}")
                workload, evaluations, soak_started = _live(session, promoted), [], clock.now()
            case Continue(why):
                session.say(why)
        clock.sleep(max(0.0, next_at - clock.now()))
        fresh = session.clients.cluster.workload(policy.manifest.kind, policy.manifest.namespace, policy.manifest.name)
        workload = fresh if fresh is not None else workload


def _live(session: Session, promoted: Promoted) -> WorkloadStatus:
    waited = wait_for(session, promoted, Checklist())
    assert waited.workload is not None, "a rollout that stands has a workload"
    return waited.workload


def _recording(session: Session) -> Recording:
    """The candidate's own recorded requests: what its pods must answer.

    Raises:
        StageEnded: they are gone or unreadable, though the candidate stage had found them.
    """
    run_id = session.version.run_id
    content = session.clients.registry.artifact(run_id, RECORDING_PATH) if run_id else None
    recording = parse_recording(content) if content is not None else None
    if isinstance(recording, Recording):
        return recording
    problem = Problem(
        f"artifact {RECORDING_PATH} of run {run_id}",
        "the recorded requests that the candidate stage found",
        str(recording.found) if recording else "none",
        "Put it back (incumbent record), then materialize serving_model.",
    )
    raise StageEnded(State.HELD, problem)


def gate_checks(gate: Gate) -> tuple[Check, Check]:
    """The two checks of the gate, with a table and chartable numbers of its last evaluation."""
    last = gate.evaluations[-1]
    passed = gate.verdict.kind is VerdictKind.PASSED
    recorded = last.recorded
    answered_right = not recorded.wrong and not recorded.unanswered and recorded.asked > 0
    rows = [
        {
            "slo": reading.slo.name,
            "value": reading.value,
            "bound": reading.bound,
            "requests": reading.requests,
            "traffic": reading.source,
            "finding": reading.finding,
        }
        for reading in last.readings
    ]
    numbers = {reading.slo.name: reading.value for reading in last.readings if reading.value is not None}
    right = recorded.asked - len(recorded.wrong) - len(recorded.unanswered)
    answers = [{"asked": one.asked, "finding": one.reason} for one in (*recorded.wrong, *recorded.unanswered)]
    return (
        Check(
            "recorded_requests",
            answered_right,
            f"{right} of {recorded.asked} recorded requests answered right",
            tuple(answers),
            {"right": float(right), "asked": float(recorded.asked)},
        ),
        Check("slos", passed, f"{gate.verdict.kind}: {gate.verdict.reason}", tuple(rows), numbers),
    )


def _keep_measurements(session: Session, promoted: Promoted, gate: Gate) -> tuple[bytes, str]:
    """Put every measurement into the registry, beside the run; returns the document and its path."""
    identity = promoted.identity
    measured = {one.pod for one in gate.evaluations[-1].freshness}
    pods = [pod for pod in gate.workload.new_pods if pod.name in measured]
    document = {
        "promotion_id": str(identity),
        "commit": promoted.commit.commit,
        "image_digest": promoted.commit.trailers.get("Image-Digest"),
        "verdict": str(gate.verdict.kind),
        "reason": gate.verdict.reason,
        "pods": [{"name": pod.name, "uid": pod.uid, "node": pod.node} for pod in pods],
        "template_hash": gate.workload.template_hash,
        "gate_started": format_time(gate.started),
        "soak_started": format_time(gate.soak_started),
        "soak_ended": format_time(gate.evaluations[-1].at),
        "traffic": session.policy.gate.traffic,
        "evaluations": [as_record(evaluation) for evaluation in gate.evaluations],
    }
    content = json.dumps(document, indent=1, sort_keys=True, allow_nan=False).encode()
    assert session.version.run_id is not None, "a candidate has a run"
    session.confirm()
    session.clients.registry.put_artifact(session.version.run_id, identity.evidence_path, content)
    return content, identity.evidence_path


def _keep_evidence(session: Session, promoted: Promoted, gate: Gate) -> Mapping[str, object]:
    """Evidence first, then the annotated tag that names its digest: only then may the alias move."""
    content, path = _keep_measurements(session, promoted, gate)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    identity = promoted.identity
    message = (
        f"{identity.policy}: version {identity.version} passed\n\n"
        f"Promotion-Id: {identity}\nVerdict: {gate.verdict.kind}\nEvidence: {path}\nEvidence-Digest: {digest}\n"
    )
    tagged = session.clients.git.create_tag(
        identity.evidence_tag, promoted.commit.commit, message, session.keep(), LEASE_SECONDS
    )
    if isinstance(tagged, LeaseLost):
        raise session.lost(tagged)
    session.lease = tagged
    return {"evidence": path, "evidence_digest": digest}


def _crown(
    session: Session, promoted: Promoted, checks: tuple[Check, ...], evidence: Mapping[str, object]
) -> StageDone:
    """Move the alias and read it back."""
    policy, registry, version = session.policy, session.clients.registry, session.version
    session.confirm()
    registry.set_alias(version, policy.champion_alias)
    now = registry.version_by_alias(policy.model, policy.champion_alias)
    checklist = Checklist()
    checklist.checks.extend(checks)
    if now is None or now.version != version.version:
        problem = Problem(
            f"alias {policy.champion_alias} of {policy.model}",
            f"version {version.version}, as just written",
            f"version {now.version}" if now else "no version",
            "Somebody else moves it; materialize serving_model again when that has stopped.",
        )
        raise checklist.failed("champion_alias", problem, State.HELD)
    session.write(State.CHAMPION, "", evidence=str(evidence.get("evidence", "")), commit=promoted.commit.commit)
    session.release()
    session.say(f"version {version.version} of {version.model} is the champion of {policy.name}")
    checklist.passed("champion_alias", f"alias {policy.champion_alias} names version {version.version}, read back")
    facts = {"promotion_id": str(promoted.identity), "version_url": registry.version_url(version), **evidence}
    return StageDone(tuple(checklist.checks), facts)

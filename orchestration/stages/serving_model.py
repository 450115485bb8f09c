"""Stage 4, `serving_model`: prove the new pods healthy, then make the version the champion; or take it back."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from orchestration.promotion.branch_standing import CommittedPromotion
from orchestration.promotion.branch_view import BranchView
from orchestration.promotion.cluster_status import WorkloadStatus
from orchestration.promotion.evaluation import Evaluation, RecordedRound, as_record, newest_round
from orchestration.promotion.gate import Continue, ReplayDue, SoakAgain, Verdict, VerdictKind, judge
from orchestration.promotion.identity import committed_facts
from orchestration.promotion.live_before import LIVE_BEFORE, TOLD_APART, ToldApart, parse_live, parse_told_apart
from orchestration.promotion.originals import with_originals
from orchestration.promotion.problems import Problem
from orchestration.promotion.recorded_requests import RECORDING_PATH, Recording, digest_of, recording_of
from orchestration.promotion.returns import in_words, is_return
from orchestration.promotion.rollout_conditions import running_digest
from orchestration.promotion.served_model import NOT_TOLD_APART
from orchestration.promotion.state import State
from orchestration.promotion.texts import read_trailers
from orchestration.promotion.timestamps import format_time
from orchestration.stages.champion_alias import end_former_champions, set_champion_alias
from orchestration.stages.evidence import pods_as_record, put_evidence
from orchestration.stages.judge_rollout import require_live, require_on_branch, wait_for
from orchestration.stages.measure import measure, measure_answers, served_check
from orchestration.stages.prove_return import prove_return, record_left
from orchestration.stages.replay import Replay
from orchestration.stages.results import Check, Checklist, StageDone, StageEnded
from orchestration.stages.rollback import roll_back
from orchestration.stages.stage import Promotion, Stage
from orchestration.stages.unjudged import not_judged

_CHAMPION_BEFORE = "Champion-Before"
"""A trailer of the evidence tag: what the alias named when the judging began, for a run that resumes after the tag."""


@dataclass(frozen=True)
class Gate:
    """The gate's result: its verdict and every measurement behind it."""

    verdict: Verdict
    evaluations: tuple[Evaluation, ...]
    started: float
    """When this run first found the version rolled out; a new soak may have begun since."""
    soak_started: float
    workload: WorkloadStatus


def serve(promotion: Promotion, view: BranchView) -> StageDone:
    """Judge what serves, and make the version the champion when it passed.

    Raises:
        StageEnded: rolled back in this run, or held.
    """
    committed = require_on_branch(promotion, view)
    before = _champion_alias(promotion)
    evidence = promotion.clients.git.tag(committed.identity.evidence_tag)
    if evidence is not None and evidence.commit == committed.commit.commit:
        wait_for(promotion, committed, view.image, Checklist())
        note = f"verified before: Git tag {evidence.name}"
        checks = tuple(Check(name, True, note) for name in ("served_model", "recorded_requests", "slos"))
        before = read_trailers(evidence.message).get(_CHAMPION_BEFORE, before)
        return _crown(promotion, committed, checks, {"evidence": evidence.message.strip()}, before)
    if is_return(committed):
        return _crown(promotion, committed, *prove_return(promotion, committed, view.image), before)
    gate = run_gate(promotion, committed, view.image)
    while (
        gate.verdict.kind is VerdictKind.PASSED
        and require_live(promotion, committed, view.image).template_hash != gate.workload.template_hash
    ):
        promotion.say("soaking again: other pods serve than those that passed")
        gate = replace(run_gate(promotion, committed, view.image), started=gate.started)
    checks = gate_checks(gate, promotion.policy.gate.wrong_answers)
    problem = gate.verdict.problem
    if gate.verdict.kind is VerdictKind.PASSED:
        return _crown(promotion, committed, checks, _keep_evidence(promotion, committed, gate, before), before)
    _keep_measurements(promotion, committed, gate)
    if gate.verdict.kind is VerdictKind.FAILED:
        roll_back(promotion, committed, problem, reject=True)
        raise StageEnded(State.ROLLED_BACK, problem, checks)
    raise not_judged(promotion, committed, StageEnded(State.HELD, problem, checks))


def run_gate(promotion: Promotion, committed: CommittedPromotion, image: str) -> Gate:
    """Evaluate again and again until there is a verdict; a rollout in mid-soak starts the soak again.

    Raises:
        StageEnded: the lease was lost, or the rollout does not stand any more.
    """
    policy, clock, target = promotion.policy, promotion.clients.clock, promotion.policy.manifest
    version, identity = with_originals(promotion.clients.registry, promotion.version), str(committed.identity)
    live = parse_live(committed.commit.trailers.get(LIVE_BEFORE, ""))
    told_apart = parse_told_apart(committed.commit.trailers.get(TOLD_APART, ""))
    recording = _recording(promotion, committed)
    give_up_at = clock.now() + policy.gate.judge_within
    evaluations: list[Evaluation] = []
    been_ready: set[str] = set()
    workload = require_live(promotion, committed, image)
    started = soak_started = clock.now()
    pods_now = f"{len(workload.new_pods)} pods, template {workload.template_hash}"
    promotion.say(f"soaking for {policy.gate.soak:g} s: {pods_now}")
    while True:
        promotion.lease.keep()
        next_at = clock.now() + policy.gate.every
        # A pod that an autoscaler has just added is not asked before it is ready; one that ceases to be ready is.
        been_ready |= {pod.uid for pod in workload.new_pods if pod.ready}
        pods = [pod for pod in workload.new_pods if pod.uid in been_ready]
        asked = Replay(promotion.clients, policy, workload, pods, recording, identity, promotion.lease.keep)
        doubt = _doubt(told_apart, asked)
        evaluations.append(measure(asked, version, soak_started, earlier=evaluations, live=live, doubt=doubt))
        gate = policy.gate.model_copy(update={"judge_within": give_up_at - soak_started})
        decision = judge(evaluations, soak_started=soak_started, now=clock.now(), gate=gate)
        if isinstance(decision, ReplayDue):
            promotion.say(f"asking the recorded requests again: {decision.why}")
            evaluations[-1] = measure_answers(asked, evaluations[-1])
            decision = judge(evaluations, soak_started=soak_started, now=clock.now(), gate=gate)
        match decision:
            case Verdict():
                promotion.say(f"verdict {decision.kind}: {decision.reason}")
                return Gate(decision, tuple(evaluations), started, soak_started, workload)
            case SoakAgain(why):
                promotion.say(f"soaking again: {why}")
                workload, evaluations, soak_started = require_live(promotion, committed, image), [], clock.now()
            case Continue(why):
                promotion.say(why)
        clock.sleep(max(0.0, next_at - clock.now()))
        current = promotion.clients.cluster.workload(target.kind, target.namespace, target.name)
        workload = current if current is not None else workload


def _doubt(told_apart: ToldApart | None, asked: Replay) -> str:
    """Say why right answers do not prove which model the pods serve; empty when they do.

    What told the version apart counts for the requests that were asked then, and for pods that differ from those that
    were asked by the address alone: another image may bring another model.
    """
    if told_apart is None:
        return NOT_TOLD_APART
    if told_apart.requests != digest_of(asked.recording):
        return "the recorded requests are others than those that told the version apart before the commit"
    digests = (running_digest(pod, asked.policy.manifest.container) for pod in asked.workload.new_pods)
    if told_apart.image and any(digest not in (None, told_apart.image) for digest in digests):
        return "the pods that were told apart by their answers ran another image"
    return ""


def _recording(promotion: Promotion, committed: CommittedPromotion) -> Recording:
    """Read the candidate's own recorded requests: what its pods must answer.

    Raises:
        StageEnded: they are gone or unreadable, although the candidate stage read them, so nothing can be judged.
    """
    run_id = promotion.version.run_id
    recording = recording_of(promotion.clients.registry, run_id)
    if isinstance(recording, Recording):
        return recording
    problem = Problem(
        f"artifact {RECORDING_PATH} of run {run_id}",
        "the recorded requests that the candidate stage read",
        recording.found if recording else "no such artifact",
        "Put it back (incumbent record), then materialize serving_model.",
    )
    raise not_judged(promotion, committed, StageEnded(State.HELD, problem))


def gate_checks(gate: Gate, wrong_answers: int) -> tuple[Check, ...]:
    """Return the checks of the gate, with a table and chartable numbers of its last evaluation.

    Args:
        gate: what the gate measured, and how it ended.
        wrong_answers: how many of them fail the check of recorded requests.
    """
    last = gate.evaluations[-1]
    passed = gate.verdict.kind is VerdictKind.PASSED
    recorded = newest_round(gate.evaluations) or RecordedRound(0, 0)
    too_many_wrong = len(recorded.wrong) >= wrong_answers
    answered_right = not too_many_wrong and not recorded.unanswered and recorded.asked > 0
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
    answers = [{"asked": fault.asked, "finding": fault.reason} for fault in (*recorded.wrong, *recorded.unanswered)]
    return (
        served_check(last.served),
        Check(
            "recorded_requests",
            answered_right,
            f"{right} of {recorded.asked} recorded requests answered correctly",
            tuple(answers),
            {"right": float(right), "asked": float(recorded.asked)},
        ),
        Check("slos", passed, f"{gate.verdict.kind}: {gate.verdict.reason}", tuple(rows), numbers),
    )


def _keep_measurements(promotion: Promotion, committed: CommittedPromotion, gate: Gate) -> str:
    """Put every measurement into the registry beside the run, and return the digest of the document."""
    identity = committed.identity
    measured = {freshness.pod for freshness in gate.evaluations[-1].freshness}
    pods = [pod for pod in gate.workload.new_pods if pod.name in measured]
    document = {
        "promotion_id": str(identity),
        "commit": committed.commit.commit,
        **committed_facts(committed.commit.trailers),
        "verdict": str(gate.verdict.kind),
        "reason": gate.verdict.reason,
        "pods": pods_as_record(pods),
        "template_hash": gate.workload.template_hash,
        "gate_started": format_time(gate.started),
        "soak_started": format_time(gate.soak_started),
        "soak_ended": format_time(gate.evaluations[-1].at),
        "traffic": promotion.policy.gate.traffic,
        "evaluations": [as_record(evaluation) for evaluation in gate.evaluations],
    }
    return put_evidence(promotion, identity, document)


def _champion_alias(promotion: Promotion) -> str:
    """Return what the champion alias names now, such as `version 3`."""
    policy = promotion.policy
    named = promotion.clients.registry.version_by_alias(policy.model, policy.champion_alias)
    return f"version {named.version}" if named is not None else "no version"


def _moved_alias(promotion: Promotion, before: str) -> str:
    """Say where someone moved the champion alias while the version was judged; empty when nobody did.

    The alias is set all the same, because it must name what serves and was proved; what was found is kept.
    """
    now = _champion_alias(promotion)
    if now in (before, f"version {promotion.version.version}"):
        return ""
    alias = promotion.policy.champion_alias
    return f"Someone moved alias {alias} from {before} to {now} while this version was judged."


def _keep_evidence(
    promotion: Promotion, committed: CommittedPromotion, gate: Gate, before: str
) -> Mapping[str, object]:
    """Keep the evidence, then the annotated tag that names its digest; only then may the alias move."""
    digest = _keep_measurements(promotion, committed, gate)
    identity, path = committed.identity, committed.identity.evidence_path
    moved = _moved_alias(promotion, before)
    message = (
        f"{identity.policy}: version {identity.version} passed\n\n"
        f"Promotion-Id: {identity}\nVerdict: {gate.verdict.kind}\nEvidence: {path}\nEvidence-Digest: {digest}\n"
        f"{_CHAMPION_BEFORE}: {before}\n" + (f"Alias-Moved: {moved}\n" if moved else "")
    )
    promotion.lease.create_tag(identity.evidence_tag, committed.commit.commit, message)
    return {"evidence": path, "evidence_digest": digest}


def _crown(
    promotion: Promotion,
    committed: CommittedPromotion,
    checks: tuple[Check, ...],
    evidence: Mapping[str, object],
    before: str,
) -> StageDone:
    """Move the alias and read it back; `before` is what it named when the judging began."""
    policy, registry, version = promotion.policy, promotion.clients.registry, promotion.version
    moved = _moved_alias(promotion, before)
    if moved:
        promotion.say(moved)
    checklist = Checklist(checks)
    problem = set_champion_alias(promotion, "materialize serving_model again")
    if problem is not None:
        raise checklist.failed("champion_alias", problem, State.HELD)
    evidence_path = str(evidence.get("evidence", ""))
    record_left(promotion, committed)
    end_former_champions(promotion)
    reason = f"{in_words(committed)} {moved}".strip()
    promotion.record.write(State.CHAMPION, reason, evidence=evidence_path, commit=committed.commit.commit)
    promotion.say(f"version {version.version} of {version.model} is the champion of {policy.name}")
    read_back = f"Alias {policy.champion_alias} names version {version.version}, read back."
    checklist.passed("champion_alias", f"{read_back} {moved}".rstrip())
    facts = {"promotion_id": str(committed.identity), "version_url": registry.version_url(version), **evidence}
    return StageDone(tuple(checklist.checks), facts, State.CHAMPION)


def _links(promotion: Promotion) -> Mapping[str, object]:
    return {"service": promotion.policy.service.address(promotion.policy.model)}


STAGE = Stage(
    name="serving_model",
    description="The version, proved healthy under its SLOs and recorded requests, and champion; or taken back.",
    kinds=frozenset({"prometheus"}),
    checks={
        "served_model": "No new pod serves another model than this version, by its server's own word or by its spec.",
        "recorded_requests": "Each new pod and the service answer the recorded requests as they were recorded.",
        "slos": "Every SLO of the policy held for the whole soak, with enough samples and traffic.",
        "champion_alias": "The champion alias names this version: written, and read back.",
    },
    takes_lease=True,
    work=serve,
    links=_links,
)

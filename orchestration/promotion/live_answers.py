"""Whether what serves now answers its own recorded requests: if not, the policy's way to ask may be wrong."""

from dataclasses import replace

from orchestration.promotion.cluster_status import WorkloadStatus
from orchestration.promotion.evaluation import AnswerFault, RecordedRound
from orchestration.promotion.looks import Look, fits, noted, refused, waits
from orchestration.promotion.policy import Policy
from orchestration.promotion.problems import Problem
from orchestration.promotion.recorded_requests import Recording
from orchestration.promotion.texts import one_line

ANSWERS = "recorded requests"
_MOST_ASKED = 3
"""How many recorded requests are asked: what they find out is the same for all of them, and the gate asks them all."""
_BUSY = frozenset({408, 425, 429})
_WRONG_WAY = {
    401: "it asks for a login",
    403: "it lets nobody in",
    404: "there is no such path",
    405: "that path takes no POST",
    406: "it gives no such form of answer",
    407: "a proxy asks for a login",
    415: "it takes no such form of request",
    421: "it serves another host name",
}


def few_of(recording: Recording) -> Recording:
    """Return a recording with the first of its requests."""
    return recording.model_copy(update={"requests": recording.requests[:_MOST_ASKED]})


def one_pod_of(workload: WorkloadStatus) -> WorkloadStatus:
    """Return a workload with only its first ready pod: how pods are asked is the same for all of them."""
    return replace(workload, pods=tuple(pod for pod in workload.new_pods if pod.ready)[:1])


def look_at_answers(policy: Policy, version: int, recorded: RecordedRound, problems: list[Problem]) -> Look:
    """Judge how what serves now answered its own recorded requests.

    Another answer than the recorded one stands in no way, because the promotion may be its cure.

    Args:
        policy: says where and how they were asked.
        version: the version that serves now.
        recorded: the answers.
        problems: why a dependency did not answer.
    """
    subject = f"the recorded requests of version {version}, which serves now"
    if (misdirected := _misdirected(policy, subject, recorded)) is not None:
        return misdirected
    silent = next((fault for fault in (*recorded.wrong, *recorded.unanswered) if _is_silence(fault)), None)
    if silent is not None or not recorded.is_complete:
        return _unanswered(subject, silent, problems)
    if recorded.wrong:
        first = recorded.wrong[0]
        return noted(ANSWERS, f"version {version} does not answer as recorded ({first.asked}: {first.reason})")
    return fits(ANSWERS, f"version {version} answers as recorded ({recorded.asked} asked)")


def difference_before(
    policy: Policy, version: int, recorded: RecordedRound, problems: list[Problem], *, is_well: bool
) -> Look | str:
    """Find out whether what serves now answers otherwise than the version to promote.

    Only the pod's own answers count, because the service may lead to something else for a while. An error is no answer
    of a model: what fails for a moment may answer as this version does in the next. A request that what serves refuses
    (4xx) counts where it is well otherwise: it may have other inputs.

    Args:
        policy: says where and how they were asked, and how many wrong answers reject a version.
        version: the version to promote.
        recorded: how what serves answered that version's recorded requests.
        problems: why a dependency did not answer.
        is_well: whether what serves has just answered its own recorded requests as recorded.

    Returns:
        The first difference in words, when there are so many that the gate would reject what serves as this version;
        an empty text when there are not; or what stands in the way of knowing.
    """
    subject = f"the recorded requests of version {version}, asked of what serves now"
    if (misdirected := _misdirected(policy, subject, recorded)) is not None:
        return misdirected
    wrong = [fault for fault in recorded.wrong if _is_of_a_pod(fault)]
    other = [fault for fault in wrong if not _is_silence(fault) and (is_well or fault.status < 300)]
    if len(other) >= policy.gate.wrong_answers:
        return one_line(f"{other[0].asked}: {other[0].reason}")
    silent = next((fault for fault in (*wrong, *recorded.unanswered) if _is_silence(fault)), None)
    if silent or not recorded.is_complete:
        return _unanswered(subject, silent, problems)
    if refusal := next((fault for fault in wrong if fault not in other), None):
        next_step = "Record requests that what serves takes as well, or let the server export model_info."
        found = f"{refusal.asked}: {refusal.reason}"
        return refused(ANSWERS, Problem(subject, "an answer to each, which tells what serves apart", found, next_step))
    return ""


def _is_of_a_pod(fault: AnswerFault) -> bool:
    return fault.asked.startswith("pod ")


def _misdirected(policy: Policy, subject: str, recorded: RecordedRound) -> Look | None:
    for fault in (*recorded.wrong, *recorded.unanswered):
        if (why := _wrong_way(fault)) is not None:
            return refused(ANSWERS, _problem(policy, subject, fault, why))
    return None


def _unanswered(subject: str, silent: AnswerFault | None, problems: list[Problem]) -> Look:
    if problems:
        return waits(ANSWERS, problems[0])
    found = f"{silent.asked}: {silent.reason}" if silent is not None else "not all of them asked"
    next_step = "Look at the service and its pods. The promotion goes on by itself when they answer."
    return waits(ANSWERS, Problem(subject, "an answer to each", found, next_step))


def _wrong_way(fault: AnswerFault) -> str | None:
    """Say why a request cannot have reached the model, whatever serves; None when it may have."""
    if _is_of_a_pod(fault) and "connection refused" in fault.reason.lower():
        return "a ready pod does not listen at that port"
    return _WRONG_WAY.get(fault.status)


def _is_silence(fault: AnswerFault) -> bool:
    return fault.status == 0 or fault.status in _BUSY or fault.status >= 500


def _problem(policy: Policy, subject: str, fault: AnswerFault, why: str) -> Problem:
    found = f"{fault.asked}: {fault.reason} ({why})"
    next_step = f"Correct service (url, path, port, headers, protocol) in {policy.name}.yaml."
    return Problem(subject, "an answer of the model", found, next_step)

"""Recorded requests, sent to pods and to the service, and what is wrong with the answers (design rule 5)."""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from orchestration.promotion.cluster_status import PodStatus, WorkloadStatus
from orchestration.promotion.evaluation import AnswerFault, RecordedRound
from orchestration.promotion.pod_port import pod_port
from orchestration.promotion.pods import lost_with_its_node
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Answer, Clients, Headers
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.recorded_requests import REPLAY_HEADER, Recording, compare
from orchestration.promotion.texts import one_line


@dataclass(frozen=True)
class Replay:
    """Recorded requests, and who must answer them: each of the pods, through the pod proxy, and the service."""

    clients: Clients
    policy: Policy
    """Names the service, the container and what is tolerated."""
    workload: WorkloadStatus
    """As it was last read."""
    pods: Sequence[PodStatus]
    recording: Recording
    promotion: str
    """The promotion's id, which marks the requests as replayed."""
    keep_lease: Callable[[], object]
    """Called before each request, because the answers together may take longer than a lease."""


def replay_round(asked: Replay, problems: list[Problem]) -> RecordedRound:
    """Replay the recording; where rounds are rare, as often in one as it takes to meet the SLOs' minimums alone.

    Args:
        asked: what is asked, and who.
        problems: receives why a dependency did not answer.
    """
    gate = asked.policy.gate
    once = replay_once(asked, problems)
    times = 1
    if gate.traffic == "replayed_ok" and not gate.tells_replayed:
        times = max(1, *(math.ceil(slo.min_requests / max(1, once.due)) for slo in gate.slos))
    rounds = [once]
    while len(rounds) < times and rounds[-1].is_complete and len(rounds[-1].wrong) < gate.wrong_answers:
        rounds.append(replay_once(asked, problems))
    return RecordedRound(
        sum(each.due for each in rounds),
        sum(each.asked for each in rounds),
        max((each.wrong for each in rounds), key=len),
        rounds[-1].unanswered,
    )


def replay_once(asked: Replay, problems: list[Problem]) -> RecordedRound:
    """Send every recorded request once to each pod and to the service.

    Args:
        asked: what is asked, and who.
        problems: receives why a dependency did not answer.
    """
    count = 0
    wrong: list[AnswerFault] = []
    unanswered: list[AnswerFault] = []
    for target, pod, ask in _targets(asked, problems):
        sent, bad, silent = _ask_all(target, ask, asked, problems, behind_routes=pod is None)
        if bad and pod is not None and (excuse := _excuse(asked.clients, asked.policy, pod, problems)):
            bad, silent = [], [*silent, *(AnswerFault(fault.asked, excuse) for fault in bad)]
        count += sent
        wrong += bad
        unanswered += silent
    due = len(asked.recording.requests) * (len(asked.pods) + 1)
    return RecordedRound(due, count, tuple(wrong), tuple(unanswered))


_Target = tuple[str, PodStatus | None, Callable[[bytes], Answer]]
"""What a target is called, its pod (None for the service), and how it is asked."""


def _targets(asked: Replay, problems: list[Problem]) -> list[_Target]:
    """List the pods, unless nobody knows at which port to ask them, and the service."""
    clients, policy, service = asked.clients, asked.policy, asked.policy.service
    headers: Headers = {**service.headers, REPLAY_HEADER: asked.promotion}
    targets: list[_Target] = []
    port = _pod_port(clients, policy, asked.workload)
    if isinstance(port, Problem):
        problems.append(port)
    else:
        path, namespace = service.pod_path(policy.model), asked.workload.namespace
        for pod in asked.pods:
            ask_pod = partial(_ask_pod, clients, namespace, pod.name, port, path, headers, service.timeout)
            targets.append((f"pod {pod.name}", pod, ask_pod))
    url = service.address(policy.model)
    targets.append((url, None, lambda body: clients.service.ask(url, body, headers, service.timeout)))
    return targets


def _pod_port(clients: Clients, policy: Policy, workload: WorkloadStatus) -> int | Problem:
    """Where pods are asked; a cluster that does not answer is a problem, too."""
    try:
        return pod_port(policy, workload, clients.cluster)
    except DependencyError as error:
        return error.problem


def _ask_pod(
    clients: Clients, namespace: str, pod: str, port: int, path: str, headers: Headers, timeout: float, body: bytes
) -> Answer:
    return clients.cluster.ask_pod(namespace, pod, port, path, body, headers, timeout)


def _excuse(clients: Clients, policy: Policy, pod_before: PodStatus, problems: list[Problem]) -> str | None:
    """Why a pod's wrong answers are not the model's: the pod is being deleted, or starts again after its node failed.

    The pod is read again after it has answered, because its status from before may be older than its restart.
    """
    target = policy.manifest
    try:
        workload = clients.cluster.workload(target.kind, target.namespace, target.name)
    except DependencyError as error:
        problems.append(error.problem)
        return f"the pod's status cannot be read: {error.problem.found}"
    new_pods = workload.new_pods if workload is not None else ()
    pod = next((pod for pod in new_pods if pod.uid == pod_before.uid), None)
    if pod is None:
        return "the pod is being deleted"
    if lost_with_its_node(pod, target.container):
        return f"its node {pod.node} went down, and the pod is not ready yet"
    return None


def _ask_all(
    target: str,
    ask: Callable[[bytes], Answer],
    asked: Replay,
    problems: list[Problem],
    *,
    behind_routes: bool,
) -> tuple[int, list[AnswerFault], list[AnswerFault]]:
    """Send all requests to one target: how many were sent, the wrong answers, and the request without an answer.

    An answer is wrong when the same request, sent again at once, is answered wrong again. One request without an answer
    ends the target's round, so that time-outs do not add up.
    """
    wrong: list[AnswerFault] = []
    recording, rules = asked.recording, asked.recording.rules()
    for number, recorded in enumerate(recording.requests, start=1):
        label = f"{target}, recorded request {number} of {len(recording.requests)}"
        body, reason = json.dumps(recorded.request).encode(), None
        for _ in range(2):
            asked.keep_lease()
            try:
                answer = ask(body)
            except DependencyError as error:
                problems.append(error.problem)
                return number, wrong, [AnswerFault(label, error.problem.found)]
            if silence := _silence(answer, behind_routes=behind_routes):
                return number, wrong, [AnswerFault(label, silence)]
            reason = compare(recorded, answer, rules)
            if reason is None:
                break
        if reason is not None:
            wrong.append(AnswerFault(label, reason, answer.status))
    return len(recording.requests), wrong, []


def _silence(answer: Answer, *, behind_routes: bool) -> str | None:
    """Why no pod answered: the API server did itself (`kind: Status`), time ran out, or the route leads to no pod."""
    if answer.from_api:
        return f"the API server answered {answer.status} itself: {_said(answer)}"
    if answer.status == 0:
        return f"no answer: {_said(answer)}"
    if behind_routes and not answer.is_routed:  # routes lag behind Healthy by about a second (design rule 4)
        return f"status {answer.status}: the route leads to no pod yet"
    return None


def _said(answer: Answer) -> str:
    """Return the beginning of what was said in place of an answer; of the API server's `Status`, its message."""
    text = answer.body.decode("utf-8", "replace")
    with suppress(ValueError, RecursionError):
        status = json.loads(text)
        text = str(status.get("message", text)) if isinstance(status, dict) else text
    return one_line(text[:200])

"""Why a pod does not come up, told from its own status and events, and whose fault that is (design rule 6).

A promotion changes one container's image and nothing else. So only that container's image, process and memory can be
the model's fault; a missing Secret, another container, a node or a registry that refuses us are ours.
"""

import re
from dataclasses import dataclass
from typing import Literal

from orchestration.promotion.cluster_status import ContainerStatus, PodStatus

Kind = Literal["image_pull", "crash", "oom", "start", "config", "probe", "unschedulable", "evicted", "node", "starting"]

CRASHES_ARE_FINAL = 2
"""Restarts of a new pod after which waiting is over: the first may be bad luck at start, the second is a pattern."""


_LOST = "Unknown"
"""The reason of a container that ended because its node went down (exit code 255): nobody saw its end."""


@dataclass(frozen=True)
class LogToRead:
    """Which log holds a container's last words; `previous` means the instance before the present one."""

    pod: str
    container: str
    previous: bool


@dataclass(frozen=True)
class PodTrouble:
    kind: Kind
    fault: Literal["model", "platform"]
    sentence: str
    """What is wrong with which pod, for a person."""
    final: bool = False
    """Whether waiting longer cannot help, so that the rollout fails before its deadline."""
    log: LogToRead | None = None


def explain(pod: PodStatus, container: str) -> PodTrouble | None:
    """Why a pod is not ready, where `container` is the one whose image was promoted; None when nothing is wrong.

    Trouble that is not final may still pass by itself: at the rollout's deadline it is the reason.
    """
    if pod.deleting:
        return None
    if pod.finished:
        return PodTrouble("evicted", "platform", f"pod {pod.name} ended: {pod.reason or f'phase {pod.phase}'}")
    if pod.unschedulable is not None:
        return PodTrouble("unschedulable", "platform", f"pod {pod.name} cannot be placed: {pod.unschedulable}")
    status = pod.container(container)
    if status is not None and (trouble := _promoted(pod, status)):
        return trouble
    for other in pod.containers:
        if other.name != container and (trouble := _promoted(pod, other)):
            sentence = f"{trouble.sentence}; that container's image was not promoted"
            return PodTrouble(trouble.kind, "platform", sentence, log=trouble.log)
    if pod.ready:
        return None
    return _unready(pod, container, status)


def own_restarts(status: ContainerStatus) -> int:
    """Restarts for which the container itself may be blamed: the last one is not, when its node had gone down."""
    return max(0, status.restarts - (status.last_terminated_reason == _LOST))


def lost_with_its_node(pod: PodStatus, container: str) -> bool:
    """Whether a pod is not ready because its node went down, until it has come up again there."""
    status = pod.container(container)
    if pod.ready or status is None:
        return False
    return status.ready or _LOST in (status.terminated_reason, status.last_terminated_reason)


def _promoted(pod: PodStatus, status: ContainerStatus) -> PodTrouble | None:
    """The trouble of one container, taken for the promoted one."""
    where = f"container {status.name} of pod {pod.name}"
    reason, message = status.waiting_reason or "", status.waiting_message or ""
    if reason in _PULL_REASONS:
        return _pull(pod, where, reason, message)
    if reason == "CreateContainerConfigError":
        # A Secret or ConfigMap that is missing was so before; an image that runs as root is the new image's doing.
        image = "runAsNonRoot" in message or "non-root" in message
        sentence = f"{where} cannot be configured: {message or reason}"
        return PodTrouble("config", "model" if image else "platform", sentence, final=image)
    if reason in ("CreateContainerError", "RunContainerError"):
        image = _IMAGE_CANNOT_START.search(message) is not None
        return PodTrouble(
            "start", "model" if image else "platform", f"{where} cannot start: {message or reason}", image
        )
    if "OOMKilled" in (status.terminated_reason, status.last_terminated_reason):
        return PodTrouble(
            "oom", "model", f"{where} was OOMKilled: it needs more than its limit", True, _log(pod, status)
        )
    return _crash(pod, status, where)


_PULL_REASONS = frozenset(
    (
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    )
)
_QUOTED_OR_DIGEST = re.compile(r'"[^"]*"|sha256:[0-9a-f]+')
_REFUSED_US = re.compile(
    r"\b(?:40[137]|408|429|5\d\d)\b|unauthorized|forbidden|denied|authoriz|authentication|time(?:d )?out"
    r"|deadline exceeded|connection re(?:fused|set)|no such host|unreachable|no route|x509|certificate|\btls\b|\beof\b"
    r"|too ?many ?requests|server error|unavailable|no space left",
    re.IGNORECASE,
)
_NO_SUCH_IMAGE = re.compile(
    r"manifest unknown|name unknown|not found|no match for platform|no matching manifest", re.IGNORECASE
)
_IMAGE_CANNOT_START = re.compile(
    r"executable file not found|no such file or directory|exec format error|permission denied", re.IGNORECASE
)


def _pull(pod: PodStatus, where: str, reason: str, message: str) -> PodTrouble:
    """A pull is the model's fault only when the registry answered that there is no such image.

    While it backs off, the status of older kubelets says no cause: the last event of a failed pull does.
    """
    events = [text for text in pod.warnings if "Failed to pull" in text]
    said = " ".join([message, *events[-1:]])
    plain = _QUOTED_OR_DIGEST.sub("", said)  # an image's name may hold "401" or "not-found"
    unknown = _NO_SUCH_IMAGE.search(plain) is not None and _REFUSED_US.search(plain) is None
    sentence = f"{where} has no image: {said.strip() or reason}"
    return PodTrouble("image_pull", "model" if unknown else "platform", sentence, final=unknown)


def _crash(pod: PodStatus, status: ContainerStatus, where: str) -> PodTrouble | None:
    looping = status.waiting_reason == "CrashLoopBackOff"
    stopped = status.terminated_exit_code is not None
    if _LOST in (status.terminated_reason, status.last_terminated_reason):
        lost = f"{where} was lost when node {pod.node} went down"
        return PodTrouble("node", "platform", lost) if looping or stopped else None
    crashed_before = status.last_exit_code is not None and status.restarts > 0
    if not (looping or stopped or (crashed_before and not status.ready)):
        return None
    if stopped and status.terminated_exit_code == 0 and not status.restarts:
        return None  # an init container that has done its work
    code = status.terminated_exit_code if stopped else status.last_exit_code
    last_words = f" ({status.last_message.strip()})" if status.last_message else ""
    sentence = f"{where} crashed with exit code {code}{last_words}, restarted {status.restarts} times"
    if probe := _last_probe(pod, "Liveness"):
        sentence += f"; {probe}"
    return PodTrouble("crash", "model", sentence, looping or status.restarts >= CRASHES_ARE_FINAL, _log(pod, status))


def _unready(pod: PodStatus, container: str, status: ContainerStatus | None) -> PodTrouble:
    """A pod that is not ready though nothing has visibly failed."""
    if status is None or status.waiting_reason is not None or not pod.containers:
        cause = pod.warnings[-1] if pod.warnings else (status and status.waiting_reason) or "no container status yet"
        return PodTrouble("starting", "platform", f"pod {pod.name} has not started {container}: {cause}")
    if status.ready:
        others = [one.name for one in pod.containers if not one.ready and one.terminated_exit_code is None]
        why = f"container {others[0]} is not" if others else f"its node {pod.node} or a readiness gate says no"
        return PodTrouble("node", "platform", f"pod {pod.name} is not ready although {container} is: {why}")
    probe = _last_probe(pod, "Readiness") or _last_probe(pod, "Startup") or "no probe has succeeded"
    sentence = f"container {container} of pod {pod.name} runs but is not ready: {probe}"
    return PodTrouble("probe", "model", sentence, log=_log(pod, status))


def _last_probe(pod: PodStatus, probe: str) -> str | None:
    said = [text for text in pod.warnings if f"{probe} probe" in text]
    return said[-1].removeprefix("Unhealthy: ") if said else None


def _log(pod: PodStatus, status: ContainerStatus) -> LogToRead:
    # The present instance's log is read while it runs, unless what matters is why the one before it ended.
    ended_before = status.last_exit_code is not None and status.terminated_exit_code is None
    return LogToRead(pod.name, status.name, previous=ended_before)

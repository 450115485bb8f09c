"""Why a pod does not become ready, by its own status and events, and whose fault that is (design rule 6).

A promotion changes one container's image and nothing else. So only that container's image, process and memory can be
the model's fault; a missing Secret, another container, a node or a registry that denies access is the platform's. Where
it changes the model's address in place of the image, the image is not the model's either.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orchestration.promotion.cluster_status import ContainerStatus, PodStatus

Kind = Literal[
    "image_pull",
    "crash",
    "oom",
    "start",
    "config",
    "probe",
    "unschedulable",
    "evicted",
    "node",
    "starting",
    "aborted",
]

CRASHES_ARE_FINAL = 2
"""Restarts of a new pod that end the waiting: the first may be bad luck at start, the second is a pattern."""

_LOST = "Unknown"
"""The reason that a kubelet gives for a container that ended with its node (exit code 255): nothing saw it end."""


@dataclass(frozen=True)
class LogToRead:
    """Which log has a container's last words; `previous` means the instance before the current one."""

    pod: str
    container: str
    previous: bool


@dataclass(frozen=True)
class PodTrouble:
    """What keeps a pod from becoming ready."""

    kind: Kind
    fault: Literal["model", "platform"]
    sentence: str
    """What is wrong, and with which pod, in words for a person."""
    final: bool = False
    """Whether waiting longer cannot help, so that the rollout ends before its deadline."""
    log: LogToRead | None = None


def explain(
    pod: PodStatus, container: str, *, also_changed: Sequence[str] = (), image_changed: bool = True
) -> PodTrouble | None:
    """Say why a pod is not ready; None when nothing is wrong.

    Trouble that is not final may still pass by itself; at the rollout's deadline it is the reason for the failure.

    Args:
        pod: one of the current template.
        container: the name of the container that serves, which the promotion changed.
        also_changed: the names of other containers that it changed.
        image_changed: whether it changed the image, and not the address of the model.
    """
    changed = (container, *also_changed)
    if pod.deleting:
        return None
    if pod.finished:
        return PodTrouble("evicted", "platform", f"pod {pod.name} has ended: {pod.reason or f'phase {pod.phase}'}")
    if pod.unschedulable is not None:
        return PodTrouble("unschedulable", "platform", f"pod {pod.name} cannot be scheduled: {pod.unschedulable}")
    for name in changed:
        status = pod.container(name)
        if status is not None and (trouble := _container_trouble(pod, status)):
            return trouble if image_changed else _without_image(trouble)
    for other in pod.containers:
        if other.name not in changed and (trouble := _container_trouble(pod, other)):
            sentence = f"{trouble.sentence}; the promotion did not change that container"
            return PodTrouble(trouble.kind, "platform", sentence, log=trouble.log)
    if pod.ready:
        return None
    return _unready(pod, container, pod.container(container))


def _without_image(trouble: PodTrouble) -> PodTrouble:
    """Judge a container's trouble when the promotion left its image alone."""
    if trouble.kind not in ("image_pull", "config", "start"):
        return trouble
    sentence = f"{trouble.sentence}; the promotion did not change that image"
    return PodTrouble(trouble.kind, "platform", sentence, log=trouble.log)


def own_restarts(status: ContainerStatus) -> int:
    """Count the restarts that the container itself may have caused: all but a last one because its node went down."""
    return max(0, status.restarts - (status.last_terminated_reason == _LOST))


def lost_with_its_node(pod: PodStatus, container: str) -> bool:
    """Whether a pod is not ready because its node went down; it is so until it has started again there."""
    status = pod.container(container)
    if pod.ready or status is None:
        return False
    return status.ready or _LOST in (status.terminated_reason, status.last_terminated_reason)


def _container_trouble(pod: PodStatus, status: ContainerStatus) -> PodTrouble | None:
    """What is wrong with one container, judged as if its image had been promoted."""
    where = f"container {status.name} of pod {pod.name}"
    reason, message = status.waiting_reason or "", status.waiting_message or ""
    if reason in _PULL_REASONS:
        return _pull(pod, where, reason, message)
    if reason == "CreateContainerConfigError":
        # A missing Secret or ConfigMap was missing before; that the image runs as root came with the new image.
        image_fault = "runAsNonRoot" in message or "non-root" in message
        sentence = f"{where} cannot be configured: {message or reason}"
        return PodTrouble("config", "model" if image_fault else "platform", sentence, final=image_fault)
    if reason in ("CreateContainerError", "RunContainerError"):
        image_fault = _IMAGE_CANNOT_START.search(message) is not None
        sentence = f"{where} cannot start: {message or reason}"
        return PodTrouble("start", "model" if image_fault else "platform", sentence, final=image_fault)
    if "OOMKilled" in (status.terminated_reason, status.last_terminated_reason):
        sentence = f"{where} was OOMKilled: it needs more memory than its limit"
        return PodTrouble("oom", "model", sentence, True, _log(pod, status))
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
_PULL_DENIED = re.compile(
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
    """A failed pull is the model's fault only when the registry answered that it has no such image.

    While an older kubelet backs off, its status does not give the cause; the last event about a failed pull does.
    """
    events = [text for text in pod.warnings if "Failed to pull" in text]
    cause = " ".join([message, *events[-1:]])
    plain = _QUOTED_OR_DIGEST.sub("", cause)  # an image's name may contain "401" or "not-found"
    unknown = _NO_SUCH_IMAGE.search(plain) is not None and _PULL_DENIED.search(plain) is None
    sentence = f"{where} has no image: {cause.strip() or reason}"
    return PodTrouble("image_pull", "model" if unknown else "platform", sentence, final=unknown)


def _crash(pod: PodStatus, status: ContainerStatus, where: str) -> PodTrouble | None:
    looping = status.waiting_reason == "CrashLoopBackOff"
    stopped = status.terminated_exit_code is not None
    if _LOST in (status.terminated_reason, status.last_terminated_reason):
        lost = f"{where} ended when node {pod.node} went down"
        return PodTrouble("node", "platform", lost) if looping or stopped else None
    crashed_before = status.last_exit_code is not None and status.restarts > 0
    if not (looping or stopped or (crashed_before and not status.ready)):
        return None
    if stopped and status.terminated_exit_code == 0 and not status.restarts:
        return None  # an init container that has finished its work
    code = status.terminated_exit_code if stopped else status.last_exit_code
    last_words = f" ({status.last_message.strip()})" if status.last_message else ""
    sentence = f"{where} crashed with exit code {code}{last_words}, restarted {status.restarts} times"
    if probe := _last_probe(pod, "Liveness"):
        sentence += f"; {probe}"
    return PodTrouble("crash", "model", sentence, looping or status.restarts >= CRASHES_ARE_FINAL, _log(pod, status))


def _unready(pod: PodStatus, container: str, status: ContainerStatus | None) -> PodTrouble:
    """Why a pod is not ready although nothing has visibly failed."""
    if status is None or status.waiting_reason is not None or not pod.containers:
        cause = pod.warnings[-1] if pod.warnings else (status and status.waiting_reason) or "no container status yet"
        return PodTrouble("starting", "platform", f"pod {pod.name} has not started {container}: {cause}")
    if status.ready:
        others = [other.name for other in pod.containers if not other.ready and other.terminated_exit_code is None]
        why = f"container {others[0]} is not" if others else f"node {pod.node} or a readiness gate prevents it"
        return PodTrouble("node", "platform", f"pod {pod.name} is not ready although {container} is: {why}")
    probe = _last_probe(pod, "Readiness") or _last_probe(pod, "Startup") or "no probe has succeeded"
    sentence = f"container {container} of pod {pod.name} runs but is not ready: {probe}"
    return PodTrouble("probe", "model", sentence, log=_log(pod, status))


def _last_probe(pod: PodStatus, probe: str) -> str | None:
    events = [text for text in pod.warnings if f"{probe} probe" in text]
    return events[-1].removeprefix("Unhealthy: ") if events else None


def _log(pod: PodStatus, status: ContainerStatus) -> LogToRead:
    # The log of the instance that ended matters: it is the previous one as soon as the container runs again.
    ended_before = status.last_exit_code is not None and status.terminated_exit_code is None
    return LogToRead(pod.name, status.name, previous=ended_before)

"""An alert about a pod, as Alertmanager's labels have it, and which workload the pod belongs to."""

import re
from dataclasses import dataclass

from orchestration.analysis.markdown import visible
from orchestration.promotion.texts import one_line

_CHARACTERS = 300
"""Where a label is cut: no name in Kubernetes is as long."""
_MISSING = "none"
"""What the dispatcher sends for a label that an alert does not have."""
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_NUMBER = re.compile(r"(?<!\S)\d\S*")
# The alphabet of generated names, without vowels and digits that look like letters.
_SAFE = "bcdfghjklmnpqrstvwxz2456789"
_OF_DEPLOYMENT = re.compile(rf"(?P<workload>.+?)-[{_SAFE}]{{5,10}}-[{_SAFE}]{{5}}")
_OF_CRON_JOB = re.compile(rf"(?P<workload>.+?)-\d{{7,11}}(?:-[{_SAFE}]{{5}})?")
_OF_DAEMON_SET_OR_JOB = re.compile(rf"(?P<workload>.+?)-[{_SAFE}]{{5}}")
_OF_STATEFUL_SET = re.compile(r"(?P<workload>.+?)-\d{1,5}")


@dataclass(frozen=True)
class Alert:
    """What fired, by its labels; one that it does not have is empty.

    Whoever names a pod or writes a rule chooses these texts.
    """

    cluster: str
    name: str
    severity: str
    namespace: str
    pod: str
    """Empty for an alert that is about no single pod."""
    policy: str = ""
    """The policy whose workload it is about; empty for an alert that names none."""
    summary: str = ""
    """What the alert says in words, with the number for which it fires."""

    @property
    def about(self) -> str:
        """What an alert that names no pod is about: its policy, or its words without numbers, which change."""
        return self.policy or one_line(_NUMBER.sub(" ", self.summary))

    @property
    def names_pod(self) -> bool:
        """Whether a pod may have these names, so that the cluster can be asked about it."""
        return bool(_OBJECT_NAME.fullmatch(self.namespace) and _OBJECT_NAME.fullmatch(self.pod))


def alert_of(
    cluster: str, name: str, severity: str, namespace: str, pod: str, policy: str = "", summary: str = ""
) -> Alert:
    """Return the alert of these labels and this annotation."""
    return Alert(*(read_label(label) for label in (cluster, name, severity, namespace, pod, policy, summary)))


def read_label(text: str) -> str:
    """Return a label on one line and cut; empty for one that the alert does not have."""
    label = one_line(visible(text))[:_CHARACTERS]
    return label if label != _MISSING else ""


def cron_job_of(job: str) -> str:
    """Return the name of the CronJob that made a Job at its time; the Job's own name when none did."""
    match = _OF_CRON_JOB.fullmatch(job)
    return match["workload"] if match is not None else job


def workload_of_name(pod: str) -> str:
    """Return the name of the workload that made a pod, from the pod's name alone: for a pod that is gone."""
    for form in (_OF_CRON_JOB, _OF_DEPLOYMENT, _OF_DAEMON_SET_OR_JOB, _OF_STATEFUL_SET):
        if match := form.fullmatch(pod):
            return match["workload"]
    return pod

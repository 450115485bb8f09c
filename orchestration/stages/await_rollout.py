"""Waiting for a committed image to be truly rolled out: design rule 4, with deadlines of our own."""

from dataclasses import dataclass

from orchestration.promotion.cluster_status import ApplicationStatus, WorkloadStatus
from orchestration.promotion.identity import how_to_retry
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.rollout_assessment import (
    ModelFailed,
    NotJudged,
    Progressing,
    RolledOut,
    assess,
    at_deadline,
)
from orchestration.promotion.rollout_conditions import Condition, Expected, conditions
from orchestration.stages.session import Session

_POLL_SECONDS = 0.5
_ASK_AGAIN_SECONDS = 5.0
"""A refresh that arrives during a reconcile is dropped (argo-cd#28392): it is asked for until something moves."""


@dataclass(frozen=True)
class Undone:
    """Somebody put another image into the manifest after our commit."""

    image: str


@dataclass(frozen=True)
class Waited:
    """How the waiting ended, what was seen last, and since when each condition holds (seconds since the epoch)."""

    outcome: RolledOut | ModelFailed | NotJudged | Undone
    conditions: tuple[Condition, ...]
    workload: WorkloadStatus | None
    seen: dict[str, float]


def wait_rolled_out(session: Session, expected: Expected) -> Waited:
    """Poll Argo CD and the cluster until the image is rolled out, failed, undone, or the policy's deadline is over.

    Argo CD goes on saying Synced and Healthy of a dead cluster, so the cluster itself is asked each time.

    Raises:
        StageEnded: the lease was lost.
    """
    clock, policy = session.clients.clock, session.policy
    deadline = clock.now() + policy.rollout.deadline
    revisions = _Revisions(session, expected)
    refreshes = _Refreshes(session)
    seen: dict[str, float] = {}
    last_said = ""
    while True:
        session.keep()
        workload: WorkloadStatus | None = None
        found: tuple[Condition, ...] = ()
        outcome: RolledOut | Progressing | ModelFailed | NotJudged | Undone | DependencyError
        try:
            application, workload = observe(session)
            outcome = assess(application, workload, expected, revisions.carry_our_image)
            found = conditions(application, workload, expected, revisions.carry_our_image)
            if revisions.undone is not None:
                outcome = Undone(revisions.undone)
            elif isinstance(outcome, Progressing):
                refreshes.ask(outcome)
                if clock.now() >= deadline:
                    outcome = at_deadline(application, workload, expected)
        except DependencyError as error:
            outcome = NotJudged(error.problem) if clock.now() >= deadline else error
        _date(found, seen, clock.now())
        if not isinstance(outcome, Progressing | DependencyError):
            return Waited(outcome, found, workload, seen)
        waiting_for = outcome.waiting_for if isinstance(outcome, Progressing) else str(outcome)
        if waiting_for != last_said:
            session.say(f"waiting: {waiting_for}")
            last_said = waiting_for
        clock.sleep(_POLL_SECONDS)


def _date(found: tuple[Condition, ...], seen: dict[str, float], now: float) -> None:
    """Keep since when each condition holds; what held of the old revision says nothing about ours."""
    for condition in found:
        if condition.met:
            seen.setdefault(condition.name, now)
        else:
            seen.pop(condition.name, None)


def observe(session: Session) -> tuple[ApplicationStatus | None, WorkloadStatus | None]:
    """One look at the cluster (which must say that it is ready), the application and the workload."""
    clients, policy, target = session.clients, session.policy, session.policy.manifest
    clients.cluster.ready()
    application = clients.argocd.application(policy.argocd.namespace, policy.argocd.application)
    return application, clients.cluster.workload(target.kind, target.namespace, target.name)


class _Refreshes:
    """Asks Argo CD to look again, and no more often than it helps; hard only once."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.next_at = 0.0
        self.was_hard = False

    def ask(self, outcome: Progressing) -> None:
        now = self.session.clients.clock.now()
        hard = outcome.refresh == "hard"
        if outcome.refresh == "no" or now < self.next_at or (hard and self.was_hard):
            return
        target = self.session.policy.argocd
        self.session.clients.argocd.refresh(target.namespace, target.application, hard=hard)
        self.was_hard = self.was_hard or hard
        self.next_at = now + _ASK_AGAIN_SECONDS


class _Revisions:
    """Whether a revision is our commit or a descendant that still has our image; remembers what it found."""

    def __init__(self, session: Session, expected: Expected) -> None:
        self.session, self.expected = session, expected
        self.known: dict[str, bool] = {}
        self.undone: str | None = None
        """The image that a descendant of our commit has instead of ours."""

    def carry_our_image(self, revision: str) -> bool | None:
        """True, False, or None while the branch as we know it has no such commit."""
        if revision not in self.known:
            answer = self._find(revision)
            if answer is None:
                return None
            self.known[revision] = answer
        return self.known[revision]

    def _find(self, revision: str) -> bool | None:
        git = self.session.clients.git
        if not git.is_ancestor(self.expected.commit, revision):
            if git.is_ancestor(revision, self.expected.commit):
                return False
            git.fetch()
            if not git.is_ancestor(self.expected.commit, revision):
                return None
        image = self.session.image_at(revision) or "no image"
        if image == str(self.expected.image):
            return True
        self.undone = image
        return False


def undone_problem(session: Session, commit: str, image: str) -> Problem:
    """A foreign revert of our commit counts as a rejection (design rule 8)."""
    return Problem(
        str(session.version),
        f"commit {commit[:12]} to stand until it is judged",
        f"{image} in {session.policy.manifest.path}, put there by somebody else",
        how_to_retry(session.policy.name, session.version.version),
    )

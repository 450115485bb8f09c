"""Waiting until a committed image is truly rolled out: design rule 4, with deadlines of our own."""

from dataclasses import dataclass

from orchestration.promotion.application_files import as_one_source
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
from orchestration.promotion.rollout_conditions import Condition, Expected, Revision, conditions
from orchestration.stages.stage import Promotion

_POLL_SECONDS = 0.5
_ASK_AGAIN_SECONDS = 5.0
"""Argo CD drops a refresh that arrives during a reconcile (argo-cd#28392), so it is asked until something moves."""


@dataclass(frozen=True)
class Undone:
    """Someone put another image, or another address, into the manifest after our commit."""

    image: str


@dataclass(frozen=True)
class Waited:
    """How the waiting ended, what was seen last, and since when each condition holds (seconds since the epoch)."""

    outcome: RolledOut | ModelFailed | NotJudged | Undone
    conditions: tuple[Condition, ...]
    workload: WorkloadStatus | None
    met_since: dict[str, float]


def wait_rolled_out(promotion: Promotion, expected: Expected) -> Waited:
    """Poll Argo CD and the cluster until the image is rolled out, failed or undone, or the policy's deadline is over.

    Argo CD goes on reporting a dead cluster as Synced and Healthy, so the cluster itself is asked each time.

    Raises:
        StageEnded: the lease was lost.
    """
    clock, policy = promotion.clients.clock, promotion.policy
    deadline = clock.now() + policy.rollout.deadline
    revisions = _Revisions(promotion, expected)
    refreshes = _Refreshes(promotion)
    met_since: dict[str, float] = {}
    last_said = ""
    while True:
        promotion.lease.keep()
        workload: WorkloadStatus | None = None
        current: tuple[Condition, ...] = ()
        outcome: RolledOut | Progressing | ModelFailed | NotJudged | Undone | DependencyError
        try:
            application, workload = observe(promotion)
            outcome = assess(application, workload, expected, revisions.recognise)
            current = conditions(application, workload, expected, revisions.recognise)
            if revisions.undone is not None:
                outcome = Undone(revisions.undone)
            elif isinstance(outcome, Progressing):
                refreshes.ask(outcome)
                if clock.now() >= deadline:
                    outcome = at_deadline(application, workload, expected, outcome.waiting_for)
        except DependencyError as error:
            outcome = NotJudged(error.problem) if clock.now() >= deadline else error
        _date(current, met_since, clock.now())
        if not isinstance(outcome, Progressing | DependencyError):
            return Waited(outcome, current, workload, met_since)
        waiting_for = outcome.waiting_for if isinstance(outcome, Progressing) else str(outcome)
        if waiting_for != last_said:
            promotion.say(f"waiting: {waiting_for}")
            last_said = waiting_for
        clock.sleep(_POLL_SECONDS)


def _date(current: tuple[Condition, ...], met_since: dict[str, float], now: float) -> None:
    """Keep since when each condition holds; what held for the old revision says nothing about ours."""
    for condition in current:
        if condition.met:
            met_since.setdefault(condition.name, now)
        else:
            met_since.pop(condition.name, None)


def observe(promotion: Promotion) -> tuple[ApplicationStatus | None, WorkloadStatus | None]:
    """Look once at the cluster (which must say that it is ready), the application and the workload."""
    clients, policy, target = promotion.clients, promotion.policy, promotion.policy.manifest
    clients.cluster.ready()
    application = clients.argocd.application(policy.argocd.namespace, policy.argocd.application)
    if application is not None:
        application = as_one_source(application, clients.git.address(), target.path)
    return application, clients.cluster.workload(target.kind, target.namespace, target.name)


class _Refreshes:
    """Asks Argo CD to compare again, no more often than it helps; a hard refresh is asked for only once."""

    def __init__(self, promotion: Promotion) -> None:
        self._promotion = promotion
        self._next_at = 0.0
        self._was_hard = False

    def ask(self, outcome: Progressing) -> None:
        now = self._promotion.clients.clock.now()
        hard = outcome.refresh == "hard"
        if outcome.refresh == "no" or now < self._next_at or (hard and self._was_hard):
            return
        target = self._promotion.policy.argocd
        self._promotion.clients.argocd.refresh(target.namespace, target.application, hard=hard)
        self._was_hard = self._was_hard or hard
        self._next_at = now + _ASK_AGAIN_SECONDS


class _Revisions:
    """Tells what a revision is to our commit, and remembers the answers."""

    def __init__(self, promotion: Promotion, expected: Expected) -> None:
        self._promotion, self._expected = promotion, expected
        self._known: dict[str, Revision] = {}
        self.undone: str | None = None
        """The image that a descendant of our commit has instead of ours."""

    def recognise(self, revision: str) -> Revision:
        """Say what a revision is to our commit; one that Git did not know is looked up again at the next time."""
        known = self._known.get(revision) or self._look_up(revision)
        if known is not Revision.UNKNOWN:
            self._known[revision] = known
        return known

    def _look_up(self, revision: str) -> Revision:
        git, commit = self._promotion.clients.git, self._expected.commit
        image = str(self._expected.deployed)
        if not git.is_ancestor(commit, revision):
            if git.is_ancestor(revision, commit):
                return Revision.EARLIER if self._promotion.image_at(revision) == image else Revision.OTHER
            git.fetch()
            if not git.is_ancestor(commit, revision):
                return Revision.UNKNOWN
        found = self._promotion.image_at(revision) or "no image"
        if found == image:
            return Revision.OURS
        self.undone = found
        return Revision.OTHER


def undone_problem(promotion: Promotion, commit: str, image: str) -> Problem:
    """The problem of a commit that someone else reverted, which counts as a rejection (design rule 8)."""
    return Problem(
        str(promotion.version),
        f"commit {commit[:12]} to stand until it is judged",
        f"{image} in {promotion.policy.manifest.path}, put there by someone else",
        how_to_retry(promotion.policy.name, promotion.version.version),
    )

"""One run's hold on one promotion: its policy, its version, its lease, and how it ends."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestration.promotion.branch_standing import Promoted, Standing, promotions, standing
from orchestration.promotion.manifest import CurrentImage, EditRefused, read_image
from orchestration.promotion.model_version import ModelVersion, policy_tags
from orchestration.promotion.moments import moment_tags
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Clients, LeaseBusy, LeaseLost, LeaseRecord
from orchestration.promotion.problems import DependencyError, Problem, ProblemError
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import format_time

LEASE_SECONDS = 60.0
"""How long a lease outlives its owner: long enough for a slow push, short enough that a crash is soon over."""


@dataclass(frozen=True)
class Check:
    """What one of a stage's fixed checks found; `rows` is shown as a table and `numbers` as charts."""

    name: str
    passed: bool
    summary: str
    rows: tuple[Mapping[str, object], ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)


class StageEnded(ProblemError):  # noqa: N818 - an end, not always an error
    """The promotion does not go on in this run: the state that it is left in, and why."""

    def __init__(self, state: State, problem: Problem, checks: Sequence[Check] = ()) -> None:
        super().__init__(problem)
        self.state = state
        self.checks = tuple(checks)


class Checklist:
    """The checks of one stage as they are judged; the first that fails ends the stage with all that came before."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    def passed(
        self,
        name: str,
        summary: str,
        rows: Sequence[Mapping[str, object]] = (),
        numbers: Mapping[str, float] | None = None,
    ) -> None:
        self.checks.append(Check(name, True, summary, tuple(rows), numbers or {}))

    def failed(
        self,
        name: str,
        problem: Problem,
        state: State = State.REFUSED,
        rows: Sequence[Mapping[str, object]] = (),
        numbers: Mapping[str, float] | None = None,
    ) -> StageEnded:
        """The exception to raise for a check that failed."""
        self.checks = [check for check in self.checks if check.name != name]  # a check has one result
        self.checks.append(Check(name, False, str(problem), tuple(rows), numbers or {}))
        return StageEnded(state, problem, self.checks)


@dataclass(frozen=True)
class StageDone:
    """What a stage proved: its checks, all passed, and the facts that describe its asset."""

    checks: tuple[Check, ...]
    facts: Mapping[str, object]


@dataclass
class Session:
    """The state of one run; made anew by each stage from Git, MLflow and the cluster."""

    clients: Clients
    policy: Policy
    version: ModelVersion
    holder: str
    """Who holds the lease: the id of the run."""
    say: Callable[[str], None]
    """Progress for a person, one line at a time."""
    lease: LeaseRecord | None = None

    def look(self) -> "View":
        """Fetch the branch and say where this version stands on it.

        Raises:
            StageEnded: the manifest at HEAD cannot be read for this policy.
        """
        git = self.clients.git
        head = git.fetch()
        return self.view(head)

    def view(self, head: str) -> "View":
        """Where this version stands at a given head of the branch."""
        git, target = self.clients.git, self.policy.manifest
        content = git.read_file(head, target.path)
        if content is None:
            raise StageEnded(
                State.REFUSED,
                Problem(
                    f"{target.path} at {head[:12]}",
                    f"the manifest that policy {self.policy.name} names",
                    "no such file",
                    "Correct manifest.path in the policy, or commit the file.",
                ),
            )
        current = read_image(content, target)
        if isinstance(current, EditRefused):
            raise StageEnded(State.REFUSED, current.problem)
        found = promotions(git.history(head, self.policy.name), self.policy.name)
        return View(head, content, current.value, found, standing(self.version, self.policy.name, found, current.value))

    def image_at(self, commit: str) -> str | None:
        """The image that the manifest has at a commit; None when it cannot be read there."""
        content = self.clients.git.read_file(commit, self.policy.manifest.path)
        current = read_image(content, self.policy.manifest) if content is not None else None
        return current.value if isinstance(current, CurrentImage) else None

    def reread(self) -> None:
        """Read the version again, because its tags may have changed."""
        version = self.clients.registry.version(self.version.model, self.version.version)
        if version is None:
            raise StageEnded(State.HELD, version_gone(self.version))
        self.version = version

    def acquire(self) -> None:
        """Take the application's lease.

        Raises:
            StageEnded: another run holds it; this one ends as waiting, and the sensor resumes it.
        """
        application = self.policy.argocd.application
        taken = self.clients.git.acquire_lease(application, self.holder, LEASE_SECONDS)
        if isinstance(taken, LeaseBusy):
            remaining = max(0.0, taken.record.expires_at - self.clients.clock.now())
            raise StageEnded(
                State.WAITING,
                Problem(
                    f"the lease of application {application}",
                    "a free lease",
                    f"run {taken.record.holder} holding it for {remaining:.0f} s more",
                    "Nothing to do: the sensor resumes this promotion when the lease is free; without a sensor, "
                    "materialize again.",
                ),
            )
        self.lease = taken

    def keep(self) -> LeaseRecord:
        """The lease, renewed when half of its time is over.

        Raises:
            StageEnded: it was lost, so this run stops writing at once.
        """
        lease = self.lease
        assert lease is not None, "a stage acquires the lease before it keeps it"
        if lease.expires_at - self.clients.clock.now() < LEASE_SECONDS / 2:
            renewed = self.clients.git.renew_lease(lease, LEASE_SECONDS)
            if isinstance(renewed, LeaseLost):
                raise self.lost(renewed)
            self.lease = lease = renewed
        return lease

    def lost(self, lost: LeaseLost) -> StageEnded:
        """How a run ends that finds its lease gone."""
        self.lease = None
        holder = f"run {lost.found.holder} holding it" if lost.found else "no lease"
        return StageEnded(
            State.WAITING,
            Problem(
                f"the lease of application {self.policy.argocd.application}",
                f"our own lease (run {self.holder})",
                holder,
                "This run has stopped writing. The run that holds the lease goes on; otherwise the sensor resumes.",
            ),
        )

    def release(self) -> None:
        """Give the lease back, if this run has it."""
        if self.lease is not None:
            lease, self.lease = self.lease, None
            self.clients.git.release_lease(lease)

    def confirm(self) -> None:
        """Read the lease again before a write that nothing else fences (design rule 2).

        Raises:
            StageEnded: the lease is not ours any more.
        """
        ours = self.keep()
        there = self.clients.git.lease(ours.application)
        if there is None or there.object_id != ours.object_id:
            raise self.lost(LeaseLost(there))

    def give_sign_of_life(self) -> None:
        """Say on the version that a run without a lease is at work, so that the sensor starts no other."""
        tags = policy_tags(self.policy.name, {"seen_at": format_time(self.clients.clock.now())})
        self.clients.registry.write_tags(self.version, tags)

    def write(self, state: State, reason: str = "", **facts: str) -> None:
        """Write the version's state and facts as tags; under a lease, only while it is still ours."""
        if self.lease is not None:
            self.confirm()
        policy = self.policy.name
        moment = moment_tags(self.version, policy, state, self.clients.clock.now())
        tags = {"state": str(state), "reason": reason, "held_by": "", **moment, **facts}
        self.clients.registry.write_tags(self.version, policy_tags(policy, tags))
        self.reread()


@dataclass(frozen=True)
class View:
    """The branch as one look found it."""

    head: str
    content: bytes
    image: str
    found: tuple[Promoted, ...]
    standing: Standing


def open_session(clients: Clients, policy: Policy, version: int, holder: str, say: Callable[[str], None]) -> Session:
    """A session on one version.

    Raises:
        StageEnded: the registry has no such version.
        DependencyError: the registry does not answer.
    """
    found = clients.registry.version(policy.model, version)
    if found is None:
        raise StageEnded(State.REFUSED, version_gone(ModelVersion(policy.model, version, None, None)))
    return Session(clients, policy, found, holder, say)


def version_gone(version: ModelVersion) -> Problem:
    return Problem(
        str(version), "a registered model version", "none in the registry", "Register it, or choose another version."
    )


def unexpected(error: DependencyError) -> Problem:
    """The problem of a dependency that failed after the commit, with what happens next."""
    known = error.problem
    return Problem(
        known.subject,
        known.expected,
        known.found,
        f"{known.next_step} The promotion is held and goes on when this is mended.",
    )

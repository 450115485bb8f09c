"""The version tags that a promotion writes: its state, the reason, and signs of life."""

from orchestration.promotion.model_version import ModelVersion, not_registered, policy_tags
from orchestration.promotion.moments import moment_tags
from orchestration.promotion.permission import BLOCKED_TAG
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Clock, GitOpsRepository, Registry
from orchestration.promotion.pull_requests import MERGE_TAG
from orchestration.promotion.state import State
from orchestration.promotion.summary import summary_tag
from orchestration.promotion.timestamps import format_time
from orchestration.stages.lease import ApplicationLease, is_abort
from orchestration.stages.results import StageEnded


class VersionRecord:
    """One version's tags under one policy; under a lease, they are written only while this run still holds it."""

    def __init__(
        self, registry: Registry, clock: Clock, policy: Policy, version: ModelVersion, lease: ApplicationLease
    ) -> None:
        self._registry, self._clock, self._lease = registry, clock, lease
        self.under = policy
        """The policy under which the version is promoted."""
        self.version = version
        """The version as it was last read."""
        self.is_gone = False
        """Whether the registry does not have the version any more, so that nothing can be written on it."""

    @property
    def policy(self) -> str:
        """The policy's name."""
        return self.under.name

    @property
    def state(self) -> State | None:
        """The version's state under this policy, as it was last read."""
        return self.version.state(self.under.name)

    def write(self, state: State, reason: str = "", **facts: str) -> None:
        """Write the state and what belongs to it, and read the version again.

        Nothing is written on a version that is known to be gone.

        Raises:
            StageEnded: the lease was lost and nothing was written; or the version is gone from the registry.
        """
        if self.is_gone:
            return
        if self._lease.is_held or self._lease.is_lost:
            self._lease.confirm()
        policy, now = self.under.name, self._clock.now()
        commit = facts.get("commit") or self.version.tag(policy, "commit")
        summary = summary_tag(
            self.version,
            policy,
            state,
            now,
            reason=reason,
            commit=self._lease.commit_url(commit[:12]) if commit else None,
            run=None if is_abort(self._lease.holder) else self._lease.holder,  # the reason says who aborted it, and why
        )
        moment = moment_tags(self.version, policy, state, now)
        tags = {"state": str(state), "reason": reason, "held_by": "", **moment, **facts}
        for waits in (BLOCKED_TAG, MERGE_TAG):
            if self.version.tag(policy, waits):
                tags.setdefault(waits, "")
        self._registry.write_tags(self.version, {**summary, **policy_tags(policy, tags)})
        self.version = read_version(self._registry, self.under, self.version.version)

    def give_sign_of_life(self) -> None:
        """Record that a run without a lease is at work, so that the sensor does not start another one."""
        tags = policy_tags(self.under.name, {"seen_at": format_time(self._clock.now())})
        self._registry.write_tags(self.version, tags)


def read_version(registry: Registry, policy: Policy, number: int) -> ModelVersion:
    """Read a version from the registry.

    Raises:
        StageEnded: the registry has no such version.
    """
    version = registry.version(policy.model, number)
    if version is None:
        raise StageEnded(State.REFUSED, not_registered(policy.model, number))
    return version


def record_without_lease(
    registry: Registry, git: GitOpsRepository, clock: Clock, policy: Policy, version: ModelVersion, run: str
) -> VersionRecord:
    """Return a version's record for a write that no lease protects; `run` is named as the one that writes it."""
    lease = ApplicationLease(git, clock, policy.argocd.application, run, _unheard, _unheard)
    return VersionRecord(registry, clock, policy, version, lease)


def _unheard(line: str) -> None:
    """Take what a lease says while it is waited for or given back; one that is never taken says nothing."""

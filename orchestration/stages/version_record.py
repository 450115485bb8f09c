"""The version tags that a promotion writes: its state, the reason, and signs of life."""

from orchestration.promotion.model_version import ModelVersion, not_registered, policy_tags
from orchestration.promotion.moments import moment_tags
from orchestration.promotion.permission import BLOCKED_TAG
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Clock, Registry
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import format_time
from orchestration.stages.lease import ApplicationLease
from orchestration.stages.results import StageEnded


class VersionRecord:
    """One version's tags under one policy; under a lease, they are written only while this run still holds it."""

    def __init__(
        self, registry: Registry, clock: Clock, policy: Policy, version: ModelVersion, lease: ApplicationLease
    ) -> None:
        self._registry, self._clock, self._lease = registry, clock, lease
        self._policy = policy
        self.version = version
        """The version as it was last read."""

    @property
    def state(self) -> State | None:
        """The version's state under this policy, as it was last read."""
        return self.version.state(self._policy.name)

    def write(self, state: State, reason: str = "", **facts: str) -> None:
        """Write the state and what belongs to it, and read the version again.

        Raises:
            StageEnded: the lease was lost and nothing was written; or the version is gone from the registry.
        """
        if self._lease.is_held or self._lease.is_lost:
            self._lease.confirm()
        moment = moment_tags(self.version, self._policy.name, state, self._clock.now())
        tags = {"state": str(state), "reason": reason, "held_by": "", **moment, **facts}
        if self.version.tag(self._policy.name, BLOCKED_TAG):
            tags.setdefault(BLOCKED_TAG, "")
        self._registry.write_tags(self.version, policy_tags(self._policy.name, tags))
        self._reread()

    def give_sign_of_life(self) -> None:
        """Record that a run without a lease is at work, so that the sensor does not start another one."""
        tags = policy_tags(self._policy.name, {"seen_at": format_time(self._clock.now())})
        self._registry.write_tags(self.version, tags)

    def _reread(self) -> None:
        try:
            self.version = read_version(self._registry, self._policy, self.version.version)
        except StageEnded as gone:
            raise StageEnded(State.HELD, gone.problem) from gone


def read_version(registry: Registry, policy: Policy, number: int) -> ModelVersion:
    """Read a version from the registry.

    Raises:
        StageEnded: the registry has no such version.
    """
    version = registry.version(policy.model, number)
    if version is None:
        raise StageEnded(State.REFUSED, not_registered(policy.model, number))
    return version

"""How good the champion and its challenger are, as the registry has it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Registry
from orchestration.promotion.served_quality import ServedQuality


@dataclass(frozen=True)
class Quality:
    """What is known of one policy's versions."""

    versions: Mapping[str, int] = field(default_factory=dict)
    """The number of each role's version; without it the role is vacant."""
    training: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """For each role, the metrics of its training run that the policy bounds or evaluates."""
    is_evaluated: bool = False
    """Whether there is a champion, and the policy says how it is evaluated."""
    last_evaluation: ServedQuality | None = None
    """Of whichever version was the champion then: since when no labels came does not begin anew with a promotion."""

    @property
    def evaluation(self) -> ServedQuality | None:
        """The last evaluation, if it is of the version that is the champion now."""
        found = self.last_evaluation
        return found if found is not None and found.version == self.versions.get("champion") else None

    def current(self, role: str) -> Mapping[str, float]:
        """Return a role's metrics as they are now: the champion's as it was last evaluated, else as in training."""
        metrics = dict(self.training.get(role, {}))
        if role == "champion" and self.evaluation is not None:
            metrics[self.evaluation.metric] = self.evaluation.value
        return metrics


def read_quality(
    registry: Registry, policy: Policy, champion: ModelVersion | None, known: Mapping[str, Mapping[str, float]]
) -> tuple[Quality, Mapping[str, Mapping[str, float]]]:
    """Read what the registry has about a policy's champion and challenger.

    Args:
        registry: The registry.
        policy: The policy.
        champion: The version that the champion alias names.
        known: What was read before, by the version's name; a finished run hardly changes.

    Returns:
        What was found, and the metrics of the versions that are in use.
    """
    roles = {"champion": champion, "challenger": registry.version_by_alias(policy.model, policy.challenger_alias)}
    versions = {role: version for role, version in roles.items() if version is not None}
    wanted = {bound.metric for bound in policy.quality} | {policy.evaluated_metric}
    runs: dict[str, Mapping[str, float]] = {}
    for version in versions.values():
        if str(version) not in runs:
            runs[str(version)] = known.get(str(version)) or _metrics(registry, version, wanted)
    training = {role: runs[str(version)] for role, version in versions.items()}
    numbers = {role: version.version for role, version in versions.items()}
    is_evaluated = policy.evaluation is not None and champion is not None
    last = registry.last_evaluation(policy.name) if is_evaluated else None
    return Quality(numbers, training, is_evaluated, last), runs


def _metrics(registry: Registry, version: ModelVersion, wanted: set[str]) -> Mapping[str, float]:
    run = registry.training(version)
    return {name: value for name, value in run.metrics.items() if name in wanted} if run is not None else {}

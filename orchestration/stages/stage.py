"""A stage of a promotion as a value, and what its work is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from orchestration.promotion.acts import Act
from orchestration.promotion.branch_view import BranchView, act_tags, image_at, parse_acts, view_branch
from orchestration.promotion.identity import how_to_retry
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Clients, TagRecord
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.stages.lease import ApplicationLease
from orchestration.stages.results import StageDone
from orchestration.stages.version_record import VersionRecord


@dataclass(frozen=True)
class Promotion:
    """What a stage works with: one version under one policy, the ports, and what this run holds."""

    clients: Clients
    policy: Policy
    record: VersionRecord
    lease: ApplicationLease
    say: Callable[[str], None]
    """Shows progress to a person, one line at a time."""

    @property
    def version(self) -> ModelVersion:
        """The version with its tags as they were last read or written."""
        return self.record.version

    @property
    def how_to_retry(self) -> str:
        """The step after whatever mends a refused version: setting the alias again begins no second promotion."""
        return how_to_retry(self.policy.name, self.version.version)

    @cached_property
    def act_tags(self) -> tuple[TagRecord, ...]:
        """The tags of the policy's acts as the server had them when this was first asked.

        A stage that has the lease may believe them to its end: who aborts, adopts or ends a promotion takes the lease
        first. A hold and an approval need none, so the last look before a commit reads them again.
        """
        return act_tags(self.clients.git, self.policy.name)

    @property
    def acts(self) -> tuple[Act, ...]:
        """The acts of `act_tags`, newest first."""
        return parse_acts(self.act_tags)

    def look(self) -> BranchView:
        """Fetch the branch and see where this version stands on it.

        Raises:
            InvalidInputError: the manifest at HEAD cannot be read for this policy.
        """
        return self.view_at(self.clients.git.fetch())

    def view_at(self, head: str) -> BranchView:
        """See where this version stands at a head of the branch that was fetched before.

        Raises:
            InvalidInputError: the manifest there cannot be read for this policy.
        """
        view = view_branch(self.clients.git, self.policy, self.version, head)
        if isinstance(view, Problem):
            raise InvalidInputError(view)
        return view

    def image_at(self, commit: str) -> str | None:
        """Return the image that the manifest has at a commit; None when it cannot be read there."""
        return image_at(self.clients.git, self.policy, commit)


def promotion_of(
    clients: Clients, policy: Policy, version: ModelVersion, lease: ApplicationLease, say: Callable[[str], None]
) -> Promotion:
    """Return a version's promotion as a stage or a person's command works with it."""
    record = VersionRecord(clients.registry, clients.clock, policy, version, lease)
    return Promotion(clients, policy, record, lease, say)


@dataclass(frozen=True)
class Stage:
    """One stage of every promotion; `pipeline.py` lists them in their order."""

    name: str
    """The name of the stage's asset."""
    description: str
    kinds: frozenset[str]
    """The technologies that Dagster shows as the asset's badges."""
    checks: Mapping[str, str]
    """What each of the stage's fixed checks proves, by the check's name."""
    work: Callable[[Promotion, BranchView], StageDone]
    """Does the stage's work, or raises `StageEnded`, or `DependencyError` when a dependency does not answer."""
    takes_lease: bool
    """Whether the stage writes for the application, and so takes its lease before it looks at anything."""
    links: Callable[[Promotion], Mapping[str, object]]
    """Where the stage's work can be seen outside of Dagster."""

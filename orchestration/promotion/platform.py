"""The platform that promotions run on and are told through, as sensors, assets, commands and the exporter see it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from orchestration.promotion.policy import GitTarget, Policy
from orchestration.promotion.ports import (
    ArgoCD,
    Bell,
    Clients,
    Clock,
    Cluster,
    Destination,
    GitOpsRepository,
    ImageRegistry,
    Metrics,
    Notifier,
    Registry,
    Service,
)
from orchestration.promotion.pull_requests import PullRequests


class Platform(Protocol):
    """Policies and clients by name: `orchestration.environment` makes them from the environment, tests in memory.

    Getting a client contacts nothing. Every method raises `InvalidInputError` for a setting or a policy that is
    missing or cannot be used as it stands.
    """

    def policy_names(self) -> tuple[str, ...]:
        """List the names of all policies, broken ones included, sorted."""

    def ignored_files(self) -> tuple[str, ...]:
        """List what was found beside the policies when their names were listed, and is no policy, sorted."""

    def policy(self, name: str) -> Policy:
        """Read one policy as it is now."""

    def clock(self) -> Clock:
        """Return the clock by which deadlines, leases and tags are timed."""

    def registry(self) -> Registry:
        """Return a client of the model registry."""

    def git(self, policy: Policy | None = None) -> GitOpsRepository:
        """Return a client of a policy's GitOps repository; of the one that policies share which name none."""

    def images(self) -> ImageRegistry:
        """Return a client of the registries that images are pulled from."""

    def pull_requests(self, policy: Policy) -> PullRequests | None:
        """Return a client of the Git host's pull requests; None for a policy that delivers by pushes."""

    def cluster(self, context: str) -> Cluster:
        """Return a client of the cluster that a context names."""

    def clients(self, policy: Policy) -> Clients:
        """Return all clients that a promotion under this policy needs."""


class WakingPlatform(Platform, Protocol):
    """A platform that says when the registry may have changed."""

    def bell(self) -> AbstractContextManager[Bell]:
        """Return what rings then, as long as the block lasts."""


class PlatformInParts(Platform, Protocol):
    """A platform whose dependencies can be asked one by one, whatever is wrong with the others."""

    @property
    def argocd_context(self) -> str:
        """The context of the cluster that Argo CD runs in; empty when the settings name none."""

    def git_of(self, policy: str, own: GitTarget) -> GitOpsRepository:
        """Return a client of the GitOps repository that a policy is to name which does not exist yet."""

    def argocd(self) -> ArgoCD:
        """Return a client of Argo CD."""

    def metrics(self) -> Metrics:
        """Return a client of Prometheus."""

    def service(self) -> Service:
        """Return a client of the models' services."""

    def contexts(self) -> Mapping[str, str]:
        """Return the address of each context's API server, by the context's name."""


class Notifications(Protocol):
    """Where people are told of what happened: `orchestration.resources` reads it from the environment."""

    def destinations(self) -> tuple[Destination, ...]:
        """Read where notifications go now; raise `InvalidInputError` when that cannot be read."""

    def notifier(self) -> Notifier:
        """Return what sends them; nothing is contacted yet."""

    def run_url(self, run_id: str) -> str:
        """Return the address of a run's page in Dagster; empty when it is not known where Dagster's pages are."""

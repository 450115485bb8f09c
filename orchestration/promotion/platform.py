"""The platform that promotions run on, as assets, sensor, commands and exporter see it."""

from typing import Protocol

from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Clients, Clock, Cluster, GitOpsRepository, Registry


class Platform(Protocol):
    """The policies, and the clients for what they name; `orchestration.resources` makes one from the environment."""

    def policy_names(self) -> tuple[str, ...]:
        """Return the names of all policies, broken ones included."""

    def policy(self, name: str) -> Policy:
        """Read a policy now.

        Raises:
            InvalidInputError: the policy is not there, or cannot be used as it stands.
        """

    def clock(self) -> Clock: ...

    def registry(self) -> Registry: ...

    def git(self) -> GitOpsRepository: ...

    def cluster(self, context: str) -> Cluster:
        """Return the cluster that a context of the kubeconfig names."""

    def clients(self, policy: Policy) -> Clients:
        """Return all clients that a promotion under this policy needs."""

"""One client for each GitOps repository, whichever policies share it."""

from orchestration.promotion.platform import Platform
from orchestration.promotion.policy import GitTarget, Policy
from orchestration.promotion.ports import GitOpsRepository
from orchestration.promotion.problems import DependencyError


class Repositories:
    """The repositories that policies name; each is made once, when a policy first needs it."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._known: dict[GitTarget | None, GitOpsRepository] = {}
        self._heads: dict[GitTarget | None, str | DependencyError] = {}

    def of(self, policy: Policy) -> GitOpsRepository:
        """Return the policy's repository; nothing is contacted yet.

        Raises:
            InvalidInputError: a setting of the repository is missing or unusable.
        """
        if policy.git not in self._known:
            self._known[policy.git] = self._platform.git(policy)
        return self._known[policy.git]

    def head(self, policy: Policy) -> str:
        """Return the head of a policy's branch, which is fetched once for all policies until `forget_heads`.

        Raises:
            DependencyError: Git does not answer, or did not answer when the branch was fetched for another policy.
            InvalidInputError: a setting of the repository is missing or unusable.
        """
        if policy.git not in self._heads:
            git = self.of(policy)
            try:
                self._heads[policy.git] = git.fetch()
            except DependencyError as error:
                self._heads[policy.git] = error
        head = self._heads[policy.git]
        if isinstance(head, DependencyError):
            raise head
        return head

    def forget_heads(self) -> None:
        """Let each branch be fetched again when it is needed."""
        self._heads.clear()

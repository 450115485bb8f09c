"""Who was champion when, read from Git: the registry is not asked."""

from dataclasses import dataclass

from orchestration.promotion.acts import Act
from orchestration.promotion.branch_view import image_at, parse_acts
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import GitOpsRepository
from orchestration.promotion.reigns import History, ImageChange, fold_history


@dataclass(frozen=True)
class PolicyHistory:
    """A policy's history at one head of the branch, and what people decided, newest first."""

    head: str
    history: History
    acts: tuple[Act, ...]


def read_history(git: GitOpsRepository, policy: Policy) -> PolicyHistory:
    """Read a policy's history from Git alone.

    The manifest is read at the commits of people only, because incumbent's own say in their trailers what they put
    there.

    Raises:
        DependencyError: the Git server does not answer.
    """
    head = git.fetch()
    commits = git.history(head, policy.name)
    own = {commit.commit for commit in commits}
    changes = tuple(
        ImageChange(change, None if change.commit in own else image_at(git, policy, change.commit))
        for change in git.changes(head, policy.manifest.path)
    )
    tags = git.tags_below(f"incumbent/{policy.name}/")
    decided = parse_acts(tags)
    return PolicyHistory(head, fold_history(commits, changes, tags, decided), decided)

"""What is live under each policy, and whether anything is wrong: asked of all services at once, within a bound."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from threading import Thread
from typing import TypeVar

from orchestration.promotion.branch_standing import committed_promotions, live_promotion
from orchestration.promotion.branch_view import acts, image_at, unfinished
from orchestration.promotion.manifest import EditRefused, read_image
from orchestration.promotion.platform import Platform
from orchestration.promotion.policy import Policy
from orchestration.promotion.policy_status import (
    ARGOCD,
    CLUSTER,
    GIT,
    PROMETHEUS,
    REGISTRY,
    ClusterView,
    GitView,
    PolicyStatus,
    RegistryView,
    last_own_image,
    policy_status,
)
from orchestration.promotion.ports import Cluster, FileChange, GitOpsRepository, Registry
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem, ProblemError
from orchestration.promotion.reigns import image_key

T = TypeVar("T")
LONGEST_SECONDS = 20.0
"""How long everything is waited for together; each client's own time limit for one question is shorter."""
_CHANGES_READ = 20
"""How many changes of the manifest are read to find the one by which a person put the image there."""


def read_status(platform: Platform, names: Sequence[str], seconds: float = LONGEST_SECONDS) -> tuple[PolicyStatus, ...]:
    """Ask about policies, all at once; a broken policy or a service that does not answer is part of the answer.

    The number of versions does not matter: only those that an alias or the branch's last promotion names are read.

    Args:
        platform: The platform.
        names: The policies' names.
        seconds: How long to wait for all answers together.
    """
    look = begin_look(platform, names)
    wait(look.answers, timeout=seconds)
    return look.end(seconds)


def begin_look(platform: Platform, names: Sequence[str]) -> "Look":
    """Ask all that `read_status` asks, and return at once."""
    return Look(tuple(_begin(platform, name) for name in names))


@dataclass(frozen=True)
class Look:
    """Everything that was asked about policies; the answers arrive in threads of their own."""

    begun: "tuple[_Begun, ...]"

    @property
    def answers(self) -> "list[Future[object]]":
        """All answers, also those that have not arrived."""
        return [answer for policy in self.begun for answer in policy.answers.values()]

    @property
    def is_answered(self) -> bool:
        """Whether all answers are there."""
        return all(answer.done() for answer in self.answers)

    def end(self, seconds: float) -> tuple[PolicyStatus, ...]:
        """Put together what has arrived; what has not counts as not answered within so many seconds."""
        return tuple(_end(policy, seconds) for policy in self.begun)


@dataclass(frozen=True)
class _Begun:
    """One policy, and the answers that are under way about it."""

    name: str
    policy: Policy | None
    answers: dict[str, "Future[object]"]
    broken: Problem | None = None


def _begin(platform: Platform, name: str) -> _Begun:
    # Clients are made here, one after the other: making one imports its library, which threads should not do at once.
    try:
        policy = platform.policy(name)
        clients = platform.clients(policy)
    except ProblemError as error:
        return _Begun(name, None, {}, error.problem)
    except Exception as error:  # noqa: BLE001 - whatever one policy's file caused, the others are shown
        return _Begun(name, None, {}, _unexpected(f"policy {name}", error))
    git = _start(lambda: _ask_git(clients.git, policy))
    answers: dict[str, Future[object]] = {
        GIT: git,
        REGISTRY: _start(lambda: _ask_registry(clients.registry, policy, git)),
        CLUSTER: _start(lambda: _ask_cluster(clients.cluster, policy)),
        ARGOCD: _start(clients.argocd.ready),
        PROMETHEUS: _start(clients.metrics.ready),
    }
    return _Begun(name, policy, answers)


def _start(ask: Callable[[], object]) -> "Future[object]":
    """Ask in a thread of its own, which holds up nobody's end when no answer comes."""
    answer: Future[object] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:  # noqa: BLE001 - the one who waits is told
            answer.set_exception(error)

    Thread(target=run, daemon=True).start()
    return answer


def _end(begun: _Begun, seconds: float) -> PolicyStatus:
    if begun.policy is None:
        return PolicyStatus(begun.name, broken=begun.broken)
    views: dict[str, object] = {}
    broken: list[Problem] = []
    unanswered: list[tuple[str, Problem]] = []
    for service, answer in begun.answers.items():
        try:
            views[service] = answer.result(timeout=0)
        except TimeoutError:
            found = f"no answer within {seconds:g} s"
            unanswered.append((service, Problem(service, "an answer", found, "Check that it can be reached.")))
        except DependencyError as error:
            unanswered.append((service, error.problem))
        except InvalidInputError as error:
            broken.append(error.problem)
        except Exception as error:  # noqa: BLE001 - what one service's data caused is shown beside the others
            unanswered.append((service, _unexpected(service, error)))
    git, registry, cluster = (
        _of(views.get(GIT), GitView),
        _of(views.get(REGISTRY), RegistryView),
        _of(views.get(CLUSTER), ClusterView),
    )
    status = policy_status(begun.policy, git, registry, cluster)
    return replace(status, broken=broken[0] if broken else None, unanswered=tuple(unanswered))


def _of(view: object, kind: type[T]) -> T | None:
    return view if isinstance(view, kind) else None


def _unexpected(subject: str, error: Exception) -> Problem:
    found = f"unexpected {type(error).__name__}: {error}"
    return Problem(subject, "an answer that can be read", found, "Report this with the versions of both sides.")


def _ask_git(git: GitOpsRepository, policy: Policy) -> GitView:
    """Read the branch and the acts.

    Raises:
        InvalidInputError: the manifest at the head cannot be read for this policy.
    """
    head = git.fetch()
    content = git.read_file(head, policy.manifest.path)
    if content is None:
        found, next_step = "no such file", "Correct manifest.path in the policy, or commit the file."
        subject, expected = f"{policy.manifest.path} at {head[:12]}", f"the manifest that policy {policy.name} names"
        raise InvalidInputError(Problem(subject, expected, found, next_step))
    current = read_image(content, policy.manifest)
    if isinstance(current, EditRefused):
        raise InvalidInputError(current.problem)
    promotions = committed_promotions(git.history(head, policy.name), policy.name)
    own = last_own_image(promotions)
    is_own = own is not None and own[1] == image_key(current.value)
    by_hand = None if is_own else _change_by_hand(git, policy, head, image_key(current.value))
    made = acts(git, policy.name)
    return GitView(head, current.value, promotions, made, by_hand, unfinished(git, promotions, made))


def _change_by_hand(git: GitOpsRepository, policy: Policy, head: str, key: str) -> FileChange | None:
    """Find the change that put the image there; None when too many changes of other lines came after it."""
    found = None
    changes = git.changes(head, policy.manifest.path, limit=_CHANGES_READ)
    for change in changes:
        image = image_at(git, policy, change.commit)
        if image is None or image_key(image) != key:
            return found
        found = change
    return found if len(changes) < _CHANGES_READ else None


def _ask_registry(registry: Registry, policy: Policy, git: "Future[object]") -> RegistryView:
    champion = registry.version_by_alias(policy.model, policy.champion_alias)
    challenger = registry.version_by_alias(policy.model, policy.challenger_alias)
    view = RegistryView(champion, challenger)
    wait([git])
    branch = git.result() if git.exception() is None else None
    last = live_promotion(branch.promotions) if isinstance(branch, GitView) else None
    if last is None or last.identity.version in {version.version for version in view.versions}:
        return view
    return replace(view, committed=registry.version(policy.model, last.identity.version))


def _ask_cluster(cluster: Cluster, policy: Policy) -> ClusterView:
    target = policy.manifest
    workload = cluster.workload(target.kind, target.namespace, target.name)
    return ClusterView(workload, workload.images.get(target.container) if workload is not None else None)

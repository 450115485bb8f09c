"""What is live under each policy, and whether anything is wrong: asked of all services at once, within a bound."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from typing import TypeVar

from orchestration.promotion.branch_standing import committed_promotions, live_promotion
from orchestration.promotion.branch_view import acts, image_at, manifest_at, unfinished
from orchestration.promotion.deployed import image_key
from orchestration.promotion.in_thread import in_thread
from orchestration.promotion.live_value import live_value
from orchestration.promotion.merge_wait import return_of
from orchestration.promotion.platform import Platform
from orchestration.promotion.policy import Policy
from orchestration.promotion.policy_status import (
    ARGOCD,
    CLUSTER,
    GIT,
    PROMETHEUS,
    REGISTRY,
    AtWork,
    ClusterView,
    GitView,
    PolicyStatus,
    RegistryView,
    last_own_image,
    policy_status,
)
from orchestration.promotion.ports import Clock, Cluster, FileChange, GitOpsRepository, Registry
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem, ProblemError
from orchestration.stages.lease import in_words

T = TypeVar("T")
LONGEST_SECONDS = 20.0
"""How long everything is waited for together; each client's own time limit for one question is shorter."""
_QUIET_SECONDS = 1.0
_CHANGES_READ = 20
"""How many changes of the manifest are read to find the one by which a person put the image there."""


def read_status(
    platform: Platform,
    names: Sequence[str],
    seconds: float = LONGEST_SECONDS,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[PolicyStatus, ...]:
    """Ask about policies, all at once; a broken policy or a service that does not answer is part of the answer.

    The number of versions does not matter: only those that an alias or the branch's last promotion names are read.

    Args:
        platform: The platform.
        names: The policies' names.
        seconds: How long to wait for all answers together.
        say: Receives a line when that takes more than a moment.
    """
    look, quiet = begin_look(platform, names, with_leases=True), min(_QUIET_SECONDS, seconds)
    wait(look.answers, timeout=quiet)
    if not look.is_answered:
        say(f"waiting for {', '.join(look.silent)}, {seconds:g} s at most")
        wait(look.answers, timeout=seconds - quiet)
    return look.end(seconds)


def begin_look(platform: Platform, names: Sequence[str], *, with_leases: bool = False) -> "Look":
    """Ask all that `read_status` asks, and return at once.

    Args:
        platform: The platform.
        names: The policies' names.
        with_leases: Whether to ask who has the leases, too, which change all the time.
    """
    return Look(tuple(_begin(platform, name, with_leases) for name in names))


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

    @property
    def silent(self) -> tuple[str, ...]:
        """What has not answered yet, each once, with its address."""
        waiting = (
            policy.addresses[name]
            for policy in self.begun
            for name, answer in policy.answers.items()
            if not answer.done()
        )
        return tuple(dict.fromkeys(waiting))

    def end(self, seconds: float) -> tuple[PolicyStatus, ...]:
        """Put together what has arrived; what has not counts as not answered within so many seconds."""
        return tuple(_end(policy, seconds) for policy in self.begun)


@dataclass(frozen=True)
class _Begun:
    """One policy, and the answers that are under way about it."""

    name: str
    policy: Policy | None
    answers: dict[str, "Future[object]"]
    addresses: dict[str, str]
    """What each of them is asked of, with its address."""
    broken: Problem | None = None


def _begin(platform: Platform, name: str, with_leases: bool) -> _Begun:
    # Clients are made here, because what is wrong with a setting breaks the policy, and no service.
    try:
        policy = platform.policy(name)
        clients = platform.clients(policy)
    except ProblemError as error:
        return _Begun(name, None, {}, {}, error.problem)
    except Exception as error:  # noqa: BLE001 - whatever one policy's file caused, the others are shown
        return _Begun(name, None, {}, {}, _unexpected(f"policy {name}", error))
    clock = clients.clock if with_leases else None
    git: Future[object] = in_thread(lambda: _ask_git(clients.git, policy, clock))
    answers: dict[str, Future[object]] = {
        GIT: git,
        REGISTRY: in_thread(lambda: _ask_registry(clients.registry, policy, git)),
        CLUSTER: in_thread(lambda: _ask_cluster(clients.cluster, policy)),
        ARGOCD: in_thread(clients.argocd.ready),
        PROMETHEUS: in_thread(clients.metrics.ready),
    }
    asked = (clients.git, clients.registry, clients.cluster, clients.argocd, clients.metrics)
    return _Begun(name, policy, answers, dict(zip(answers, map(str, asked), strict=True)))


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
            subject = begun.addresses[service]
            unanswered.append((service, Problem(subject, "an answer", found, "Check that it can be reached.")))
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


def _ask_git(git: GitOpsRepository, policy: Policy, clock: Clock | None) -> GitView:
    """Read the branch and the acts, and with a clock the lease.

    Raises:
        InvalidInputError: the manifest at the head cannot be read for this policy.
    """
    head = git.fetch()
    read = manifest_at(git, policy, head)
    if isinstance(read, Problem):
        raise InvalidInputError(read)
    _, image = read
    promotions = committed_promotions(git.history(head, policy.name), policy.name)
    own = last_own_image(promotions)
    is_own = own is not None and own[1] == image_key(image)
    by_hand = None if is_own else _change_by_hand(git, policy, head, image_key(image))
    made = acts(git, policy.name)
    at_work = _at_work(git, policy, clock) if clock is not None else None
    returning = return_of(git, policy.name) if policy.delivery.pull_request is not None else None
    return GitView(head, image, promotions, made, by_hand, unfinished(git, promotions, made), at_work, returning)


def _at_work(git: GitOpsRepository, policy: Policy, clock: Clock) -> AtWork | None:
    lease = git.lease(policy.argocd.application)
    if lease is None or lease.expires_at <= clock.now():
        return None
    return AtWork(in_words(lease.holder), lease.application, lease.expires_at)


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
    if not isinstance(branch, GitView):
        return view
    if branch.returning is not None:
        view = replace(view, returning=registry.version(policy.model, branch.returning[1].version))
    last = live_promotion(branch.promotions)
    if last is None or last.identity.version in {version.version for version in view.versions}:
        return view
    return replace(view, committed=registry.version(policy.model, last.identity.version))


def _ask_cluster(cluster: Cluster, policy: Policy) -> ClusterView:
    target = policy.manifest
    workload = cluster.workload(target.kind, target.namespace, target.name)
    live = live_value(workload, target.container, policy.slot) if workload is not None else ""
    return ClusterView(workload, live or None)

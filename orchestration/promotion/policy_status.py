"""What is live under a policy, what is under way, and whether Git, the cluster and the registry agree."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from orchestration.promotion.acts import Act, current_hold, is_adoption_of
from orchestration.promotion.branch_standing import CommittedPromotion
from orchestration.promotion.cluster_status import WorkloadStatus
from orchestration.promotion.decided import decided_in
from orchestration.promotion.deployed import image_key
from orchestration.promotion.identity import PromotionId, restored
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.moments import held_since, moments
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import BranchCommit, FileChange, Proposal
from orchestration.promotion.problems import Problem
from orchestration.promotion.pull_requests import MERGE_TAG, MergeOf
from orchestration.promotion.returns import RETURNS_FROM
from orchestration.promotion.sensor_rules import is_new
from orchestration.promotion.state import State
from orchestration.promotion.summary import SINCE_TAG
from orchestration.promotion.texts import one_line
from orchestration.promotion.timestamps import parse_time

GIT, REGISTRY, CLUSTER, ARGOCD, PROMETHEUS = "Git", "the registry", "the cluster", "Argo CD", "Prometheus"

NO_POLICIES = Problem(
    "the policies folder",
    "a policy",
    "no policies at all",
    "Write one (incumbent init MODEL --application NAMESPACE/NAME), or set INCUMBENT_POLICIES to their folder.",
)
"""What is wrong when nothing is watched."""


@dataclass(frozen=True)
class GitView:
    """What Git says about a policy; promotions and acts newest first."""

    head: str
    image: str
    """The image in the manifest at the head."""
    promotions: tuple[CommittedPromotion, ...]
    acts: tuple[Act, ...]
    by_hand: FileChange | None = None
    """The commit that put the image there, when no promotion or rollback did and it was found."""
    unfinished: CommittedPromotion | None = None
    """The committed promotion whose end Git does not know."""
    at_work: "AtWork | None" = None
    """Who has the application's lease, if it was asked for."""
    returning: tuple[Proposal, PromotionId] | None = None
    """The return to a former champion that waits for the merge of its request."""

    def versions_with(self, image: str) -> tuple[int, ...]:
        """Return the versions that were committed or adopted with an image, the last one first."""
        key = image_key(image)
        committed = (known.identity.version for known in self.promotions if known.identity.digest == key)
        adopted = (act.version for act in self._adoptions(image) if act.version is not None)
        return tuple(dict.fromkeys((*committed, *adopted)))

    def adoption_of(self, image: str) -> Act | None:
        """Return the last act that declared an image the champion."""
        return next(self._adoptions(image), None)

    def _adoptions(self, image: str) -> Iterator[Act]:
        return (act for act in self.acts if is_adoption_of(act, image))


@dataclass(frozen=True)
class AtWork:
    """Who has the lease of a policy's application, so that everything else for it waits."""

    who: str
    """In words: `run <id>`, `a rollback by ana`."""
    application: str
    until: float
    """When the lease expires unless it is renewed, in seconds since the epoch."""


@dataclass(frozen=True)
class RegistryView:
    """What the registry says about a policy."""

    champion: ModelVersion | None
    challenger: ModelVersion | None
    committed: ModelVersion | None = None
    """The version that was committed last and not taken back."""
    returning: ModelVersion | None = None
    """The version that a return would bring back whose request waits for its merge."""

    @property
    def versions(self) -> tuple[ModelVersion, ...]:
        """All of them, each once."""
        known = (self.committed, self.challenger, self.champion)
        return tuple({version.version: version for version in known if version is not None}.values())


@dataclass(frozen=True)
class ClusterView:
    """What the cluster says about a policy: its workload, and the image of the policy's container in it."""

    workload: WorkloadStatus | None
    image: str | None


NOT_REQUESTED = "not requested"
"""In place of a state, of a challenger that nothing has taken up."""
_NO_RUN_YET = (
    "no run has begun. Dagster's challenger_sensor starts one within seconds, if it is on; where there is none, as in "
    "CI, materialize its partition"
)


@dataclass(frozen=True)
class UnderWay:
    """A promotion that has not ended, or a hold of the policy; `since` in seconds since the epoch."""

    version: int | None
    """None for a hold of the policy."""
    state: str
    """A version's state, `not requested`, or `hold`."""
    since: float | None
    reason: str


@dataclass(frozen=True)
class Live:
    """What serves; by the branch, while the cluster does not answer."""

    version: int | None
    """None when no promotion committed its image."""
    image: str
    since: float | None
    """When the branch got its image, in seconds since the epoch; None when that is not known."""
    why: str
    lead_seconds: float | None = None
    """From the request of its promotion to the champion."""


@dataclass(frozen=True)
class PolicyStatus:
    """One policy as it is now; what could not be asked is None, and `broken` or `unanswered` says why."""

    policy: str
    model: str | None = None
    head: str | None = None
    live: Live | None = None
    champion: int | None = None
    challenger: int | None = None
    under_way: tuple[UnderWay, ...] = ()
    at_work: AtWork | None = None
    differences: tuple[str, ...] = ()
    """What Git, the cluster and the registry disagree about."""
    broken: Problem | None = None
    """Why the policy, a setting or the manifest cannot be used as it stands."""
    unanswered: tuple[tuple[str, Problem], ...] = ()
    """Each service that did not answer, with what is wrong."""

    @property
    def agrees(self) -> bool | None:
        """Whether Git, the cluster and the registry agree; None while one of them is not known."""
        if self.differences:
            return False
        unknown = any(name in (GIT, REGISTRY, CLUSTER) for name, _ in self.unanswered)
        return None if unknown or self.broken is not None else True


@dataclass(frozen=True)
class Silent:
    """A service that did not answer, with what is wrong, and the policies for which it was asked."""

    service: str
    problem: Problem
    policies: tuple[str, ...]


def silent_services(found: Sequence[PolicyStatus]) -> tuple[Silent, ...]:
    """Name each service that did not answer once, however many policies it was asked for."""
    silent: dict[tuple[str, str], Silent] = {}
    for one in found:
        for service, problem in one.unanswered:
            known = silent.get((service, problem.subject), Silent(service, problem, ()))
            silent[service, problem.subject] = replace(known, policies=(*known.policies, one.policy))
    return tuple(silent.values())


def last_own_image(promotions: tuple[CommittedPromotion, ...]) -> tuple[BranchCommit, str] | None:
    """Return the last promotion or rollback, whichever came later, and the key of the image that it put there."""
    if not promotions:
        return None
    newest = promotions[0]
    if newest.rollback is not None:
        return newest.rollback, image_key(restored(newest.rollback.trailers))
    return newest.commit, newest.identity.digest


def policy_status(
    policy: Policy, git: GitView | None, registry: RegistryView | None, cluster: ClusterView | None
) -> PolicyStatus:
    """Put together what was asked; None for what did not answer."""
    champion, challenger = (registry.champion, registry.challenger) if registry is not None else (None, None)
    return PolicyStatus(
        policy.name,
        policy.model,
        git.head if git is not None else None,
        _live(policy.name, git, registry, cluster),
        champion.version if champion is not None else None,
        challenger.version if challenger is not None else None,
        _under_way(policy.name, git, registry),
        git.at_work if git is not None else None,
        () if git is None else tuple(_differences(policy, git, registry, cluster)),
    )


def _live(policy: str, git: GitView | None, registry: RegistryView | None, cluster: ClusterView | None) -> Live | None:
    running = cluster.image if cluster is not None else None
    champion = registry.champion if registry is not None else None
    if git is None:
        if running is None:
            return None
        is_champion = champion is not None and image_key(champion.tag(policy, "digest") or "") == image_key(running)
        return Live(
            champion.version if champion is not None and is_champion else None,
            running,
            None,
            "running in the cluster; since when, and why, only Git could say",
        )
    image = git.image if running is None else running
    versions = git.versions_with(image)
    is_champions = champion is not None and champion.version in versions
    version = champion.version if champion is not None and is_champions else next(iter(versions), None)
    if image_key(image) != image_key(git.image):
        return Live(version, image, None, "the branch has another one")
    lead = _lead_seconds(champion, policy) if champion is not None and champion.version == version else None
    return Live(version, image, *_since_and_why(git), lead)


def _since_and_why(git: GitView) -> tuple[float | None, str]:
    adoption, own = git.adoption_of(git.image), last_own_image(git.promotions)
    if own is not None and own[1] == image_key(git.image):
        commit, trailers = own[0], own[0].trailers
        if "Rollback-Of" in trailers:
            taken_back = git.promotions[0].identity.version
            verdict = one_line(trailers.get("Verdict", "")) or "no verdict"
            return commit.committed_at, f"put back when version {taken_back} was taken back ({verdict})"
        if RETURNS_FROM in trailers:
            by, reason = (one_line(trailers.get(name, "")) for name in ("By", "Reason"))
            return commit.committed_at, f"returned to by {by or 'a person'}: {reason or 'no reason given'}"
        return commit.committed_at, "promoted"
    since = git.by_hand.committed_at if git.by_hand is not None else None
    if adoption is not None:
        return since, f"adopted by {adoption.by or 'a person'}: {adoption.reason or 'no reason given'}"
    if git.by_hand is None:
        return None, "put there by hand"
    return since, f"put there by hand by {one_line(git.by_hand.author)}: {one_line(git.by_hand.subject)}"


def _lead_seconds(champion: ModelVersion, policy: str) -> float | None:
    crowned = [moment for moment in moments(champion, policy) if moment.state is State.CHAMPION]
    last = max(crowned, key=lambda moment: moment.at, default=None)
    requested_at = parse_time(last.request) if last is not None else None
    return None if last is None or requested_at is None else max(0.0, last.at - requested_at)


def _under_way(policy: str, git: GitView | None, registry: RegistryView | None) -> tuple[UnderWay, ...]:
    found = []
    hold = current_hold(git.acts) if git is not None else None
    if hold is not None:
        found.append(UnderWay(None, "hold", hold.at, f"{hold.reason or 'no reason given'} ({hold.by or 'a person'})"))
    if registry is None and git is not None and git.unfinished is not None:
        number, commit = git.unfinished.identity.version, git.unfinished.commit
        found.append(UnderWay(number, str(State.COMMITTED), commit.committed_at, "Git knows no end of it yet"))
    if git is not None and git.returning is not None:
        found.append(_return(policy, *git.returning, registry.returning if registry is not None else None))
    challenger = registry.challenger if registry is not None else None
    if challenger is not None and is_new(challenger, policy):
        found.append(UnderWay(challenger.version, NOT_REQUESTED, None, _not_taken_up(policy, challenger.version)))
    for version in registry.versions if registry is not None else ():
        state = version.state(policy)
        if state is not None and not state.is_end:
            reason = one_line(version.tag(policy, "reason") or "")
            if state is State.REQUESTED and not reason:
                reason = _NO_RUN_YET
            found.append(UnderWay(version.version, str(state), _state_since(version, policy, git), reason))
    return tuple(found)


def _not_taken_up(policy: str, number: int) -> str:
    """Say why nothing happens to a version that the alias names: whether a sensor is on, nobody here can tell."""
    return (
        "its alias is set, and nothing has taken that up. Dagster's challenger_sensor does within seconds, if it is "
        f"on; where there is none, as in CI: incumbent register {policy} {number}"
    )


def _return(policy: str, proposal: Proposal, identity: PromotionId, version: ModelVersion | None) -> UnderWay:
    """A return that waits for its merge: in the words of the version, which names the request, or else in Git's."""
    asked = version is not None and (version.tag(policy, MERGE_TAG) or "").startswith(MergeOf.RETURN)
    reason = version.tag(policy, "reason") if version is not None and asked else None
    trailers = proposal.commit.trailers
    in_git = f"To be brought back by {decided_in(trailers)} with the merge of branch {proposal.branch}."
    requested_at = parse_time(trailers.get("Requested-At"))
    return UnderWay(identity.version, str(State.WAITING), requested_at, one_line(reason or in_git))


def _state_since(version: ModelVersion, policy: str, git: GitView | None) -> float | None:
    state, written = version.state(policy), parse_time(version.tag(policy, SINCE_TAG))
    if written is not None:
        return written
    if state is State.HELD:
        return held_since(version, policy)
    if state is not None and state.is_under_way_on_branch and git is not None:
        commits = (known.commit for known in git.promotions if known.identity.version == version.version)
        return next((commit.committed_at for commit in commits), None)
    return parse_time(version.tag(policy, "requested_at"))


def _differences(
    policy: Policy, git: GitView, registry: RegistryView | None, cluster: ClusterView | None
) -> Iterator[str]:
    """Say in words what does not agree.

    While a promotion or rollback is committed and rolled out, the cluster may have the other image. Until a promotion
    is judged, and while it is held, the champion is another version than the branch has.
    """
    states = {version.version: version.state(policy.name) for version in registry.versions} if registry else {}
    committing = {states.get(version) for version in git.versions_with(git.image)} & {State.REQUESTED, State.WAITING}
    is_unfinished = registry is None and git.unfinished is not None
    moving = is_unfinished or bool(committing or {State.COMMITTED, State.REJECTED} & set(states.values()))
    if cluster is not None and not moving:
        yield from _cluster_differences(policy, git, cluster)
    if registry is not None and not moving and State.HELD not in states.values():
        yield from _registry_differences(policy, git, registry)


def _cluster_differences(policy: Policy, git: GitView, cluster: ClusterView) -> Iterator[str]:
    target, workload = policy.manifest, cluster.workload
    name = f"{target.kind} {target.namespace}/{target.name}"
    if workload is None:
        yield f"Git has {git.image}, and the cluster has no {name}"
    elif cluster.image is None:
        yield f"Git has {git.image}, and {name} has no container {target.container}"
    elif image_key(cluster.image) != image_key(git.image):
        yield f"Git has {git.image}, and {name} runs {cluster.image}"
    elif workload.wanted > 0 and workload.available == 0:
        yield f"{name} wants {workload.wanted} pods, and none is available"


def _registry_differences(policy: Policy, git: GitView, registry: RegistryView) -> Iterator[str]:
    versions, champion = git.versions_with(git.image), registry.champion
    on_branch = f"version {versions[0]}" if versions else f"{git.image}, which no promotion committed"
    named = f"version {champion.version}" if champion is not None else "no version"
    if champion.version not in versions if champion is not None else bool(versions):
        yield f"Git has {on_branch}, and the alias {policy.champion_alias} of {policy.model} names {named}"

"""Stage 2, `manifest_commit`: check all that can be known, then put the image into the manifest by one commit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orchestration.promotion.branch_standing import CommittedPromotion, MayCommit, OnBranch, committed_promotions
from orchestration.promotion.branch_view import BranchView, is_verified
from orchestration.promotion.identity import promotion_id, promotion_subject, promotion_trailers
from orchestration.promotion.images import ImageRef, parse_image
from orchestration.promotion.manifest import Edited, EditRefused, set_image
from orchestration.promotion.ports import FileEdit, Pushed
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.returns import is_return
from orchestration.promotion.state import State
from orchestration.stages.abort import require_not_aborted
from orchestration.stages.cut_off import finish_cut_off
from orchestration.stages.judge_candidate import Candidate, find_candidate, record_end, require_alias
from orchestration.stages.permission import require_permission
from orchestration.stages.results import Checklist, StageDone, StageEnded
from orchestration.stages.rollback_target import alias_disagreement, rollback_target
from orchestration.stages.stage import Promotion, Stage

_LOOKS = 3
"""How often a candidate is judged when others keep changing the image, before the run ends as waiting."""


def commit(promotion: Promotion, view: BranchView) -> StageDone:
    """Commit the candidate's image, or find that this was done before.

    Raises:
        StageEnded: refused, superseded or waiting; nothing was committed.
        DependencyError: a dependency does not answer. The next run finds out whether a commit was made.
    """
    if isinstance(view.standing, OnBranch):
        return _done(promotion, view.standing.promotion, "committed before", Checklist())
    try:
        return _judge_and_commit(promotion, view)
    except StageEnded as ended:
        record_end(promotion, ended)
        raise


def _judge_and_commit(promotion: Promotion, view: BranchView) -> StageDone:
    """Judge the candidate on one head and commit it there; judge again when someone changed the image meanwhile."""
    for _ in range(_LOOKS):
        checklist = Checklist()
        candidate = find_candidate(promotion, view)
        require_not_aborted(promotion, checklist)
        _check_dependencies(promotion, view, checklist)
        _disown_copied_tags(promotion, candidate.attempt)
        require_permission(promotion, candidate.image.digest, checklist)
        outcome = _push(promotion, view, candidate, checklist)
        if not isinstance(outcome, _Changed):
            return _done(promotion, *outcome, checklist)
        promotion.say(f"judging again: {outcome.view.image} is in the manifest now, and {view.image} was when judged")
        view = outcome.view
        finish_cut_off(promotion, view)
        if isinstance(view.standing, OnBranch):
            return _done(promotion, view.standing.promotion, "committed before", Checklist())
    problem = Problem(
        f"{promotion.policy.manifest.path} at {view.head[:12]}",
        "an image that stays the same while the version is judged",
        f"{view.image}, the change number {_LOOKS} during this run",
        "No action needed: the promotion goes on by itself when the manifest has come to rest.",
    )
    raise checklist.failed("one_commit", problem, State.WAITING)


def _disown_copied_tags(promotion: Promotion, attempt: int) -> None:
    """Make the tags say that this attempt is not committed yet, as MLflow copies all tags together with a version.

    A copied `champion` or a copied attempt would otherwise hide, once this is committed, that it was never judged.
    """
    state = promotion.record.state
    has_ended = state is not None and state.is_end
    if has_ended or promotion.version.attempt(promotion.policy.name) != attempt:
        promotion.record.write(State.REQUESTED, attempt=str(attempt))


def _check_dependencies(promotion: Promotion, view: BranchView, checklist: Checklist) -> None:
    """Check what must be true before the branch is touched (design rule 7).

    A Degraded application is recorded and does not block, because the promotion may be its cure (kargo#3258).
    """
    rows: list[dict[str, object]] = []
    _require_answers(promotion, checklist, rows)
    require_automated_sync(promotion, checklist, rows)
    require_way_back(promotion, view, checklist, rows)
    checklist.passed("dependencies_ready", "dependencies answer, sync is automated and there is a way back", rows)


def require_way_back(
    promotion: Promotion, view: BranchView, checklist: Checklist, rows: list[dict[str, object]]
) -> None:
    """Require that the image to which a rollback would return can still be pulled; report an alias that Git denies."""
    target = rollback_target(promotion, view.promotions, view.image)
    assert target is not None, "the image before is known"
    disagreement = alias_disagreement(promotion, view.promotions, view.image)
    if disagreement:
        promotion.say(disagreement)
        rows.append({"what": f"alias {promotion.policy.champion_alias}", "finding": disagreement})
    reference = parse_image(target.image)
    if reference is None or promotion.clients.images.resolve(reference) is None:
        problem = Problem(
            f"rollback target {target.image}",
            "an image that can still be pulled",
            "no such image in the registry",
            "Push it again, or commit an image that exists, so that there is a way back.",
        )
        raise checklist.failed("dependencies_ready", problem.then(promotion.how_to_retry), rows=rows)
    rows.append({"what": "rollback target", "finding": f"{target.image} ({target.described})"})


def dependencies(promotion: Promotion) -> Mapping[str, Callable[[], None]]:
    """What must answer before the commit, and how each is asked."""
    clients = promotion.clients
    return {
        "Argo CD's API": clients.argocd.ready,
        f"cluster {promotion.policy.cluster}": clients.cluster.ready,
        "Prometheus": clients.metrics.ready,
    }


def _require_answers(promotion: Promotion, checklist: Checklist, rows: list[dict[str, object]]) -> None:
    for name, ask in dependencies(promotion).items():
        try:
            ask()
        except DependencyError as error:
            raise checklist.failed("dependencies_ready", error.problem, State.WAITING, rows) from error
        rows.append({"what": name, "finding": "ready"})


def require_automated_sync(promotion: Promotion, checklist: Checklist, rows: list[dict[str, object]]) -> None:
    """Require the policy's Application, with automated sync."""
    target = promotion.policy.argocd
    subject = f"Application {target.namespace}/{target.application}"
    application = promotion.clients.argocd.application(target.namespace, target.application)
    if application is None:
        problem = Problem(
            subject,
            "the application that the policy names",
            "no such application",
            "Apply its manifest, or correct argocd in the policy.",
        )
        raise checklist.failed("dependencies_ready", problem.then(promotion.how_to_retry), rows=rows)
    if not application.auto_sync:
        next_step = "Turn it on; the promotion then goes on by itself."
        problem = Problem(subject, "automated sync", "automated sync turned off", next_step)
        raise checklist.failed("dependencies_ready", problem, State.WAITING, rows)
    finding = f"{application.sync_status}, {application.health_status}; sync automated"
    rows.append({"what": subject, "finding": finding})


@dataclass(frozen=True)
class _CommittedBefore:
    """The commit was there already: an earlier push made it, and its answer was lost."""

    promotion: CommittedPromotion


@dataclass(frozen=True)
class _Changed:
    """Someone changed the image since it was judged, or ended a commit of this promotion: nothing is overwritten."""

    view: BranchView


def _push(
    promotion: Promotion, judged: BranchView, candidate: Candidate, checklist: Checklist
) -> tuple[CommittedPromotion, str] | _Changed:
    """Push the commit, and return it with a note for a person on how it came about."""
    heads: list[str] = []

    def decide(head: str) -> FileEdit | _CommittedBefore | _Changed:
        heads.append(head)
        view = promotion.view_at(head)
        if isinstance(view.standing, OnBranch):
            return _CommittedBefore(view.standing.promotion)
        if view.image != judged.image or view.standing != judged.standing:
            return _Changed(view)
        return _plan(promotion, view, candidate, checklist)

    promotion.say(f"committing {candidate.image.reference} to {promotion.policy.manifest.path}")
    pushed: Pushed | _CommittedBefore | _Changed = promotion.lease.push_edit(decide)
    if isinstance(pushed, _CommittedBefore):
        return pushed.promotion, "committed before; its answer had been lost"
    if isinstance(pushed, _Changed):
        return pushed
    # Read from the first head that it was decided on, so that the cost does not grow with the branch.
    git, policy = promotion.clients.git, promotion.policy.name
    since = git.history_since(heads[0], pushed.commit, policy)
    history = since if since is not None else git.history(pushed.commit, policy)  # rewritten between two tries
    return committed_promotions(history, policy)[0], f"pushed at try {pushed.attempts}"


def _plan(promotion: Promotion, view: BranchView, candidate: Candidate, checklist: Checklist) -> FileEdit:
    """Plan the commit on top of one head.

    Raises:
        StageEnded: this version must not be committed on top of that head.
    """
    assert isinstance(view.standing, MayCommit), "the branch stands as it did when the version was judged"
    require_alias(promotion, checklist)
    edit = plan_edit(promotion, view, candidate.image.reference, view.standing.attempt, checklist)
    require_permission(promotion, candidate.image.digest, checklist)  # again: it may have been held in the meantime
    return edit


def plan_edit(promotion: Promotion, view: BranchView, image: ImageRef, attempt: int, checklist: Checklist) -> FileEdit:
    """Plan the edit that puts an image into the manifest at one head.

    Raises:
        StageEnded: the manifest cannot be edited, or has that image already.
    """
    policy, version = promotion.policy, promotion.version
    edit = set_image(view.content, policy.manifest, str(image))
    if isinstance(edit, EditRefused):
        raise checklist.failed("one_commit", edit.problem.then(promotion.how_to_retry))
    if not isinstance(edit, Edited):
        problem = Problem(
            f"{policy.manifest.path} at {view.head[:12]}",
            "another image than the candidate's",
            f"{view.image}, which is the candidate's already",
            "A commit would change nothing: build an image of its own for this version.",
        )
        raise checklist.failed("one_commit", problem.then(promotion.how_to_retry))
    identity = promotion_id(policy.name, version.version, image, attempt)
    trailers = promotion_trailers(identity, version, image)
    return FileEdit(policy.manifest.path, edit.content, promotion_subject(identity), trailers)


def _done(promotion: Promotion, committed: CommittedPromotion, note: str, checklist: Checklist) -> StageDone:
    """Record the commit on the version, unless a later state stands there already."""
    commit_id = committed.commit.commit
    if promotion.record.state not in (State.CHAMPION, State.REJECTED) or _is_unrecorded(promotion, committed):
        promotion.record.write(
            State.COMMITTED,
            commit=commit_id,
            digest=committed.commit.trailers.get("Image-Digest", ""),
            attempt=str(committed.identity.attempt),
        )
    if not checklist.checks:
        for name in ("dependencies_ready", "allowed"):
            checklist.passed(name, "checked before the commit")
    checklist.passed("one_commit", f"{committed.identity} is commit {commit_id[:12]}: {note}")
    git = promotion.clients.git
    facts = {
        "promotion_id": str(committed.identity),
        "commit": commit_id,
        "commit_url": git.commit_url(commit_id),
        "diff": git.diff(commit_id),
        "committed_at": committed.commit.committed_at,
    }
    return StageDone(tuple(checklist.checks), facts)


def _is_unrecorded(promotion: Promotion, committed: CommittedPromotion) -> bool:
    """Whether the version still has the tags from before it was brought back: the command died after its commit."""
    recorded = promotion.version.tag(promotion.policy.name, "commit") == committed.commit.commit
    return is_return(committed) and not recorded and not is_verified(promotion.clients.git, committed)


def _links(promotion: Promotion) -> Mapping[str, object]:
    return {"manifest": promotion.policy.manifest.path}


STAGE = Stage(
    name="manifest_commit",
    description="The one commit that puts the version's image into its manifest.",
    kinds=frozenset({"git"}),
    checks={
        "dependencies_ready": "Before the commit: every dependency answers, sync is automated, and there is a way "
        "back.",
        "allowed": "No hold, no freeze window, and the approvals that the policy asks for.",
        "one_commit": "The branch has exactly one commit of this promotion.",
    },
    takes_lease=True,
    work=commit,
    links=_links,
)

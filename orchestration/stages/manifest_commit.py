"""Stage 2, `manifest_commit`: check all that can be known, then put the image into the manifest by one commit."""

from collections.abc import Mapping
from dataclasses import dataclass

from orchestration.promotion.branch_standing import CommittedPromotion, MayCommit, OnBranch, committed_promotions
from orchestration.promotion.branch_view import BranchView
from orchestration.promotion.identity import promotion_id, promotion_subject, promotion_trailers
from orchestration.promotion.images import parse_image
from orchestration.promotion.manifest import Edited, EditRefused, set_image
from orchestration.promotion.ports import FileEdit
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.returns import is_return, is_verified
from orchestration.promotion.state import State
from orchestration.stages.abort import require_not_aborted
from orchestration.stages.judge_candidate import Candidate, find_candidate, record_end, require_alias
from orchestration.stages.results import Checklist, StageDone, StageEnded
from orchestration.stages.rollback import rollback_target
from orchestration.stages.stage import Promotion, Stage


def commit(promotion: Promotion, view: BranchView) -> StageDone:
    """Commit the candidate's image, or find that this was done before.

    Raises:
        StageEnded: refused, superseded or waiting; nothing was committed.
        DependencyError: a dependency does not answer. The next run finds out whether a commit was made.
    """
    if isinstance(view.standing, OnBranch):
        return _done(promotion, view.standing.promotion, Checklist(), "committed before")
    checklist = Checklist()
    try:
        candidate = find_candidate(promotion, view)
        require_not_aborted(promotion, checklist)
        _check_dependencies(promotion, view, checklist)
        committed, note = _push(promotion, candidate, checklist)
    except StageEnded as ended:
        record_end(promotion, ended)
        raise
    return _done(promotion, committed, checklist, note)


def _check_dependencies(promotion: Promotion, view: BranchView, checklist: Checklist) -> None:
    """Check what must be true before the branch is touched (design rule 7).

    A Degraded application is recorded and does not block, because the promotion may be its cure (kargo#3258).
    """
    rows: list[dict[str, object]] = []
    _require_answers(promotion, checklist, rows)
    _require_automated_sync(promotion, checklist, rows)
    target = rollback_target(promotion, view, before=view.image)
    reference = parse_image(target.image)
    if reference is None or promotion.clients.images.resolve(reference) is None:
        problem = Problem(
            f"rollback target {target.image}",
            "an image that can still be pulled",
            "no such image in the registry",
            "Push it again, or commit an image that exists, so that there is a way back.",
        )
        raise checklist.failed("dependencies_ready", problem, rows=rows)
    rows.append({"what": "rollback target", "finding": f"{target.image} ({target.described})"})
    checklist.passed("dependencies_ready", "dependencies answer, sync is automated and there is a way back", rows)


def _require_answers(promotion: Promotion, checklist: Checklist, rows: list[dict[str, object]]) -> None:
    clients = promotion.clients
    for name, ask in (
        ("Argo CD's API", clients.argocd.ready),
        (f"cluster {promotion.policy.cluster}", clients.cluster.ready),
        ("Prometheus", clients.metrics.ready),
    ):
        try:
            ask()
        except DependencyError as error:
            raise checklist.failed("dependencies_ready", error.problem, State.WAITING, rows) from error
        rows.append({"what": name, "finding": "ready"})


def _require_automated_sync(promotion: Promotion, checklist: Checklist, rows: list[dict[str, object]]) -> None:
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
        raise checklist.failed("dependencies_ready", problem, rows=rows)
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


def _push(promotion: Promotion, candidate: Candidate, checklist: Checklist) -> tuple[CommittedPromotion, str]:
    """Push the commit, and return it with a note for a person on how it came about."""
    heads: list[str] = []

    def decide(head: str) -> FileEdit | _CommittedBefore:
        heads.append(head)
        view = promotion.view_at(head)
        if isinstance(view.standing, OnBranch):
            return _CommittedBefore(view.standing.promotion)
        return _plan(promotion, view, candidate, checklist)

    promotion.say(f"committing {candidate.image.reference} to {promotion.policy.manifest.path}")
    pushed = promotion.lease.push_edit(decide)
    if isinstance(pushed, _CommittedBefore):
        return pushed.promotion, "committed before; its answer had been lost"
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
    policy, version, image = promotion.policy, promotion.version, candidate.image.reference
    if not isinstance(view.standing, MayCommit):
        problem = Problem(
            str(version),
            "no commit of this version on the branch",
            f"{view.standing} at {view.head[:12]}",
            "Someone else acted in the meantime; look at the branch.",
        )
        raise checklist.failed("one_commit", problem, State.REFUSED)
    require_alias(promotion, checklist)
    edit = set_image(view.content, policy.manifest, str(image))
    if isinstance(edit, EditRefused):
        raise checklist.failed("one_commit", edit.problem)
    if not isinstance(edit, Edited):
        problem = Problem(
            f"{policy.manifest.path} at {view.head[:12]}",
            "another image than the candidate's",
            f"{view.image}, which is the candidate's already",
            "A commit would change nothing: build an image of its own for this version.",
        )
        raise checklist.failed("one_commit", problem)
    identity = promotion_id(policy.name, version.version, image, view.standing.attempt)
    trailers = promotion_trailers(identity, version, image)
    return FileEdit(policy.manifest.path, edit.content, promotion_subject(identity), trailers)


def _done(promotion: Promotion, committed: CommittedPromotion, checklist: Checklist, note: str) -> StageDone:
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
        checklist.passed("dependencies_ready", "checked before the commit")
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
        "one_commit": "The branch has exactly one commit of this promotion.",
    },
    takes_lease=True,
    work=commit,
    links=_links,
)

"""Stage 2, `manifest_commit`: look, then put the image into the manifest by exactly one commit."""

from dataclasses import dataclass

from orchestration.promotion.branch_standing import MayCommit, OnBranch, Promoted
from orchestration.promotion.identity import promotion_id, promotion_subject, promotion_trailers
from orchestration.promotion.images import parse_image
from orchestration.promotion.manifest import Edited, EditRefused, set_image
from orchestration.promotion.ports import FileEdit, LeaseLost, Pushed
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.state import State
from orchestration.stages.promotion_candidate import Candidate, find_candidate, record_end, require_alias
from orchestration.stages.rollback import rollback_target
from orchestration.stages.session import LEASE_SECONDS, Checklist, Session, StageDone, StageEnded, View

ASSET = "manifest_commit"
CHECKS = ("dependencies_ready", "one_commit")


def commit(session: Session) -> StageDone:
    """Commit the candidate's image, or find that this was done before.

    Raises:
        StageEnded: refused, superseded or waiting; nothing was committed.
        DependencyError: somebody does not answer. Whether a commit was made is found out by the next try.
    """
    view = session.look()
    session.acquire()
    if isinstance(view.standing, OnBranch):
        return _done(session, view.standing.promoted, Checklist(), "committed before")
    checklist = Checklist()
    try:
        candidate = find_candidate(session, view)
        _look_before(session, view, checklist)
        promoted, note = _push(session, candidate, checklist)
    except StageEnded as ended:
        ours = StageEnded(ended.state, ended.problem, [one for one in ended.checks if one.name in CHECKS])
        record_end(session, ours)
        raise ours from ended
    return _done(session, promoted, checklist, note)


def _look_before(session: Session, view: View, checklist: Checklist) -> None:
    """Design rule 7: what must be true before the branch is touched.

    A Degraded application is recorded and does not block, because the promotion may be its cure (kargo#3258).
    """
    clients, policy = session.clients, session.policy
    rows: list[dict[str, object]] = []
    for name, ask in (
        ("Argo CD's API", clients.argocd.ready),
        (f"cluster {policy.cluster}", clients.cluster.ready),
        ("Prometheus", clients.metrics.ready),
    ):
        try:
            ask()
        except DependencyError as error:
            raise checklist.failed("dependencies_ready", error.problem, State.WAITING, rows) from error
        rows.append({"what": name, "finding": "ready"})

    where = f"Application {policy.argocd.namespace}/{policy.argocd.application}"
    application = clients.argocd.application(policy.argocd.namespace, policy.argocd.application)
    if application is None:
        problem = Problem(where, "the application that the policy names", "none", "Apply it, or correct the policy.")
        raise checklist.failed("dependencies_ready", problem, rows=rows)
    if not application.auto_sync:
        problem = Problem(
            where, "automated sync", "that it is off", "Turn it on; the promotion then goes on by itself."
        )
        raise checklist.failed("dependencies_ready", problem, State.WAITING, rows)
    rows.append({"what": where, "finding": f"{application.sync_status}, {application.health_status}; sync automated"})

    target = rollback_target(session, view, before=view.image)
    reference = parse_image(target.image)
    if reference is None or clients.images.resolve(reference) is None:
        problem = Problem(
            f"rollback target {target.image}",
            "an image that can still be pulled",
            "that the registry has no such image",
            "Push it again, or commit an image that exists, so that there is a way back.",
        )
        raise checklist.failed("dependencies_ready", problem, rows=rows)
    rows.append({"what": "rollback target", "finding": f"{target.image} ({target.described})"})
    checklist.passed("dependencies_ready", "dependencies answer, sync is automated and there is a way back", rows)


@dataclass(frozen=True)
class _Found:
    """The commit was there already: made by a try whose answer was lost."""

    promoted: Promoted


def _push(session: Session, candidate: Candidate, checklist: Checklist) -> tuple[Promoted, str]:
    policy, version = session.policy, session.version

    def decide(head: str) -> FileEdit | _Found:
        view = session.view(head)
        if isinstance(view.standing, OnBranch):
            return _Found(view.standing.promoted)
        if not isinstance(view.standing, MayCommit):
            problem = Problem(
                str(version), "nothing of it on the branch", f"{type(view.standing).__name__} at {head[:12]}",
                "Somebody else acted meanwhile; look at the branch.",
            )  # fmt: skip
            raise checklist.failed("one_commit", problem, State.REFUSED)
        require_alias(session, checklist)
        edit = set_image(view.content, policy.manifest, str(candidate.image.reference))
        if isinstance(edit, EditRefused):
            raise checklist.failed("one_commit", edit.problem)
        if not isinstance(edit, Edited):
            problem = Problem(
                f"{policy.manifest.path} at {head[:12]}",
                "another image than the candidate's",
                f"{view.image} already",
                "Nothing would change: build an image of its own for this version.",
            )
            raise checklist.failed("one_commit", problem)
        identity = promotion_id(policy.name, version.version, candidate.image.reference, view.standing.attempt)
        trailers = promotion_trailers(identity, version, candidate.image.reference)
        return FileEdit(policy.manifest.path, edit.content, promotion_subject(identity), trailers)

    session.say(f"committing {candidate.image.reference} to {policy.manifest.path}")
    pushed = session.clients.git.push_edit(decide, session.keep(), LEASE_SECONDS)
    if isinstance(pushed, LeaseLost):
        raise session.lost(pushed)
    if isinstance(pushed, _Found):
        return pushed.promoted, "committed before; its answer had been lost"
    session.lease = pushed.lease
    return _our_commit(session, pushed), f"pushed at try {pushed.attempts}"


def _our_commit(session: Session, pushed: Pushed) -> Promoted:
    standing = session.look().standing
    if not isinstance(standing, OnBranch):
        problem = Problem(
            f"commit {pushed.commit[:12]}", "our image at HEAD", f"{type(standing).__name__}",
            "Somebody undid it at once; look at the branch.",
        )  # fmt: skip
        raise StageEnded(State.HELD, problem)
    return standing.promoted


def _done(session: Session, promoted: Promoted, checklist: Checklist, note: str) -> StageDone:
    """Record the commit on the version, unless a later state stands there already."""
    commit_id = promoted.commit.commit
    if session.version.state(session.policy.name) not in (State.CHAMPION, State.REJECTED):
        session.write(
            State.COMMITTED,
            commit=commit_id,
            digest=promoted.commit.trailers.get("Image-Digest", ""),
            attempt=str(promoted.identity.attempt),
        )
    if not checklist.checks:
        checklist.passed("dependencies_ready", "looked at before the commit")
    checklist.passed("one_commit", f"{promoted.identity} is commit {commit_id[:12]}: {note}")
    git = session.clients.git
    facts = {
        "promotion_id": str(promoted.identity),
        "commit": commit_id,
        "commit_url": git.commit_url(commit_id),
        "diff": git.diff(commit_id),
        "committed_at": promoted.commit.committed_at,
    }
    return StageDone(tuple(checklist.checks), facts)

"""Stage 2, `manifest_commit`: check all that can be known, then put the image, or the address, into the manifest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from orchestration.promotion.application_files import as_one_source
from orchestration.promotion.branch_standing import CommittedPromotion, MayCommit, OnBranch, committed_promotions
from orchestration.promotion.branch_view import BranchView, act_tags, is_verified
from orchestration.promotion.cluster_status import ApplicationStatus
from orchestration.promotion.deployed import Deployed, pinned_digest
from orchestration.promotion.identity import (
    committed_digest,
    how_to_adopt,
    promotion_id,
    promotion_subject,
    promotion_trailers,
)
from orchestration.promotion.live_before import LIVE_BEFORE, TOLD_APART, dump_live, dump_told_apart
from orchestration.promotion.looks import Bearing, Look
from orchestration.promotion.manifest import Edited, EditRefused, set_image
from orchestration.promotion.ports import FileEdit, Pushed
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.returns import is_return
from orchestration.promotion.state import State
from orchestration.stages.abort import require_not_aborted
from orchestration.stages.cut_off import finish_cut_off
from orchestration.stages.judge_candidate import Candidate, find_candidate, record_end, require_alias
from orchestration.stages.look_before import LiveTarget, looks_before
from orchestration.stages.measure import measure_live
from orchestration.stages.permission import require_permission
from orchestration.stages.pull_request import deliver_by_request, request_text, require_not_refused, withdraw_others
from orchestration.stages.results import Checklist, StageDone, StageEnded
from orchestration.stages.rollback_target import RollbackTarget, alias_disagreement, rollback_target, way_back_problem
from orchestration.stages.stage import Promotion, Stage

TARGET_CHECK = "target_can_be_judged"
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
    require_not_refused(promotion, Checklist())
    withdraw_others(promotion)
    for _ in range(_LOOKS):
        checklist = Checklist()
        candidate = find_candidate(promotion, view)
        require_not_aborted(promotion, checklist)
        application, target = _check_dependencies(promotion, view, checklist)
        learned = _check_target(promotion, view, application, target, candidate.deployed, checklist)
        _disown_copied_tags(promotion, candidate.attempt)
        require_permission(promotion, pinned_digest(candidate.deployed), promotion.act_tags, checklist)
        outcome = _push(promotion, view, candidate, learned, checklist)
        if not isinstance(outcome, _Changed):
            return _done(promotion, *outcome, checklist)
        promotion.say(f"judging again: {outcome.view.image} is in the manifest now, and {view.image} was when judged")
        view = outcome.view
        finish_cut_off(promotion, view)
        if isinstance(view.standing, OnBranch):
            return _done(promotion, view.standing.promotion, "committed before", Checklist())
    problem = Problem(
        f"{promotion.policy.manifest.path} at {view.head[:12]}",
        f"an {promotion.policy.slot.noun} that stays the same while the version is judged",
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


def _check_dependencies(
    promotion: Promotion, view: BranchView, checklist: Checklist
) -> tuple[ApplicationStatus, RollbackTarget]:
    """Check what must be true before the branch is touched (design rule 7).

    A Degraded application is recorded and does not block, because the promotion may be its cure (kargo#3258).
    """
    rows: list[dict[str, object]] = []
    _require_answers(promotion, checklist, rows)
    application = require_automated_sync(promotion, checklist, rows)
    target = require_way_back(promotion, view, checklist, rows)
    checklist.passed("dependencies_ready", "dependencies answer, sync is automated and there is a way back", rows)
    return application, target


def _check_target(
    promotion: Promotion,
    view: BranchView,
    application: ApplicationStatus,
    way_back: RollbackTarget,
    deployed: Deployed,
    checklist: Checklist,
) -> Mapping[str, str]:
    """Check that the commit can reach the workload, and be judged there; what need not stop it is only recorded.

    Returns:
        What was learned of what serves now, as trailers of the commit. What SLOs are compared with is measured before
        recorded requests are sent there.
    """
    rows: list[dict[str, object]] = []
    target = LiveTarget(promotion, promotion.lease.keep)
    try:
        live = measure_live(promotion.clients, promotion.policy, target.workload)
        for look in looks_before(target, view, application, way_back, deployed):
            if look.problem is not None:
                raise target_fault(promotion, look, checklist, rows)
            rows.append({"what": look.what, "finding": look.finding, "noted": look.bearing is Bearing.NOTED})
    except DependencyError as error:
        raise checklist.failed(TARGET_CHECK, error.problem, State.WAITING, rows) from error
    except InvalidInputError as error:
        raise checklist.failed(TARGET_CHECK, error.problem.then(promotion.how_to_retry), rows=rows) from error
    checklist.passed(TARGET_CHECK, "the commit reaches the workload, and its pods can be judged", rows)
    learned = {LIVE_BEFORE: dump_live(live)} if live else {}
    return learned | ({TOLD_APART: dump_told_apart(target.told_apart)} if target.told_apart is not None else {})


def target_fault(
    promotion: Promotion, look: Look, checklist: Checklist, rows: Sequence[Mapping[str, object]] = ()
) -> StageEnded:
    """Return how a promotion ends by what a look found."""
    assert look.problem is not None, "only a problem ends a promotion"
    if look.bearing is Bearing.WAITS:
        return checklist.failed(TARGET_CHECK, look.problem, State.WAITING, rows)
    return checklist.failed(TARGET_CHECK, look.problem.then(promotion.how_to_retry), rows=rows)


def require_way_back(
    promotion: Promotion, view: BranchView, checklist: Checklist, rows: list[dict[str, object]]
) -> RollbackTarget:
    """Require that what a rollback would return to can still be served; report an alias that Git denies."""
    target = rollback_target(promotion, view.promotions, view.image)
    assert target is not None, "the image before is known"
    disagreement = alias_disagreement(promotion, view.promotions, view.image)
    if disagreement:
        promotion.say(disagreement)
        rows.append({"what": f"alias {promotion.policy.champion_alias}", "finding": disagreement})
    problem = way_back_problem(promotion, target)
    if problem is not None:
        raise checklist.failed("dependencies_ready", problem.then(promotion.how_to_retry), rows=rows)
    rows.append({"what": "rollback target", "finding": f"{target.image} ({target.described})"})
    return target


def dependencies(promotion: Promotion) -> Mapping[str, Callable[[], None]]:
    """What must answer before the commit, and how each is asked."""
    clients, headers = promotion.clients, promotion.policy.service.headers
    return {
        "Argo CD's API": clients.argocd.ready,
        f"cluster {promotion.policy.cluster}": clients.cluster.ready,
        "Prometheus": clients.metrics.ready,
    } | ({"each value of service.headers": partial(clients.service.check_headers, headers)} if headers else {})


def _require_answers(promotion: Promotion, checklist: Checklist, rows: list[dict[str, object]]) -> None:
    for name, ask in dependencies(promotion).items():
        try:
            ask()
        except DependencyError as error:
            raise checklist.failed("dependencies_ready", error.problem, State.WAITING, rows) from error
        rows.append({"what": name, "finding": "ready"})


def application_of(promotion: Promotion) -> ApplicationStatus | None:
    """Read the policy's Application; one with several sources has the revisions of ours."""
    target, git = promotion.policy.argocd, promotion.clients.git
    application = promotion.clients.argocd.application(target.namespace, target.application)
    return as_one_source(application, git.address(), promotion.policy.manifest.path) if application else None


def require_automated_sync(
    promotion: Promotion, checklist: Checklist, rows: list[dict[str, object]]
) -> ApplicationStatus:
    """Require the policy's Application, with automated sync."""
    target = promotion.policy.argocd
    subject = f"Application {target.namespace}/{target.application}"
    application = application_of(promotion)
    if application is None:
        problem = Problem(
            subject,
            "the application that the policy names",
            "no such application",
            "Apply its manifest, or correct argocd in the policy.",
        )
        raise checklist.failed("dependencies_ready", problem.then(promotion.how_to_retry), rows=rows)
    if not application.auto_sync:
        next_step = (
            f"Set spec.syncPolicy.automated in {application.is_changed_in}. The promotion then goes on by itself."
        )
        problem = Problem(subject, "automated sync", "automated sync turned off", next_step)
        raise checklist.failed("dependencies_ready", problem, State.WAITING, rows)
    finding = f"{application.sync_status}, {application.health_status}; sync automated"
    rows.append({"what": subject, "finding": finding})
    return application


@dataclass(frozen=True)
class _CommittedBefore:
    """The commit was there already: an earlier push made it, and its answer was lost."""

    promotion: CommittedPromotion


@dataclass(frozen=True)
class _Changed:
    """Someone changed the image since it was judged, or ended a commit of this promotion: nothing is overwritten."""

    view: BranchView


def _push(
    promotion: Promotion, judged: BranchView, candidate: Candidate, learned: Mapping[str, str], checklist: Checklist
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
        edit = _plan(promotion, view, candidate, checklist)
        return replace(edit, trailers={**edit.trailers, **learned})

    promotion.say(f"committing {candidate.deployed} to {promotion.policy.manifest.path}")
    pushed: Pushed | _CommittedBefore | _Changed
    if promotion.clients.requests is not None:
        pushed = _await_merge(promotion, candidate, decide, checklist)
    else:
        pushed = promotion.lease.push_edit(decide)
    if isinstance(pushed, _CommittedBefore):
        return pushed.promotion, "committed before; its answer had been lost"
    if isinstance(pushed, _Changed):
        return pushed
    # Read from the first head that it was decided on, so that the cost does not grow with the branch.
    git, policy = promotion.clients.git, promotion.policy.name
    since = git.history_since(heads[0], pushed.commit, policy)
    history = since if since is not None else git.history(pushed.commit, policy)  # rewritten between two tries
    return committed_promotions(history, policy)[0], f"pushed at try {pushed.attempts}"


def _await_merge(
    promotion: Promotion,
    candidate: Candidate,
    decide: Callable[[str], FileEdit | _CommittedBefore | _Changed],
    checklist: Checklist,
) -> Pushed | _CommittedBefore | _Changed:
    """Let people, or the host's rules, bring the commit to the branch: end as waiting until they did."""
    deployed = candidate.deployed
    identity = promotion_id(promotion.policy.name, promotion.version.version, deployed, candidate.attempt)
    text = request_text(promotion, identity, str(deployed), (*candidate.checks, *checklist.checks))
    digest = pinned_digest(deployed)
    outcome: Pushed | _CommittedBefore | _Changed
    outcome = deliver_by_request(promotion, identity, digest, decide, text, checklist)
    return outcome


def _plan(promotion: Promotion, view: BranchView, candidate: Candidate, checklist: Checklist) -> FileEdit:
    """Plan the commit on top of one head.

    Raises:
        StageEnded: this version must not be committed on top of that head.
    """
    assert isinstance(view.standing, MayCommit), "the branch stands as it did when the version was judged"
    require_alias(promotion, checklist)
    edit = plan_edit(promotion, view, candidate.deployed, view.standing.attempt, checklist)
    made = act_tags(promotion.clients.git, promotion.policy.name)  # anew: it may have been held in the meantime
    require_permission(promotion, pinned_digest(candidate.deployed), made, checklist)
    return edit


def plan_edit(
    promotion: Promotion, view: BranchView, deployed: Deployed, attempt: int, checklist: Checklist
) -> FileEdit:
    """Plan the edit that puts an image, or an address, into the manifest at one head.

    Raises:
        StageEnded: the manifest cannot be edited, or has that image or address already.
    """
    policy, version = promotion.policy, promotion.version
    edit = set_image(view.content, policy, str(deployed))
    if isinstance(edit, EditRefused):
        raise checklist.failed("one_commit", edit.problem.then(promotion.how_to_retry))
    if not isinstance(edit, Edited):
        problem = Problem(
            f"{policy.manifest.path} at {view.head[:12]}",
            f"another {policy.slot.noun} than the candidate's",
            f"{view.image}, which is the candidate's already",
            "A commit would change nothing. "
            + how_to_adopt(policy.name, version.version)
            + (
                ""
                if policy.slot.holds_address
                else " If another version serves with that image, build this one an image of its own."
            ),
        )
        raise checklist.failed("one_commit", problem.then(promotion.how_to_retry))
    identity = promotion_id(policy.name, version.version, deployed, attempt)
    trailers = promotion_trailers(identity, version, deployed)
    return FileEdit(policy.manifest.path, edit.content, promotion_subject(identity), trailers)


def _done(promotion: Promotion, committed: CommittedPromotion, note: str, checklist: Checklist) -> StageDone:
    """Record the commit on the version, unless a later state stands there already."""
    commit_id = committed.commit.commit
    if promotion.record.state not in (State.CHAMPION, State.REJECTED) or _is_unrecorded(promotion, committed):
        promotion.record.write(
            State.COMMITTED,
            commit=commit_id,
            digest=committed_digest(committed.commit.trailers),
            attempt=str(committed.identity.attempt),
        )
    if not checklist.checks:
        for name in ("dependencies_ready", TARGET_CHECK, "allowed"):
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
    description="The one commit that puts the version's image, or its address, into its manifest.",
    kinds=frozenset({"git"}),
    checks={
        "dependencies_ready": "Before the commit: every dependency answers, sync is automated, and there is a way "
        "back.",
        TARGET_CHECK: "Before the commit: Argo CD brings the file to the workload, the API server would apply it, and "
        "the gate's queries and the recorded requests work for what serves now.",
        "allowed": "No hold, no freeze window, and the approvals that the policy asks for.",
        "one_commit": "The branch has exactly one commit of this promotion.",
    },
    takes_lease=True,
    work=commit,
    links=_links,
)

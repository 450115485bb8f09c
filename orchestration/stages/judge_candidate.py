"""Judging whether a version may be promoted: it is the challenger, good enough, recorded, and can be deployed."""

from dataclasses import dataclass

from orchestration.promotion.branch_standing import Ended, MayCommit, OnBranch, Overtaken, Reverted, TakenBack
from orchestration.promotion.branch_view import BranchView, other_under_way
from orchestration.promotion.deployed import Deployed
from orchestration.promotion.identity import how_to_adopt, how_to_return
from orchestration.promotion.images import ImageRef, choose_image
from orchestration.promotion.manifest import read_variable
from orchestration.promotion.merge_wait import still_after_return
from orchestration.promotion.model_version import ModelVersion, TrainingRun
from orchestration.promotion.originals import with_originals
from orchestration.promotion.permission import BLOCKED_TAG
from orchestration.promotion.ports import ResolvedImage
from orchestration.promotion.problems import Problem
from orchestration.promotion.quality import TRAIN_BETTER, judge_quality, run_problem
from orchestration.promotion.recorded_requests import RECORDING_PATH, recording_of, signature_problem
from orchestration.promotion.sensor_rules import SIGN_OF_LIFE_SECONDS
from orchestration.promotion.served_model import MODEL_URI, NOT_STATED, image_problem, manifest_problem, stated
from orchestration.promotion.state import State
from orchestration.promotion.summary import state_and_reason
from orchestration.promotion.timestamps import parse_time
from orchestration.stages.judge_address import architecture_problem, require_address
from orchestration.stages.judge_signature import NOT_PUBLISHED, ImageSearch, Missing, require_signature
from orchestration.stages.pull_request import end_request
from orchestration.stages.results import Check, Checklist, StageEnded
from orchestration.stages.stage import Promotion

_POLL_SECONDS = 2.0


@dataclass(frozen=True)
class Candidate:
    """A version that may be committed: which attempt it would be, and its image by digest, or its address."""

    attempt: int
    deployed: Deployed
    checks: tuple[Check, ...]


def record_end(promotion: Promotion, ended: StageEnded) -> None:
    """Write an end that came before the commit, unless this version is on the branch by now or has ended before.

    The branch is looked at again, because the candidate may have waited for its image without a lease.
    """
    if ended.state is State.CHAMPION:
        return  # it was adopted, so it has no commit, and stays what it is
    if isinstance(promotion.look().standing, MayCommit):
        end_request(promotion, ended)
        promotion.record.write(ended.state, str(ended.problem), **ended.facts)


def find_candidate(promotion: Promotion, view: BranchView) -> Candidate:
    """Judge a version that is not on the branch, and wait for its image if that is not published yet.

    Raises:
        StageEnded: at the first problem, with the checks that were judged until then.
    """
    policy, registry = promotion.policy, promotion.clients.registry
    checklist = Checklist()
    champion = registry.version_by_alias(policy.model, policy.champion_alias)
    attempt = require_challenger(promotion, view, champion, checklist)
    run = require_run(promotion, checklist)
    champion_run = registry.training(champion) if champion is not None else None
    require_quality(promotion, run, champion, champion_run, checklist)
    require_recording(promotion, run, champion_run, checklist)
    if policy.deploys == "model_uri":
        return Candidate(attempt, require_address(promotion, view, checklist), tuple(checklist.checks))
    image = _require_image(promotion, view, run, checklist)
    return Candidate(attempt, image.reference, tuple(checklist.checks))


def require_challenger(
    promotion: Promotion, view: BranchView, champion: ModelVersion | None, checklist: Checklist
) -> int:
    """Return the attempt that a commit would be, or end the stage when this is not the version to promote."""
    attempt = require_may_commit(promotion, view, champion, checklist)
    require_alias(promotion, checklist)
    compared = require_next(promotion, view, champion, checklist)
    checklist.passed("is_challenger", f"alias {promotion.policy.challenger_alias} names it, and {compared}")
    return attempt


def require_may_commit(
    promotion: Promotion, view: BranchView, champion: ModelVersion | None, checklist: Checklist
) -> int:
    """Return the attempt that a commit would be, or end the stage when this version may not be committed (again)."""
    policy, version = promotion.policy, promotion.version
    if not isinstance(view.standing, MayCommit):
        problem, state = _cannot_commit(promotion, view)
        raise checklist.failed("is_challenger", problem, state)
    if champion is not None and champion.version == version.version and version.state(policy.name) is State.CHAMPION:
        problem = Problem(str(version), "a version to promote", "the champion, which was adopted", "No action needed.")
        raise checklist.failed("is_challenger", problem, State.CHAMPION)
    return view.standing.attempt


def require_next(promotion: Promotion, view: BranchView, champion: ModelVersion | None, checklist: Checklist) -> str:
    """End the stage unless the version is newer than the champion and its turn has come; return both in words."""
    version = promotion.version
    if champion is not None and champion.version >= version.version:
        found, newer = "a version older than the champion", "Register the model again as a new version"
        next_step = f"{newer}, and make that one the challenger."
        if champion.version == version.version:
            found = f"the champion itself, by the alias {promotion.policy.champion_alias} alone"
            next_step = f"{how_to_adopt(promotion.policy.name, version.version)} To change what serves: {next_step}"
        expected = f"a version newer than the champion (version {champion.version})"
        problem = Problem(str(version), expected, found, next_step)
        raise checklist.failed("is_challenger", problem)
    unfinished = _unfinished_promotion(promotion, view)
    if unfinished is not None:
        raise checklist.failed("is_challenger", unfinished, State.WAITING)
    clients = promotion.clients
    after = still_after_return(clients.git, clients.requests, promotion.policy, version)
    if after is not None:
        facts = {BLOCKED_TAG: after.problem.fingerprint, "seen_at": ""}
        raise checklist.failed("is_challenger", after.problem, State.WAITING, facts=facts)
    return f"it is newer than champion version {champion.version}" if champion else "there is no champion yet"


def require_run(promotion: Promotion, checklist: Checklist) -> TrainingRun:
    """Return the version's training run, or end the stage unless it is FINISHED."""
    version = promotion.version
    run = promotion.clients.registry.training(version)
    problem = run_problem(version, run)
    if run is None or problem is not None:
        assert problem is not None, "a version without a run has a problem"
        raise checklist.failed("run_finished", problem.then(promotion.how_to_retry) if run is not None else problem)
    checklist.passed("run_finished", f"{run} is FINISHED")
    return run


def _cannot_commit(promotion: Promotion, view: BranchView) -> tuple[Problem, State]:
    """Return why a version with a history may not be committed, and the state in which its run ends."""
    version, state = promotion.version, promotion.record.state
    retry = promotion.how_to_retry
    reason = version.tag(promotion.policy.name, "reason")
    if promotion.record.state is State.FORMER_CHAMPION:
        next_step = how_to_return(promotion.policy.name, version.version)
        finding = f"a {state_and_reason(State.FORMER_CHAMPION, reason)}"
        return Problem(str(version), "a version that was not champion yet", finding, next_step), State.FORMER_CHAMPION
    match view.standing:
        case Ended(ended):
            finding = state_and_reason(ended, reason)
            return Problem(str(version), "a version that has not ended yet", finding, retry), ended
        case TakenBack(committed):
            assert committed.rollback is not None, "taken back means that there is a rollback commit"
            finding = f"{state_and_reason(State.ROLLED_BACK, reason)}, by commit {committed.rollback.commit[:12]}"
            return Problem(str(version), "a version that was not rejected", finding, retry), State.ROLLED_BACK
        case Reverted(committed, image):
            finding = f"commit {committed.commit.commit[:12]} undone by someone else, who put {image} there"
            if state is State.CHAMPION:
                back = "Revert that change to serve the champion again, or promote a newer version."
                return Problem(str(version), "our commit to stand", finding, back), State.REFUSED
            ended = State.ROLLED_BACK if state is State.ROLLED_BACK else State.REJECTED
            return Problem(str(version), "our commit to stand", finding, retry), ended
        case Overtaken() if state is State.ROLLED_BACK or state is State.REFUSED:
            finding = state_and_reason(state, reason)
            return Problem(str(version), "a version that has not ended yet", finding, retry), state
        case Overtaken(_, by):
            finding = f"version {by.identity.version} promoted after it (commit {by.commit.commit[:12]})"
            if state is State.CHAMPION:
                former = Problem(
                    str(version),
                    "a version that has not been the champion yet",
                    f"a former champion: {finding}",
                    how_to_return(promotion.policy.name, version.version),
                )
                return former, State.REFUSED
            newer = "Register the model again as a new version, and make that one the challenger."
            return Problem(str(version), "the newest promotion", finding, newer), State.SUPERSEDED
        case MayCommit() | OnBranch():
            raise AssertionError("such a version may be committed, or is on the branch and not judged again")


def require_alias(promotion: Promotion, checklist: Checklist) -> None:
    """End the stage unless the challenger alias still names this version."""
    policy, version = promotion.policy, promotion.version
    named = promotion.clients.registry.version_by_alias(policy.model, policy.challenger_alias)
    if named is None or named.version != version.version:
        problem = Problem(
            str(version),
            f"the version that alias {policy.challenger_alias} names",
            f"alias {policy.challenger_alias} " + (f"naming version {named.version}" if named else "not set"),
            f"To promote it: incumbent register {policy.name} {version.version}." if named else promotion.how_to_retry,
        )
        raise checklist.failed("is_challenger", problem, State.SUPERSEDED if named else State.REFUSED)
    if named.state(policy.name) is State.REFUSED and version.state(policy.name) is not State.REFUSED:
        finding = f"meanwhile {state_and_reason(State.REFUSED, named.tag(policy.name, 'reason'))}"
        problem = Problem(str(version), "a promotion to go on with", finding, promotion.how_to_retry)
        raise checklist.failed("is_challenger", problem)


def _unfinished_promotion(promotion: Promotion, view: BranchView) -> Problem | None:
    policy = promotion.policy
    registry, git, number = promotion.clients.registry, promotion.clients.git, promotion.version.version
    under_way = other_under_way(registry, git, policy, view.head, view.promotions, number)
    if under_way is None:
        return None
    committed, other = under_way
    state = "deleted from the registry" if other is None else other.state(policy.name) or "without a state"
    return Problem(
        str(promotion.version),
        "no other promotion under way",
        f"version {committed.identity.version} {state} (commit {committed.commit.commit[:12]})",
        "No action needed: that version is finished first, then this one goes on. If it is held, its page says how to "
        "leave that state.",
    )


def require_quality(
    promotion: Promotion,
    run: TrainingRun,
    champion: ModelVersion | None,
    champion_run: TrainingRun | None,
    checks: Checklist,
) -> None:
    """Require that the version's metrics keep the policy's bounds, and compare with the champion's."""
    compared = [bound.metric for bound in promotion.policy.quality if bound.no_worse_than_champion_by is not None]
    if champion is not None and champion_run is None and compared:
        missing = Problem(
            f"champion version {champion.version}",
            f"its training run, to compare {', '.join(compared)} with",
            f"no run {champion.run_id} in the registry" if champion.run_id else "a version without a run",
            "Restore the run, or remove no_worse_than_champion_by from the policy for this one promotion.",
        )
        raise checks.failed("quality", missing.then(promotion.how_to_retry))
    rows = judge_quality(promotion.policy, run, champion_run)
    table = [
        {
            "metric": row.metric,
            "value": row.value,
            "logged on": row.logged_on,
            "bound": row.bound,
            "champion": row.champion_value,
            "finding": row.problem.found if row.problem else "ok",
        }
        for row in rows
    ]
    numbers = {row.metric: row.value for row in rows if row.value is not None}
    problem = next((row.problem for row in rows if row.problem), None)
    if problem is not None:
        if problem.next_step != TRAIN_BETTER:
            problem = problem.then(promotion.how_to_retry)
        raise checks.failed("quality", problem, rows=table, numbers=numbers)
    against = f"compared with champion version {champion.version}" if champion else "no champion yet: thresholds alone"
    checks.passed("quality", f"{len(rows)} metric(s) keep their bounds; {against}", table, numbers)


def require_recording(
    promotion: Promotion, run: TrainingRun, champion_run: TrainingRun | None, checklist: Checklist
) -> None:
    """Require recorded requests of the candidate, and that they and the champion's fit its signature."""
    registry, version = promotion.clients.registry, promotion.version
    signature = registry.signature(version)
    if signature is None:
        problem = Problem(
            str(version),
            "a model signature",
            "a model without a signature",
            "Log the model again with signature=infer_signature(inputs, outputs), and register it as a new version.",
        )
        raise checklist.failed("recorded_requests_fit", problem)
    rows: list[dict[str, object]] = []
    for whose, recorded_run in (("candidate", run), ("champion", champion_run)):
        recording = recording_of(registry, recorded_run.run_id if recorded_run is not None else None)
        if recording is None and whose == "champion":
            continue
        recording = recording or _no_recording(version)
        if isinstance(recording, Problem):
            raise checklist.failed("recorded_requests_fit", recording.then(promotion.how_to_retry), rows=rows)
        misfit = signature_problem(recording, signature, promotion.policy.service.protocol)
        if misfit is not None:
            raise checklist.failed("recorded_requests_fit", misfit.then(promotion.how_to_retry), rows=rows)
        rows.append({"recorded for": whose, "requests": len(recording.requests), "finding": "fit the signature"})
    checklist.passed("recorded_requests_fit", "recorded requests fit the signature", rows)


def _no_recording(version: ModelVersion) -> Problem:
    return Problem(
        str(version),
        f"recorded requests (artifact {RECORDING_PATH} of its run)",
        "no recorded requests",
        f"Record them by asking a running server: incumbent record {version.model} {version.version} --url URL.",
    )


def _require_image(promotion: Promotion, view: BranchView, run: TrainingRun, checklist: Checklist) -> ResolvedImage:
    """Wait for the version's image until its deadline; it must run on the cluster's nodes and serve this version."""
    policy, version, clock = promotion.policy, promotion.version, promotion.clients.clock
    chosen = choose_image(with_originals(promotion.clients.registry, version), run, policy.images.repository)
    if isinstance(chosen, Problem):
        raise checklist.failed("image_published", chosen.then(promotion.how_to_retry))
    requested_at = parse_time(version.tag(policy.name, "requested_at"))
    deadline = (clock.now() if requested_at is None else requested_at) + policy.images.deadline
    sign_at = 0.0
    search = ImageSearch(promotion, chosen, deadline)
    while isinstance(found := search.look(), Missing):
        check = "image_published" if found is NOT_PUBLISHED else "image_signed"
        if clock.now() >= deadline:
            raise checklist.failed(check, _not_in_time(promotion, chosen, found))
        if promotion.lease.is_held:  # others may write for the application while this version waits (design rule 2)
            raise checklist.failed(check, _still_to_come(promotion, chosen, found), State.WAITING)
        if clock.now() >= sign_at:
            sign_at = clock.now() + SIGN_OF_LIFE_SECONDS
            promotion.say(f"waiting for image {chosen} to be {found.what}, for {deadline - clock.now():.0f} s at most")
            promotion.record.give_sign_of_life()
            promotion.record.write(State.WAITING, f"image {chosen} is not {found.what} yet")
        clock.sleep(_POLL_SECONDS)
        require_alias(promotion, checklist)
    judge_image(promotion, view, found.image, checklist)
    require_signature(promotion, found, checklist)
    return found.image


def judge_image(promotion: Promotion, view: BranchView, image: ResolvedImage, checklist: Checklist) -> None:
    """Require that a published image runs on the cluster's nodes, and that it and the manifest serve this version."""
    problem = architecture_problem(promotion, image)
    if problem is not None:
        raise checklist.failed("image_published", problem.then(promotion.how_to_retry))
    _require_this_version(promotion, view, image, checklist)


def _require_this_version(promotion: Promotion, view: BranchView, image: ResolvedImage, checklist: Checklist) -> None:
    """Require that the manifest and the image let this version be served, as far as they say so by themselves.

    What the manifest sets takes precedence over the image. What it takes from elsewhere is seen in the pods.
    """
    policy, version = promotion.policy, with_originals(promotion.clients.registry, promotion.version)
    variable = read_variable(view.content, policy, MODEL_URI)
    if variable is not None:
        place = f"{policy.manifest.path}, line {variable.line}, at {view.head[:12]}"
        problems = [manifest_problem(place, variable.value, version, promotion.how_to_retry)]
    else:
        found = (image_problem(platform.environment, version) for platform in image.platforms)
        problems = [problem and problem.then(promotion.how_to_retry) for problem in found]
    problem = next(filter(None, problems), None)

    def served_by(uri: str | None) -> str:
        return stated(uri, version).removeprefix(f"{MODEL_URI}=") if uri is not None else NOT_STATED

    rows = [
        {
            "architecture": platform.architecture,
            "manifest": platform.manifest_digest,
            "serves": served_by(variable.value if variable is not None else platform.environment.get(MODEL_URI)),
            "stated by": "the Kubernetes manifest" if variable is not None else "the image",
        }
        for platform in image.platforms
    ]
    if problem is not None:
        raise checklist.failed("image_published", problem, rows=rows)
    checklist.passed("image_published", f"{image.reference} is published and fits the nodes", rows)


def _not_in_time(promotion: Promotion, image: ImageRef, missing: Missing) -> Problem:
    policy, version = promotion.policy, promotion.version
    return Problem(
        f"image {image}",
        f"an image {missing.what} within {policy.images.deadline:g} s of the request",
        missing.found,
        f"{missing.mend}, then: incumbent retry {policy.name} {version.version} --reason 'image {missing.what}'.",
    )


def _still_to_come(promotion: Promotion, image: ImageRef, missing: Missing) -> Problem:
    policy, version = promotion.policy, promotion.version
    return Problem(
        f"image {image}",
        f"a {missing.what} image",
        f"{missing.found} yet",
        f"Materialize promotion_candidate of {policy.name}@{version.version}, which waits for it without the lease.",
    )

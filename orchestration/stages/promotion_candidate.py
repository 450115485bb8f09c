"""Stage 1, `promotion_candidate`: may this version be promoted at all? Nothing is committed here."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestration.promotion.branch_standing import (
    Ended,
    MayCommit,
    OnBranch,
    Overtaken,
    Promoted,
    Reverted,
    TakenBack,
    live_promotion,
)
from orchestration.promotion.identity import how_to_retry
from orchestration.promotion.images import ImageRef, choose_image, served_model_problem
from orchestration.promotion.model_version import ModelVersion, TrainingRun
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Registry, ResolvedImage
from orchestration.promotion.problems import Problem
from orchestration.promotion.quality import judge_quality, run_problem
from orchestration.promotion.recorded_requests import RECORDING_PATH, parse_recording, signature_problem
from orchestration.promotion.sensor_rules import SIGN_OF_LIFE_SECONDS
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import parse_time
from orchestration.stages.session import Check, Checklist, Session, StageDone, StageEnded, View

ASSET = "promotion_candidate"
CHECKS = ("is_challenger", "run_finished", "quality", "recorded_requests_fit", "image_published")

_POLL_SECONDS = 2.0


@dataclass(frozen=True)
class Candidate:
    """A version that may be committed: which attempt it would be, and its image by digest."""

    attempt: int
    image: ResolvedImage
    checks: tuple[Check, ...]


def examine(session: Session) -> StageDone:
    """Decide whether the version is a candidate; one that is on the branch already passes, for it is finished first.

    Raises:
        StageEnded: refused, superseded or waiting, with the checks that were judged until then. The state is written.
        DependencyError: somebody does not answer; nothing was decided.
    """
    view = session.look()
    if isinstance(view.standing, OnBranch):
        promoted = view.standing.promoted
        note = f"judged before commit {promoted.commit.commit[:12]}; what is committed is finished first"
        facts = {"image": view.image, "attempt": promoted.identity.attempt, "promotion_id": str(promoted.identity)}
        return StageDone(tuple(Check(name, True, note) for name in CHECKS), facts)
    if isinstance(view.standing, MayCommit):
        session.give_sign_of_life()
    try:
        candidate = find_candidate(session, view)
    except StageEnded as ended:
        record_end(session, ended)
        raise
    return StageDone(candidate.checks, {"image": str(candidate.image.reference), "attempt": candidate.attempt})


def record_end(session: Session, ended: StageEnded) -> None:
    """Write an end that came before the commit, unless this version stands on the branch or has ended before."""
    if isinstance(session.look().standing, MayCommit):
        session.write(ended.state, str(ended.problem))


def find_candidate(session: Session, view: View) -> Candidate:
    """Judge a version that is not on the branch; waits for an image that is not published yet.

    Raises:
        StageEnded: at the first problem, with the checks that were judged until then.
    """
    policy, registry = session.policy, session.clients.registry
    checklist = Checklist()
    champion = registry.version_by_alias(policy.model, policy.champion_alias)
    attempt = _require_challenger(session, view, champion, checklist)

    run = registry.run(session.version.run_id) if session.version.run_id else None
    problem = run_problem(session.version, run)
    if run is None or problem is not None:
        assert problem is not None, "a version without a run has a problem"
        raise checklist.failed("run_finished", problem)
    checklist.passed("run_finished", f"run {run.run_id} is FINISHED")

    champion_run = registry.run(champion.run_id) if champion is not None and champion.run_id else None
    _require_quality(session, run, champion, champion_run, checklist)
    _require_recording(session, run, champion_run, checklist)
    image = _require_image(session, run, checklist)
    return Candidate(attempt, image, tuple(checklist.checks))


def _require_challenger(session: Session, view: View, champion: ModelVersion | None, checklist: Checklist) -> int:
    """The attempt that a commit would be; ends the stage when this version is not the one to promote."""
    policy, version = session.policy, session.version
    retry = how_to_retry(policy.name, version.version)

    def refuse(expected: str, found: str, next_step: str, state: State = State.REFUSED) -> StageEnded:
        return checklist.failed("is_challenger", Problem(str(version), expected, found, next_step), state)

    match view.standing:
        case MayCommit(attempt):
            pass
        case Ended(state):
            reason = version.tag(policy.name, "reason") or "no reason kept"
            raise refuse("a version that has not ended yet", f"{state} ({reason})", retry, state)
        case TakenBack(promoted):
            assert promoted.rollback is not None, "taken back means that there is a rollback commit"
            reason = version.tag(policy.name, "reason") or "no reason kept"
            found = f"taken back by commit {promoted.rollback.commit[:12]} ({reason})"
            raise refuse("a version that was not rejected", found, retry, State.ROLLED_BACK)
        case Reverted(promoted, image):
            found = f"commit {promoted.commit.commit[:12]} undone by somebody, who put {image} there"
            raise refuse("our commit to stand", found, retry, State.REJECTED)
        case Overtaken(_, by):
            found = f"version {by.identity.version} promoted after it (commit {by.commit.commit[:12]})"
            raise refuse("the newest promotion", found, "Promote a newer version.", State.SUPERSEDED)
        case OnBranch():
            raise AssertionError("a version on the branch is not judged again")

    require_alias(session, checklist)
    if champion is not None and champion.version >= version.version:
        raise refuse(
            f"a version newer than the champion (version {champion.version})",
            "an older one" if champion.version > version.version else "the champion itself",
            "Register the model again as a new version, and make that the challenger.",
        )
    unfinished = _unfinished_promotion(session, view)
    if unfinished is not None:
        raise checklist.failed("is_challenger", unfinished, State.WAITING)
    summary = f"alias {policy.challenger_alias} names it, and it is newer than "
    checklist.passed("is_challenger", summary + (f"version {champion.version}" if champion else "no champion yet"))
    return attempt


def require_alias(session: Session, checklist: Checklist) -> None:
    """End the stage unless the challenger alias still names this version."""
    policy, version = session.policy, session.version
    now = session.clients.registry.version_by_alias(policy.model, policy.challenger_alias)
    if now is None or now.version != version.version:
        problem = Problem(
            str(version),
            f"to be the one that alias {policy.challenger_alias} names",
            f"that it names version {now.version}" if now else "that the alias is not set",
            f"To promote it: incumbent register {policy.name} {version.version}.",
        )
        raise checklist.failed("is_challenger", problem, State.SUPERSEDED if now else State.REFUSED)


def under_way_on_branch(
    registry: Registry, policy: Policy, found: Sequence[Promoted], version: int | None
) -> tuple[Promoted, ModelVersion] | None:
    """Another version than this one that is committed and neither champion nor taken back: it is finished first."""
    live = live_promotion(found)
    if live is None or live.identity.version == version:
        return None
    other = registry.version(policy.model, live.identity.version)
    state = other.state(policy.name) if other is not None else None
    return (live, other) if other is not None and state is not None and state.is_under_way_on_branch else None


def _unfinished_promotion(session: Session, view: View) -> Problem | None:
    policy = session.policy
    found = under_way_on_branch(session.clients.registry, policy, view.found, session.version.version)
    if found is None:
        return None
    live, other = found
    return Problem(
        str(session.version),
        "no other promotion under way",
        f"version {live.identity.version} committed ({live.commit.commit[:12]}) and {other.state(policy.name)}",
        "Nothing to do: it is finished first, then this one goes on. If it is held, its page says how to leave that.",
    )


def _require_quality(
    session: Session,
    run: TrainingRun,
    champion: ModelVersion | None,
    champion_run: TrainingRun | None,
    checks: Checklist,
) -> None:
    compared = [bound.metric for bound in session.policy.quality if bound.no_worse_than_champion_by is not None]
    if champion is not None and champion_run is None and compared:
        missing = Problem(
            f"champion version {champion.version}",
            f"its training run, to compare {', '.join(compared)} with",
            f"no run {champion.run_id}" if champion.run_id else "a version without a run",
            "Restore the run, or remove no_worse_than_champion_by from the policy for this one promotion.",
        )
        raise checks.failed("quality", missing)
    rows = judge_quality(session.policy, run, champion_run)
    table = [
        {
            "metric": row.metric,
            "value": row.value,
            "bound": row.bound,
            "champion": row.champion_value,
            "finding": str(row.problem.found) if row.problem else "ok",
        }
        for row in rows
    ]
    numbers = {row.metric: row.value for row in rows if row.value is not None}
    problem = next((row.problem for row in rows if row.problem), None)
    if problem is not None:
        raise checks.failed("quality", problem, rows=table, numbers=numbers)
    against = f"compared with champion version {champion.version}" if champion else "no champion yet: thresholds alone"
    checks.passed("quality", f"{len(rows)} metric(s) keep their bounds; {against}", table, numbers)


def _require_recording(
    session: Session, run: TrainingRun, champion_run: TrainingRun | None, checklist: Checklist
) -> None:
    """The candidate has recorded requests, and they and the champion's fit its signature."""
    registry, version = session.clients.registry, session.version
    signature = registry.signature(version)
    if signature is None:
        problem = Problem(
            str(version), "a model signature", "none", "Log the model with signature=infer_signature(inputs, outputs)."
        )
        raise checklist.failed("recorded_requests_fit", problem)
    rows: list[dict[str, object]] = []
    for whose, one in (("candidate", run), ("champion", champion_run)):
        content = registry.artifact(one.run_id, RECORDING_PATH) if one is not None else None
        if content is None and whose == "champion":
            continue
        recording = parse_recording(content) if content is not None else _no_recording(version)
        problem_found = recording if isinstance(recording, Problem) else signature_problem(recording, signature)
        if problem_found is not None:
            raise checklist.failed("recorded_requests_fit", problem_found, rows=rows)
        assert not isinstance(recording, Problem)
        rows.append({"recorded for": whose, "requests": len(recording.requests), "finding": "fit the signature"})
    checklist.passed("recorded_requests_fit", "recorded requests fit the signature", rows)


def _no_recording(version: ModelVersion) -> Problem:
    return Problem(
        str(version),
        f"recorded requests (artifact {RECORDING_PATH} of its run)",
        "none",
        f"Make them by asking a running server: incumbent record {version.model} {version.version} --url URL.",
    )


def _require_image(session: Session, run: TrainingRun, checklist: Checklist) -> ResolvedImage:
    """The version's image, waited for until its deadline; it must run on the cluster's nodes and serve this version."""
    policy, version, clock = session.policy, session.version, session.clients.clock
    chosen = choose_image(version, run, policy.image.repository)
    if isinstance(chosen, Problem):
        raise checklist.failed("image_published", chosen)
    requested_at = parse_time(version.tag(policy.name, "requested_at"))
    deadline = (clock.now() if requested_at is None else requested_at) + policy.image.deadline
    sign_at = 0.0
    while (image := session.clients.images.resolve(chosen)) is None:
        if clock.now() >= deadline:
            raise checklist.failed("image_published", _not_published(session, chosen))
        if clock.now() >= sign_at:
            sign_at = clock.now() + SIGN_OF_LIFE_SECONDS
            session.say(f"waiting for image {chosen} to be published, for {deadline - clock.now():.0f} s at most")
            session.give_sign_of_life()
            session.write(State.WAITING, f"image {chosen} is not published yet")
        clock.sleep(_POLL_SECONDS)
        require_alias(session, checklist)
    problem = _architecture_problem(session, image) or next(
        (found for one in image.platforms if (found := served_model_problem(one.environment, version))), None
    )
    if problem is not None:
        raise checklist.failed("image_published", problem)
    rows = [
        {
            "architecture": one.architecture,
            "manifest": one.manifest_digest,
            "serves": one.environment.get("MODEL_URI", "unstated"),
        }
        for one in image.platforms
    ]
    checklist.passed("image_published", f"{image.reference} is published and fits the nodes", rows)
    return image


def _not_published(session: Session, image: ImageRef) -> Problem:
    policy, version = session.policy, session.version
    return Problem(
        f"image {image}",
        f"to be published within {policy.image.deadline:g} s of the request",
        "that the registry has no such image",
        f"Push it, then: incumbent retry {policy.name} {version.version} --reason 'image published'.",
    )


def _architecture_problem(session: Session, image: ResolvedImage) -> Problem | None:
    nodes = session.clients.cluster.nodes()
    wanted = {node.architecture for node in nodes if node.ready} or {node.architecture for node in nodes}
    offered = {one.architecture for one in image.platforms}
    if wanted & offered:
        return None
    return Problem(
        f"image {image.reference}",
        f"a platform of cluster {session.policy.cluster}'s nodes ({', '.join(sorted(wanted)) or 'no nodes'})",
        ", ".join(sorted(offered)) or "no platform at all",
        "Build and push the image for the nodes' architecture.",
    )

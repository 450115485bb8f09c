"""The five assets: the registered model, and the four stages of its promotion, each with its fixed checks."""

import warnings
from collections.abc import Callable, Iterator
from textwrap import shorten

import dagster as dg

from orchestration.metadata import CHECKS_SAY, check_results, facts_metadata, problem_metadata
from orchestration.partitions import model_versions, policy_and_version
from orchestration.promotion.problems import DependencyError, ProblemError
from orchestration.promotion.state import State
from orchestration.resources import Platform
from orchestration.stages import manifest_commit as commit
from orchestration.stages import promotion_candidate as candidate
from orchestration.stages import rollout
from orchestration.stages import serving_model as serving
from orchestration.stages.rollback import finish_rejection
from orchestration.stages.rollout import hold
from orchestration.stages.session import Session, StageDone, StageEnded, open_session, unexpected

# Checks of single partitions are a preview feature; the exact version of Dagster is pinned for it.
warnings.filterwarnings("ignore", category=dg.PreviewWarning, message=".*partitions_def.*AssetCheckSpec.*")

VERSION_TAG, OUTCOME_TAG, REASON_TAG = "version", "outcome", "reason"
"""Tags of a run, without a prefix: the list of runs cuts a tag off after about 25 characters."""
_REASON_WIDTH = 120

_GROUP = "promotion"
_ORDER = (candidate.ASSET, commit.ASSET, rollout.ASSET, serving.ASSET)

registered_model = dg.AssetSpec(
    "registered_model",
    partitions_def=model_versions,
    group_name=_GROUP,
    description="A model version in the registry. Set the challenger alias on one, and its promotion begins.",
    kinds={"mlflow"},
)


def _stage(
    name: str, after: str, checks: tuple[str, ...], work: Callable[[Session], StageDone], kinds: set[str], doc: str
) -> dg.AssetsDefinition:
    """An asset whose op does one stage: it yields its checks and then a materialization, or the reason of the end."""

    @dg.asset(
        name=name,
        deps=[after],
        partitions_def=model_versions,
        group_name=_GROUP,
        kinds=kinds,
        description=doc,
        check_specs=[
            dg.AssetCheckSpec(check, asset=name, partitions_def=model_versions, description=CHECKS_SAY[check])
            for check in checks
        ],
    )
    def stage(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> Iterator[object]:
        session: Session | None = None
        try:
            policy_name, version = policy_and_version(context.partition_key)
            context.instance.add_run_tags(context.run.run_id, {VERSION_TAG: str(version)})
            policy = platform.policy(policy_name)
            session = open_session(platform.clients(policy), policy, version, context.run.run_id, context.log.info)
            if name == candidate.ASSET:
                yield _observation(context.partition_key, session)
            finish_rejection(session)
            done = work(session)
        except ProblemError as error:
            if isinstance(error, DependencyError) and session is not None:
                _hold_what_is_committed(context, session, error)
            _release(context, session)
            if isinstance(error, StageEnded):
                yield from check_results([check for check in error.checks if check.name in checks])
            outcome = _outcome(error, session)
            _tell_outcome(context, outcome, error.problem.found)
            raise _failure(error, outcome) from None  # the problem says all; a trace would push it off the page
        except dg.DagsterExecutionInterruptedError:
            if session is not None and _was_cancelled(context):
                _hold_by_person(session)
            _release(context, session)
            raise
        if not _goes_on(context, name):
            _release(context, session)
        if name == serving.ASSET:
            _tell_outcome(context, str(State.CHAMPION))
        yield from check_results(done.checks)
        yield dg.MaterializeResult(metadata=facts_metadata({**_about(name, session), **done.facts}))

    return stage


def _goes_on(context: dg.AssetExecutionContext, name: str) -> bool:
    """Whether this run has a stage after this one, which takes the lease over; otherwise it is given back now."""
    selected = context.run.asset_selection
    later = _ORDER[_ORDER.index(name) + 1 :]
    return bool(later) and (selected is None or dg.AssetKey(later[0]) in selected)


def _observation(key: str, session: Session) -> dg.AssetObservation:
    version = session.version
    facts = {
        "version_url": session.clients.registry.version_url(version),
        "run_id": version.run_id,
        "state": version.tag(session.policy.name, "state"),
        "requested_at": version.tag(session.policy.name, "requested_at"),
    }
    return dg.AssetObservation(registered_model.key, partition=key, metadata=facts_metadata(facts))


def _about(name: str, session: Session) -> dict[str, object]:
    """Where a stage's work is to be seen outside of Dagster."""
    policy, version = session.policy, session.version
    target = policy.manifest
    facts: dict[str, dict[str, object]] = {
        candidate.ASSET: {
            "version_url": session.clients.registry.version_url(version),
            "mlflow_run": version.run_id,
        },
        commit.ASSET: {"manifest": target.path},
        rollout.ASSET: {
            "argocd_application": f"{policy.argocd.namespace}/{policy.argocd.application}",
            "workload": f"{target.kind} {target.namespace}/{target.name} of cluster {policy.cluster}",
        },
        serving.ASSET: {"service_url": policy.service_url},
    }
    return facts[name]


def _outcome(error: ProblemError, session: Session | None) -> str:
    """How the run ends, in the design's words; `error` when nothing was judged and nothing is committed."""
    if isinstance(error, StageEnded):
        return str(error.state).replace("_", " ")
    held = session is not None and session.version.state(session.policy.name) is State.HELD
    return str(State.HELD) if held else "error"


def _tell_outcome(context: dg.AssetExecutionContext, outcome: str, found: str = "") -> None:
    """Put the end on the run itself, so that the list of runs shows it and can be filtered by it."""
    tags = {OUTCOME_TAG: outcome} | ({REASON_TAG: shorten(found, _REASON_WIDTH, placeholder=" ...")} if found else {})
    context.instance.add_run_tags(context.run.run_id, tags)


def _failure(error: ProblemError, outcome: str) -> dg.Failure:
    metadata = problem_metadata(error.problem)
    return dg.Failure(f"{outcome}: {error.problem}", metadata=metadata, allow_retries=False)


def _hold_what_is_committed(context: dg.AssetExecutionContext, session: Session, error: DependencyError) -> None:
    """After the commit a dependency that fails holds the promotion; before it, the state stays as it is."""
    if session.lease is None or session.version.state(session.policy.name) is not State.COMMITTED:
        return
    try:
        hold(session, unexpected(error))
    except ProblemError as second:
        context.log.warning(f"the state could not be written: {second}")


def _hold_by_person(session: Session) -> None:
    session.write(
        State.HELD,
        "A person cancelled the run. Materialize the partition again to go on; to give it up, revert the commit.",
        held_by="person",
    )


def _was_cancelled(context: dg.AssetExecutionContext) -> bool:
    """Whether a person asked for the end; a host that shuts down interrupts runs too, and those are resumed."""
    run = context.instance.get_run_by_id(context.run.run_id)
    return run is not None and run.status in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)


def _release(context: dg.AssetExecutionContext, session: Session | None) -> None:
    if session is None:
        return
    try:
        session.release()
    except DependencyError as error:
        context.log.warning(f"the lease could not be given back and ends by itself: {error}")


promotion_candidate = _stage(
    candidate.ASSET,
    "registered_model",
    candidate.CHECKS,
    candidate.examine,
    {"mlflow"},
    "A version that may be promoted: finished, good enough, no worse than the champion, and with an image.",
)
manifest_commit = _stage(
    commit.ASSET,
    candidate.ASSET,
    commit.CHECKS,
    commit.commit,
    {"git"},
    "The one commit that puts the version's image into its manifest.",
)
rollout_asset = _stage(
    rollout.ASSET,
    commit.ASSET,
    rollout.CHECKS,
    rollout.roll_out,
    {"argocd", "kubernetes"},
    "The committed image, live on every replica; or taken back when the model cannot come up.",
)
serving_model = _stage(
    serving.ASSET,
    rollout.ASSET,
    serving.CHECKS,
    serving.serve,
    {"prometheus"},
    "The version, proved healthy under its SLOs and recorded requests, and champion; or taken back.",
)

stages = (promotion_candidate, manifest_commit, rollout_asset, serving_model)

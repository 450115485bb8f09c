"""The five assets: the registered model, and the four stages of its promotion, each with its fixed checks."""

import warnings
from collections.abc import Callable, Iterator

import dagster as dg

from orchestration.metadata import check_results, facts_metadata, problem_metadata
from orchestration.partitions import model_versions, policy_and_version
from orchestration.promotion.problems import DependencyError, ProblemError
from orchestration.promotion.registered import State
from orchestration.resources import Platform
from orchestration.stages import candidate, commit, rollout, serving
from orchestration.stages.rollback import finish_rejection
from orchestration.stages.rollout import hold
from orchestration.stages.session import Session, StageDone, StageEnded, open_session, unexpected

# Checks of single partitions are a preview feature; the exact version of Dagster is pinned for it.
warnings.filterwarnings("ignore", category=dg.PreviewWarning, message=".*partitions_def.*AssetCheckSpec.*")

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
        check_specs=[dg.AssetCheckSpec(check, asset=name, partitions_def=model_versions) for check in checks],
    )
    def stage(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> Iterator[object]:
        session: Session | None = None
        try:
            policy_name, version = policy_and_version(context.partition_key)
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
            raise _failure(error) from error
        except dg.DagsterExecutionInterruptedError:
            if session is not None and _was_cancelled(context):
                _hold_by_person(session)
            _release(context, session)
            raise
        if not _goes_on(context, name):
            _release(context, session)
        yield from check_results(done.checks)
        yield dg.MaterializeResult(metadata=facts_metadata(done.facts))

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


def _failure(error: ProblemError) -> dg.Failure:
    state = f"{error.state}: " if isinstance(error, StageEnded) else ""
    return dg.Failure(f"{state}{error.problem}", metadata=problem_metadata(error.problem), allow_retries=False)


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

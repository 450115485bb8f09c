"""Adopting what runs already as the champion: nothing is committed or rolled out, but all of it is checked."""

from orchestration.promotion.acts import Act, ActKind
from orchestration.promotion.branch_standing import CommittedPromotion
from orchestration.promotion.branch_view import BranchView, acts
from orchestration.promotion.cluster_status import WorkloadStatus
from orchestration.promotion.decided import Decided
from orchestration.promotion.images import choose_image, parse_image
from orchestration.promotion.ports import ResolvedImage
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.quality import run_problem
from orchestration.promotion.recorded_requests import RECORDING_PATH, parse_recording
from orchestration.promotion.rollout_conditions import Expected, conditions
from orchestration.promotion.state import State
from orchestration.stages.await_rollout import observe
from orchestration.stages.by_hand import under_way
from orchestration.stages.former_champions import end_former_champions
from orchestration.stages.judge_candidate import judge_image
from orchestration.stages.measure import replay, served_models
from orchestration.stages.results import Checklist
from orchestration.stages.stage import Promotion

_TRIES = 5
_ASK_AGAIN_SECONDS = 2.0
"""How often, and how long apart, requests without an answer are asked again: routes lag, and pods come and go."""


def adopt(promotion: Promotion, decided: Decided) -> str:
    """Make a version the champion that serves already, under the lease; return what was done, in words.

    Raises:
        InvalidInputError: it does not serve, or answers wrong; nothing was changed.
        StageEnded: the lease was lost, or the manifest cannot be read for this policy.
        DependencyError: a dependency does not answer.
    """
    view = promotion.look()
    _require_nothing_under_way(promotion, view)
    image = _image(promotion, view)
    if _is_champion(promotion, view, image):
        return f"{promotion.version} is the champion of {promotion.policy.name} already."
    _require_in_manifest(promotion, view, image)
    workload = _require_live(promotion, view, image)
    answered = _require_answers(promotion, workload)
    _record(promotion, view, image, decided)
    _crown(promotion, decided)
    return f"{promotion.version} is the champion of {promotion.policy.name} now: its image serves, and {answered}."


def _require_nothing_under_way(promotion: Promotion, view: BranchView) -> None:
    committed = under_way(promotion, view)
    if committed is not None:
        name, number = promotion.policy.name, committed.identity.version
        found = f"that of version {number} (commit {committed.commit.commit[:12]})"
        next_step = f"Wait for its end, or end it: incumbent abort {name} --reason '...'."
        raise InvalidInputError(Problem(f"policy {name}", "no promotion under way", found, next_step))


def _image(promotion: Promotion, view: BranchView) -> ResolvedImage:
    """Resolve the version's own image, and judge it as the candidate stage does."""
    version, clients = promotion.version, promotion.clients
    run = clients.registry.run(version.run_id) if version.run_id else None
    problem = run_problem(version, run)
    if run is None or problem is not None:
        assert problem is not None, "a version without a run has a problem"
        raise InvalidInputError(problem)
    chosen = choose_image(version, run, promotion.policy.image.repository)
    if isinstance(chosen, Problem):
        raise InvalidInputError(chosen)
    image = clients.images.resolve(chosen)
    if image is None:
        next_step = "Push the image that serves, or correct the version's image tags."
        raise InvalidInputError(Problem(f"image {chosen}", "a published image", "no such image", next_step))
    judge_image(promotion, view, image, Checklist())
    return image


def _is_champion(promotion: Promotion, view: BranchView, image: ResolvedImage) -> bool:
    """Whether all of it stands already: the image, the alias, the state, and the promotion or the act in Git."""
    policy, number = promotion.policy, promotion.version.version
    named = promotion.clients.registry.version_by_alias(policy.model, policy.champion_alias)
    if named is None or named.version != number or promotion.record.state is not State.CHAMPION:
        return False
    if not _has_image(promotion, view, image):
        return False
    return _committed(promotion, view) is not None or _adopted(promotion, image) is not None


def _committed(promotion: Promotion, view: BranchView) -> CommittedPromotion | None:
    live = next((made for made in view.promotions if made.rollback is None), None)
    return live if live is not None and live.identity.version == promotion.version.version else None


def _adopted(promotion: Promotion, image: ResolvedImage) -> Act | None:
    """Return the newest adoption when it is of this version with this image."""
    made = acts(promotion.clients.git, promotion.policy.name)
    newest = next((act for act in made if act.kind is ActKind.ADOPT), None)
    is_same = newest is not None and (newest.version, newest.digest) == (promotion.version.version, image.digest)
    return newest if is_same else None


def _has_image(promotion: Promotion, view: BranchView, image: ResolvedImage) -> bool:
    """Whether the manifest has the version's image: by its digest, or by a tag that names that digest now."""
    reference = parse_image(view.image)
    if reference is None or reference.repository != image.reference.repository:
        return False
    if reference.digest is not None:
        return reference.digest == image.digest
    resolved = promotion.clients.images.resolve(reference)
    return resolved is not None and resolved.digest == image.digest


def _require_in_manifest(promotion: Promotion, view: BranchView, image: ResolvedImage) -> None:
    policy, number = promotion.policy, promotion.version.version
    if not _has_image(promotion, view, image):
        next_step = f"Promote the version (incumbent register {policy.name} {number}), or adopt the one that serves."
        subject = f"{policy.manifest.path} at {view.head[:12]}"
        raise InvalidInputError(Problem(subject, f"the image of version {number}", view.image, next_step))


def _require_live(promotion: Promotion, view: BranchView, image: ResolvedImage) -> WorkloadStatus:
    """Require that the live workload and each of its pods have the image; what else is not met is said."""
    reference = parse_image(view.image)
    assert reference is not None, "the manifest has the version's image"
    git, policy = promotion.clients.git, promotion.policy
    expected = Expected(view.head, reference, policy.manifest.container, image.known_digests)

    def carries(revision: str) -> bool | None:
        return git.is_ancestor(revision, view.head) and promotion.image_at(revision) == view.image

    application, workload = observe(promotion)
    unmet = [one for one in conditions(application, workload, expected, carries) if not one.met]
    wrong = next((one for one in unmet if one.name in ("image", "digests")), None)
    if workload is None or wrong is not None:
        found = wrong.finding if wrong is not None else "no such workload"
        next_step = "Let Argo CD roll it out first, then adopt it."
        subject = str(workload) if workload is not None else "the workload"
        raise InvalidInputError(Problem(subject, f"pods that run {image.reference}", found, next_step))
    served = served_models(promotion.clients, policy, workload.new_pods, promotion.version)
    other = next((pod.problem for pod in served if pod.problem), None)
    if other is not None:
        raise InvalidInputError(other)
    for condition in unmet:
        promotion.say(f"adopted all the same: {condition.name} is not met ({condition.finding})")
    return workload


def _require_answers(promotion: Promotion, workload: WorkloadStatus) -> str:
    """Ask the version's recorded requests, if it has any; return what they showed, in words."""
    clients, policy, version = promotion.clients, promotion.policy, promotion.version
    content = clients.registry.artifact(version.run_id, RECORDING_PATH) if version.run_id else None
    if content is None:
        return "it has no recorded requests to ask"
    recording = parse_recording(content)
    if isinstance(recording, Problem):
        raise InvalidInputError(recording)
    name = f"{policy.name}/{version.version}/adopt"
    for _ in range(_TRIES):
        problems: list[Problem] = []
        recorded = replay(clients, policy, workload, workload.new_pods, recording, name, problems)
        if recorded.wrong or (not recorded.unanswered and recorded.asked == recorded.due):
            break
        clients.clock.sleep(_ASK_AGAIN_SECONDS)
    fault = next(iter((*recorded.wrong, *recorded.unanswered)), None)
    if fault is None and recorded.asked == recorded.due:
        return f"all {recorded.asked} recorded requests are answered as recorded"
    asked, reason = (fault.asked, fault.reason) if fault else ("the recorded requests", "pods that cannot be asked")
    next_step = "What runs is not what was recorded: correct it, or record it again (incumbent record)."
    raise InvalidInputError(problems[0] if problems else Problem(asked, "the recorded answer", reason, next_step))


def _record(promotion: Promotion, view: BranchView, image: ResolvedImage, decided: Decided) -> None:
    """Keep the adoption in Git, unless it is there and the command died before it went on."""
    done = _adopted(promotion, image)
    if done is not None and done.commit == view.head:
        return
    promotion.lease.confirm()
    policy, now, number = promotion.policy.name, promotion.clients.clock.now(), promotion.version.version
    promotion.clients.git.record_act(Act(policy, ActKind.ADOPT, now, decided.by, decided.reason, number, image.digest))


def _crown(promotion: Promotion, decided: Decided) -> None:
    """Move the alias, read it back, and write the states."""
    policy, registry, version = promotion.policy, promotion.clients.registry, promotion.version
    promotion.lease.confirm()
    registry.set_alias(version, policy.champion_alias)
    named = registry.version_by_alias(policy.model, policy.champion_alias)
    if named is None or named.version != version.version:
        subject, expected = f"alias {policy.champion_alias} of {policy.model}", f"version {version.version}"
        found = f"version {named.version}" if named is not None else "no version"
        next_step = "Someone else moves the alias; adopt the version again when that has stopped."
        raise InvalidInputError(Problem(subject, f"{expected}, as just written", found, next_step))
    end_former_champions(promotion)
    promotion.record.write(State.CHAMPION, f"Adopted by {decided}.")

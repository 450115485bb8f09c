"""Adopting what runs already as the champion: nothing is committed or rolled out, but all of it is checked."""

from orchestration.promotion.acts import Act, ActKind, is_adoption_of
from orchestration.promotion.branch_standing import CommittedPromotion
from orchestration.promotion.branch_view import BranchView
from orchestration.promotion.cluster_status import WorkloadStatus
from orchestration.promotion.decided import Decided
from orchestration.promotion.deployed import Deployed, ModelAddress, parse_address
from orchestration.promotion.identity import how_to_promote
from orchestration.promotion.images import parse_image
from orchestration.promotion.originals import with_originals
from orchestration.promotion.ports import ResolvedImage
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.recorded_requests import Recording, recording_of
from orchestration.promotion.rollout_conditions import Revision, conditions
from orchestration.promotion.served_model import NOT_ASKED, names_version, unproved
from orchestration.promotion.state import State
from orchestration.promotion.version_image import version_deployed
from orchestration.stages.await_rollout import observe
from orchestration.stages.by_hand import under_way
from orchestration.stages.champion_alias import end_former_champions, set_champion_alias
from orchestration.stages.expectation import expect
from orchestration.stages.judge_address import require_address
from orchestration.stages.judge_candidate import judge_image
from orchestration.stages.measure import served_models
from orchestration.stages.replay import Replay, replay_once
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
    deployed = _deployed(promotion, view)
    if _is_champion(promotion, view, deployed):
        return f"{promotion.version} is the champion of {promotion.policy.name} already."
    _require_in_manifest(promotion, view, deployed)
    recording = _recording(promotion)
    workload = _require_live(promotion, view, deployed, doubt="" if recording is not None else NOT_ASKED)
    answered = _require_answers(promotion, workload, recording)
    _record(promotion, view, deployed, decided)
    _crown(promotion, decided)
    serves = "it serves by its address" if promotion.policy.slot.holds_address else "its image serves"
    return f"{promotion.version} is the champion of {promotion.policy.name} now: {serves}, and {answered}."


def _require_nothing_under_way(promotion: Promotion, view: BranchView) -> None:
    committed = under_way(promotion, view)
    if committed is not None:
        name, number = promotion.policy.name, committed.identity.version
        found = f"that of version {number} (commit {committed.commit.commit[:12]})"
        next_step = f"Wait for its end, or end it: incumbent abort {name} --reason '...'."
        raise InvalidInputError(Problem(f"policy {name}", "no promotion under way", found, next_step))


def _deployed(promotion: Promotion, view: BranchView) -> Deployed:
    """Find the version's own image, or its address as the manifest has it, and judge it as the candidate stage does."""
    clients, policy = promotion.clients, promotion.policy
    if policy.slot.holds_address:
        by_name = require_address(promotion, view, Checklist())
        in_manifest = parse_address(view.image)
        version = with_originals(clients.registry, promotion.version)
        is_own = in_manifest is not None and in_manifest.is_fixed and names_version(in_manifest.text, version)
        return in_manifest if in_manifest is not None and is_own else by_name
    next_step = "Push the image that serves, or correct the version's image tags."
    image = version_deployed(clients.registry, clients.images, policy, promotion.version, next_step)
    if isinstance(image, Problem):
        raise InvalidInputError(image)
    assert isinstance(image, ResolvedImage), "a policy that deploys images"
    judge_image(promotion, view, image, Checklist())
    return image.reference


def _is_champion(promotion: Promotion, view: BranchView, deployed: Deployed) -> bool:
    """Whether all of it stands already: the image, the alias, the state, and the promotion or the act in Git."""
    policy, number = promotion.policy, promotion.version.version
    named = promotion.clients.registry.version_by_alias(policy.model, policy.champion_alias)
    if named is None or named.version != number or promotion.record.state is not State.CHAMPION:
        return False
    if not _has_image(promotion, view, deployed):
        return False
    return _committed(promotion, view) is not None or _adopted(promotion, view, deployed) is not None


def _committed(promotion: Promotion, view: BranchView) -> CommittedPromotion | None:
    live = next((made for made in view.promotions if made.rollback is None), None)
    return live if live is not None and live.identity.version == promotion.version.version else None


def _adopted(promotion: Promotion, view: BranchView, deployed: Deployed) -> Act | None:
    """Return the newest adoption when it is of this version with this image, and says what the manifest has."""
    newest = next((act for act in promotion.acts if act.kind is ActKind.ADOPT), None)
    is_same = newest is not None and (newest.version, newest.digest) == (promotion.version.version, deployed.digest)
    return newest if newest is not None and is_same and is_adoption_of(newest, view.image) else None


def _has_image(promotion: Promotion, view: BranchView, deployed: Deployed) -> bool:
    """Whether the manifest has the version's address, or its image, by digest or by a tag that names it now."""
    if isinstance(deployed, ModelAddress):
        return view.image == deployed.text
    reference = parse_image(view.image)
    if reference is None or reference.repository != deployed.repository:
        return False
    if reference.digest is not None:
        return reference.digest == deployed.digest
    resolved = promotion.clients.images.resolve(reference)
    return resolved is not None and resolved.digest == deployed.digest


def _require_in_manifest(promotion: Promotion, view: BranchView, deployed: Deployed) -> None:
    policy, number = promotion.policy, promotion.version.version
    if not _has_image(promotion, view, deployed):
        next_step = f"{how_to_promote(policy.name, promotion.version)} Or adopt the version that serves."
        subject = f"{policy.manifest.path} at {view.head[:12]}"
        raise InvalidInputError(Problem(subject, f"the {policy.slot.noun} of version {number}", view.image, next_step))


def _require_live(promotion: Promotion, view: BranchView, deployed: Deployed, *, doubt: str) -> WorkloadStatus:
    """Require that the live workload and each of its pods have the image; what else is not met is said.

    Where an address is deployed, each server must say what it loaded, unless recorded requests will be asked of it.
    """
    git, policy = promotion.clients.git, promotion.policy
    expected = expect(promotion, view.head, view.image)
    if isinstance(expected, Problem):
        raise InvalidInputError(expected)

    def recognise(revision: str) -> Revision:
        if not git.is_ancestor(revision, view.head):
            return Revision.UNKNOWN
        return Revision.OURS if promotion.image_at(revision) == view.image else Revision.OTHER

    application, workload = observe(promotion)
    unmet = [one for one in conditions(application, workload, expected, recognise) if not one.met]
    wrong = next((one for one in unmet if one.name in ("image", "digests")), None)
    if workload is None or wrong is not None:
        found = wrong.finding if wrong is not None else "no such workload"
        next_step = "Let Argo CD roll it out first, then adopt it."
        subject = str(workload) if workload is not None else "the workload"
        raise InvalidInputError(Problem(subject, f"pods that run {deployed}", found, next_step))
    version = with_originals(promotion.clients.registry, promotion.version)
    served = served_models(promotion.clients, policy, workload.new_pods, version)
    other = next((pod.problem for pod in served if pod.problem), None)
    problem = other or unproved(policy, served, doubt=doubt)
    if problem is not None:
        raise InvalidInputError(problem)
    for condition in unmet:
        promotion.say(f"adopted all the same: {condition.name} is not met ({condition.finding})")
    return workload


def _recording(promotion: Promotion) -> Recording | None:
    """Read the version's recorded requests; None when it has none."""
    recording = recording_of(promotion.clients.registry, promotion.version.run_id)
    if isinstance(recording, Problem):
        raise InvalidInputError(recording)
    return recording


def _require_answers(promotion: Promotion, workload: WorkloadStatus, recording: Recording | None) -> str:
    """Ask the version's recorded requests, if it has any; return what they showed, in words."""
    clients, policy, version = promotion.clients, promotion.policy, promotion.version
    if recording is None:
        return "it has no recorded requests to ask"
    name = f"{policy.name}/{version.version}/adopt"
    replay = Replay(clients, policy, workload, workload.new_pods, recording, name, promotion.lease.keep)
    for _ in range(_TRIES):
        problems: list[Problem] = []
        recorded = replay_once(replay, problems)
        too_many_wrong = len(recorded.wrong) >= policy.gate.wrong_answers
        if too_many_wrong or recorded.is_complete:
            break
        clients.clock.sleep(_ASK_AGAIN_SECONDS)
    if recorded.is_complete and not too_many_wrong:
        asked_of = f"asked of {len(workload.new_pods)} pods and the service"
        if recorded.wrong:
            right = recorded.asked - len(recorded.wrong)
            return f"{right} of {recorded.asked} answers to recorded requests, {asked_of}, are as the policy wants them"
        return f"all {len(recording.requests)} recorded requests, {asked_of}, are answered as recorded"
    fault = next(iter((*recorded.wrong, *recorded.unanswered)), None)
    asked, reason = (fault.asked, fault.reason) if fault else ("the recorded requests", "pods that cannot be asked")
    next_step = "What runs is not what was recorded: correct it, or record it again (incumbent record)."
    raise InvalidInputError(problems[0] if problems else Problem(asked, "the recorded answer", reason, next_step))


def _record(promotion: Promotion, view: BranchView, deployed: Deployed, decided: Decided) -> None:
    """Keep the adoption in Git, unless it is there and the command died before it went on."""
    done = _adopted(promotion, view, deployed)
    if done is not None and done.commit == view.head:
        return
    promotion.lease.confirm()
    policy, now, number = promotion.policy.name, promotion.clients.clock.now(), promotion.version.version
    promotion.clients.git.record_act(
        Act(policy, ActKind.ADOPT, now, decided.by, decided.reason, number, deployed.digest, view.image)
    )


def _crown(promotion: Promotion, decided: Decided) -> None:
    """Move the alias, and write the states."""
    problem = set_champion_alias(promotion, "adopt the version again")
    if problem is not None:
        raise InvalidInputError(problem)
    end_former_champions(promotion)
    promotion.record.write(State.CHAMPION, f"Adopted by {decided}.")

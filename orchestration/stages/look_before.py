"""What is asked of Argo CD, the cluster, Prometheus and the live service before a commit, so that it can be judged."""

from collections.abc import Callable, Iterator
from functools import cached_property

from orchestration.promotion.application_source import look_at_source
from orchestration.promotion.branch_view import BranchView
from orchestration.promotion.cluster_status import ApplicationStatus, WorkloadStatus
from orchestration.promotion.deployed import Deployed, is_same
from orchestration.promotion.evaluation import RecordedRound
from orchestration.promotion.gate_queries import GateNow, ask_gate, has_served, look_at_gate
from orchestration.promotion.live_answers import ANSWERS, difference_before, few_of, look_at_answers, one_pod_of
from orchestration.promotion.live_before import ToldApart
from orchestration.promotion.live_target import look_at_container, look_at_live_image, look_at_port, look_at_workload
from orchestration.promotion.live_value import live_value
from orchestration.promotion.looks import Bearing, Look, fits, noted, refused
from orchestration.promotion.manifest import Edited, set_image
from orchestration.promotion.pod_port import pod_port
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import GitOpsRepository
from orchestration.promotion.problems import Problem
from orchestration.promotion.recorded_requests import Recording, digest_of, recording_of
from orchestration.promotion.rollout_conditions import running_digest
from orchestration.promotion.served_model import NOT_STATED, unproved
from orchestration.stages.measure import served_models
from orchestration.stages.replay import Replay, replay_once
from orchestration.stages.rollback_target import RollbackTarget
from orchestration.stages.stage import Promotion
from orchestration.stages.try_manifest import try_manifest

SERVERS_WORD = "model_info"


class LiveTarget:
    """What serves now: each part is read when it is first asked for, and once."""

    def __init__(self, promotion: Promotion, keep_lease: Callable[[], object] = lambda: None) -> None:
        self.promotion, self.clients, self.policy = promotion, promotion.clients, promotion.policy
        self.keep_lease = keep_lease
        self.told_apart: ToldApart | None = None
        """How it answers otherwise than the version to promote, where that is what will prove an address."""

    @cached_property
    def workload(self) -> WorkloadStatus | None:
        """The workload as the cluster has it."""
        target = self.policy.manifest
        return self.clients.cluster.workload(target.kind, target.namespace, target.name)

    @cached_property
    def gate(self) -> GateNow | None:
        """What the gate's queries give for its pods; None without a workload."""
        return ask_gate(self.policy, self.workload, self.clients.metrics) if self.workload is not None else None


def looks_before(
    live: LiveTarget,
    view: BranchView,
    application: ApplicationStatus,
    way_back: RollbackTarget,
    deployed: Deployed | None,
) -> Iterator[Look]:
    """Look at everything, the cheapest first; the caller stops at the first look that stands in the way.

    Args:
        live: what serves now.
        view: the branch.
        application: the policy's Application, as it has just been read.
        way_back: what a rollback would return to.
        deployed: what would be committed; None when that is not known, and the manifest is looked at as it is.

    Raises:
        DependencyError: the cluster, Prometheus or the registry does not answer.
    """
    promotion, policy, clock = live.promotion, live.policy, live.clients.clock
    yield source_of(live.clients.git, policy, application, view.head)
    workload = live.workload
    yield look_at_workload(policy, application, workload)
    if workload is None:
        return
    yield look_at_container(policy, workload)
    yield look_at_port(workload, pod_port(policy, workload, live.clients.cluster))
    yield look_at_live_image(policy, application, workload, _image_synced(promotion, view.head, application))
    edit = set_image(view.content, policy, str(deployed)) if deployed is not None else None
    content = edit.content if isinstance(edit, Edited) else view.content  # why there is no edit, `one_commit` says
    yield try_manifest(live.clients.cluster, live.clients.git, policy, application, view.head, content)
    proved = proved_version(policy, view, way_back, workload)
    answers = answers_of(live, workload, proved)
    yield answers
    if live.gate is not None:
        yield from look_at_gate(policy, live.gate, is_proved=proved is not None, now=clock.now())
        if policy.slot.holds_address:
            yield _servers_word(live, live.gate, workload, proved, is_well=answers.bearing is Bearing.FITS)


def _servers_word(
    live: LiveTarget, gate: GateNow, workload: WorkloadStatus, proved: int | None, *, is_well: bool
) -> Look:
    """Find out what will prove which model new pods loaded: their servers' word, or answers that nothing else gives.

    Without either, the gate of an address never passes. Where no pod answers, a version that was verified there, or
    adopted, shows that the server loads what its address says.
    """
    promotion, policy = live.promotion, live.policy
    stated = served_models(live.clients, policy, gate.pods, promotion.version)
    silent = [one for one in stated if one.server == NOT_STATED]
    recording = _recording(live)
    if not stated:
        if proved is not None and recording is not None:
            why = f"no pod answered before; version {proved} has shown that the server loads what its address says"
            live.told_apart = ToldApart(why, digest_of(recording), "")
        return noted(SERVERS_WORD, "not asked: no pod is ready")
    if not silent:
        return fits(SERVERS_WORD, f"{stated[0].server}, says pod {stated[0].pod}")
    one, problems = one_pod_of(workload), list[Problem]()
    recorded = RecordedRound(0, 0)
    if recording is not None:
        name = f"{policy.name}/{promotion.version.version}/before"
        asked = Replay(live.clients, policy, one, one.pods, recording, name, live.keep_lease)
        recorded = replay_once(asked, problems)
    difference = difference_before(policy, promotion.version.version, recorded, problems, is_well=is_well)
    if isinstance(difference, Look):
        return difference
    if difference and recording is not None:
        image = running_digest(one.pods[0], policy.manifest.container) or ""
        live.told_apart = ToldApart(difference, digest_of(recording), image)
        return fits(SERVERS_WORD, f"silent, but what serves answers otherwise than this version ({difference})")
    now = live.clients.clock.now()
    if not all(has_served(pod, policy, now) for pod in gate.pods):
        return noted(SERVERS_WORD, f"pod {silent[0].pod} says nothing yet")
    problem = unproved(
        policy, silent, doubt="what serves answers this version's recorded requests as this version does"
    )
    assert problem is not None, "a server that says nothing proves nothing"
    return refused(SERVERS_WORD, problem)


def _recording(live: LiveTarget) -> Recording | None:
    """Read the recorded requests of the version to promote; None when they are gone since it was judged."""
    recording = recording_of(live.clients.registry, live.promotion.version.run_id)
    return recording if isinstance(recording, Recording) else None


def _image_synced(promotion: Promotion, head: str, application: ApplicationStatus) -> str | None:
    """Return the image that the file has at the commit that Argo CD has compared; None when that is not known."""
    revision = application.sync_revision
    is_known = revision is not None and promotion.clients.git.is_ancestor(revision, head)
    return promotion.image_at(revision) if revision is not None and is_known else None


def source_of(git: GitOpsRepository, policy: Policy, application: ApplicationStatus, head: str) -> Look:
    """Find out whether the Application deploys the policy's file from the branch."""
    return look_at_source(
        policy,
        application,
        git.address(),
        # Argo CD may have compared a commit that is newer than the head that was fetched.
        lambda revision: git.is_ancestor(revision, head) or git.is_ancestor(revision, git.fetch()),
        lambda path: git.read_file(head, path),
    )


def proved_version(policy: Policy, view: BranchView, target: RollbackTarget, workload: WorkloadStatus) -> int | None:
    """Return the verified version that serves now; None when what serves was never verified, or is being replaced."""
    is_live = is_same(live_value(workload, policy.manifest.container, policy.slot), view.image)
    return target.version if is_live and target.image == view.image else None


def answers_of(live: LiveTarget, workload: WorkloadStatus, proved: int | None) -> Look:
    """Ask what serves now a few of its own recorded requests."""
    if proved is None:
        return noted(ANSWERS, "not asked: no verified version serves now")
    clients, policy = live.clients, live.policy
    version = clients.registry.version(policy.model, proved)
    recording = recording_of(clients.registry, version.run_id if version is not None else None)
    if recording is None or isinstance(recording, Problem):
        return noted(ANSWERS, f"not asked: version {proved} has none that can be read")
    one = one_pod_of(workload)
    if not one.pods:
        return noted(ANSWERS, "not asked: no pod is ready")
    problems: list[Problem] = []
    name = f"{policy.name}/{proved}/before"
    asked = Replay(clients, policy, one, one.pods, few_of(recording), name, live.keep_lease)
    recorded = replay_once(asked, problems)
    return look_at_answers(policy, proved, recorded, problems)

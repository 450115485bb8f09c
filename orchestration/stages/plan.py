"""What a promotion would do now: every check of the stages before the commit, each by itself, and nothing is written.

The stages end at their first problem; a plan shows all of them. It takes no lease, so what it shows may have changed
by the time of the promotion, which judges everything again.
"""

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from orchestration.promotion.acts import current_hold
from orchestration.promotion.branch_standing import MayCommit, OnBranch
from orchestration.promotion.branch_view import BranchView, acts, other_under_way
from orchestration.promotion.gate_queries import QueryAnswer, answer_now, gate_queries
from orchestration.promotion.images import ImageRef, choose_image
from orchestration.promotion.model_version import ModelVersion, TrainingRun
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Clients, FileEdit, ResolvedImage
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem, ProblemError
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import format_time, parse_time
from orchestration.stages.judge_candidate import (
    judge_image,
    require_challenger,
    require_quality,
    require_recording,
    require_run,
)
from orchestration.stages.lease import ApplicationLease
from orchestration.stages.manifest_commit import dependencies, plan_edit, require_automated_sync, require_way_back
from orchestration.stages.permission import require_permission
from orchestration.stages.results import Checklist, StageEnded
from orchestration.stages.rollback_target import rollback_target
from orchestration.stages.stage import Promotion
from orchestration.stages.version_record import VersionRecord, read_version

Answer = TypeVar("Answer")


class Outlook(StrEnum):
    """How a check would end now."""

    PASSED = "passed"
    REFUSED = "refused"
    WAITING = "waiting"
    """It would end the run, and the promotion would go on by itself later."""
    UNANSWERED = "no answer"
    NOT_ASKED = "not asked"
    """What it would be asked about is missing."""


@dataclass(frozen=True)
class Foreseen:
    """One check, and how it would end now."""

    name: str
    outlook: Outlook
    finding: str
    next_step: str = ""


@dataclass
class Plan:
    """What a promotion of one version would do now."""

    policy: str
    version: ModelVersion
    checks: list[Foreseen] = field(default_factory=list)
    manifest: str = ""
    """The path of the file that would be edited."""
    image: str | None = None
    """The image that serves now, as the branch has it."""
    subject: str | None = None
    """The subject of the commit that would be made."""
    trailers: dict[str, str] = field(default_factory=dict)
    diff: str = ""
    way_back: str | None = None
    """The image to which a rollback would return, and what is known about it."""
    pods: tuple[str, ...] = ()
    """The pods that serve now, which the queries are asked about."""
    queries: list[QueryAnswer] = field(default_factory=list)
    under_way: list[str] = field(default_factory=list)

    @property
    def outlook(self) -> Outlook:
        """How the promotion would end before its commit: `PASSED`, `REFUSED` or `WAITING`; or `UNANSWERED`.

        A refusal is certain whatever a silent dependency would say; anything else is not.
        """
        order = (Outlook.REFUSED, Outlook.UNANSWERED, Outlook.WAITING)
        outlooks = {check.outlook for check in self.checks}
        return next((outlook for outlook in order if outlook in outlooks), Outlook.PASSED)

    @property
    def would_promote(self) -> bool:
        """Whether nothing stands in the way of the commit now."""
        return self.outlook is Outlook.PASSED


def plan_promotion(clients: Clients, policy: Policy, number: int | None, say: Callable[[str], None]) -> Plan:
    """Find out what a promotion would do now, and change nothing.

    Args:
        clients: the ports.
        policy: the policy.
        number: the version; None means the challenger.
        say: shows progress to a person.

    Raises:
        InvalidInputError: there is no such version, or no challenger.
        DependencyError: the registry does not answer.
    """
    version = _version(clients, policy, number)
    lease = ApplicationLease(clients.git, clients.clock, policy.argocd.application, "incumbent plan", say, say)
    record = VersionRecord(clients.registry, clients.clock, policy, version, lease)
    planning = _Planning(Promotion(clients, policy, record, lease, say), Plan(policy.name, version))
    planning.plan.manifest = policy.manifest.path
    planning.look_at_everything()
    return planning.plan


def _version(clients: Clients, policy: Policy, number: int | None) -> ModelVersion:
    if number is not None:
        try:
            return read_version(clients.registry, policy, number)
        except StageEnded as gone:
            raise InvalidInputError(gone.problem) from gone
    challenger = clients.registry.version_by_alias(policy.model, policy.challenger_alias)
    if challenger is None:
        problem = Problem(
            f"model {policy.model}",
            f"a version with the alias {policy.challenger_alias}, or a version on the command line",
            f"no version with the alias {policy.challenger_alias}",
            f"Name one: incumbent plan {policy.name} VERSION.",
        )
        raise InvalidInputError(problem)
    return challenger


class _Planning:
    """Asks the checks one after the other, and keeps how each would end."""

    def __init__(self, promotion: Promotion, plan: Plan) -> None:
        self.promotion, self.plan = promotion, plan
        self.clients, self.policy = promotion.clients, promotion.policy

    def look_at_everything(self) -> None:
        """Fill in the plan."""
        self.promotion.say("asking Git, the registry and the image registry")
        view = self._ask("manifest_readable", lambda _: self.promotion.look())
        if view is not None:
            self.plan.image = view.image
        image = self._candidate(view)
        self.promotion.say("asking Argo CD, the cluster and Prometheus")
        self._dependencies(view)
        if view is not None and image is not None:
            self._edit(view, image)
        self._pods()
        self._under_way(view, image)

    def _ask(self, name: str, ask: Callable[[Checklist], Answer]) -> Answer | None:
        """Ask one check; None when it does not pass. A check that says nothing itself is left out when it passes."""
        checklist = Checklist()
        try:
            answer = ask(checklist)
        except StageEnded as ended:
            outlook = Outlook.WAITING if ended.state is State.WAITING else Outlook.REFUSED
            self._foresee(name, outlook, ended.problem)
            return None
        except DependencyError as error:
            self._foresee(name, Outlook.UNANSWERED, error.problem)
            return None
        except ProblemError as error:
            self._foresee(name, Outlook.REFUSED, error.problem)
            return None
        self.plan.checks += [Foreseen(name, Outlook.PASSED, check.summary) for check in checklist.checks]
        return answer

    def _foresee(self, name: str, outlook: Outlook, problem: Problem) -> None:
        finding = f"{problem.subject}: expected {problem.expected}, found {problem.found}."
        self.plan.checks.append(Foreseen(name, outlook, finding, problem.next_step))

    def _not_asked(self, name: str, needed: str) -> None:
        self.plan.checks.append(Foreseen(name, Outlook.NOT_ASKED, f"needs {needed}"))

    def _candidate(self, view: BranchView | None) -> ResolvedImage | None:
        """Judge the candidate as `find_candidate` does, and return its image if it is published."""
        promotion, registry, policy = self.promotion, self.clients.registry, self.policy
        if view is not None and isinstance(view.standing, OnBranch):
            commit = view.standing.promotion.commit.commit
            state = promotion.record.state or "without a state"
            finding = f"it is on the branch already (commit {commit[:12]}, {state}); what is committed is finished"
            self.plan.checks.append(Foreseen("is_challenger", Outlook.PASSED, finding))
            return None
        champion = registry.version_by_alias(policy.model, policy.champion_alias)
        champion_run = registry.run(champion.run_id) if champion is not None and champion.run_id else None
        if view is None:
            self._not_asked("is_challenger", "a manifest that can be read")
        else:
            self._ask("is_challenger", lambda checklist: require_challenger(promotion, view, champion, checklist))
        run = self._ask("run_finished", lambda checklist: require_run(promotion, checklist))
        if run is None:
            for name in ("quality", "recorded_requests_fit", "image_published"):
                self._not_asked(name, "a finished run")
            return None
        self._ask("quality", lambda checklist: require_quality(promotion, run, champion, champion_run, checklist))
        self._ask("recorded_requests_fit", lambda checklist: require_recording(promotion, run, champion_run, checklist))
        if view is None:
            self._not_asked("image_published", "a manifest that can be read")
            return None
        return self._ask("image_published", lambda checklist: self._image(view, run, checklist))

    def _image(self, view: BranchView, run: TrainingRun, checklist: Checklist) -> ResolvedImage:
        chosen = choose_image(self.promotion.version, run, self.policy.image.repository)
        if isinstance(chosen, Problem):
            raise checklist.failed("image_published", chosen)
        image = self.clients.images.resolve(chosen)
        if image is None:
            raise self._not_published(chosen, checklist)
        judge_image(self.promotion, view, image, checklist)
        return image

    def _not_published(self, image: ImageRef, checklist: Checklist) -> StageEnded:
        """Return how a promotion would end: it waits for its image, but only until the deadline after its request."""
        seconds = self.policy.image.deadline
        requested_at = parse_time(self.promotion.version.tag(self.policy.name, "requested_at"))
        over = requested_at is not None and self.clients.clock.now() >= requested_at + seconds
        problem = Problem(
            f"image {image}",
            f"an image published within {seconds:g} s of the request",
            "no such image in the registry",
            "Push it. "
            + ("Its time is over: the promotion would be refused." if over else "A promotion waits for it."),
        )
        return checklist.failed("image_published", problem, State.REFUSED if over else State.WAITING)

    def _dependencies(self, view: BranchView | None) -> None:
        answered = True
        for name, ready in dependencies(self.promotion).items():

            def ask(checklist: Checklist, name: str = name, ready: Callable[[], None] = ready) -> bool:
                ready()
                checklist.passed("dependencies_ready", f"{name} is ready")
                return True

            answered = self._ask("dependencies_ready", ask) is True and answered
        rows: list[dict[str, object]] = []

        def sync(checklist: Checklist) -> None:
            require_automated_sync(self.promotion, checklist, rows)
            checklist.passed("dependencies_ready", f"{rows[-1]['what']}: {rows[-1]['finding']}")

        def way_back(checklist: Checklist) -> None:
            assert view is not None
            target = rollback_target(self.promotion, view.promotions, view.image)
            assert target is not None, "the image before is known"
            self.plan.way_back = f"{target.image} ({target.described})"
            require_way_back(self.promotion, view, checklist, rows)
            checklist.passed("dependencies_ready", "the rollback target is in the registry")

        self._ask("dependencies_ready", sync)
        if view is not None and isinstance(view.standing, MayCommit):
            self._ask("dependencies_ready", way_back)

    def _edit(self, view: BranchView, image: ResolvedImage) -> None:
        standing = view.standing
        attempt = standing.attempt if isinstance(standing, MayCommit) else 1

        def edit(checklist: Checklist) -> FileEdit:
            planned = plan_edit(self.promotion, view, image.reference, attempt, checklist)
            checklist.passed("one_commit", f"one line of {planned.path} would change")
            return planned

        planned = self._ask("one_commit", edit)
        if planned is not None:
            self.plan.subject, self.plan.trailers = planned.subject, dict(planned.trailers)
            self.plan.diff = _diff(planned, view.content)

    def _pods(self) -> None:
        """Ask the gate's queries about the pods that serve now; nothing that they give stands in a promotion's way."""
        target = self.policy.manifest
        try:
            workload = self.clients.cluster.workload(target.kind, target.namespace, target.name)
            self.plan.pods = tuple(pod.name for pod in workload.new_pods if pod.ready) if workload is not None else ()
            if workload is None or not self.plan.pods:
                return
            for asked in gate_queries(self.policy, self.plan.pods):
                self.plan.queries.append(answer_now(asked, self.policy, workload, self.clients.metrics))
        except DependencyError as error:
            known = [check.finding for check in self.plan.checks if check.outlook is Outlook.UNANSWERED]
            if not any(error.problem.subject in finding for finding in known):
                self._foresee("gate_queries", Outlook.UNANSWERED, error.problem)

    def _under_way(self, view: BranchView | None, image: ResolvedImage | None) -> None:
        """Say what else is going on: another version's promotion, a hold, a lease that another run has."""
        if view is None:
            self.plan.under_way.append("not known: the branch cannot be read")
            return
        git, policy = self.clients.git, self.policy

        def another_version(checklist: Checklist) -> None:
            number = self.plan.version.version
            other = other_under_way(self.clients.registry, git, policy, view.head, view.promotions, number)
            if other is not None:
                committed, version = other
                state = (version.state(policy.name) if version is not None else None) or "committed"
                commit = committed.commit.commit[:12]
                self.plan.under_way.append(f"version {committed.identity.version} is {state} ({commit})")

        def lease(checklist: Checklist) -> None:
            taken = git.lease(policy.argocd.application)
            if taken is not None and taken.expires_at > self.clients.clock.now():
                found = f"run {taken.holder} holding it until {format_time(taken.expires_at)}"
                self.plan.under_way.append(f"the lease of application {taken.application}: {found}")
                next_step = "No action needed: the promotion goes on when it is free."
                problem = Problem(f"the lease of application {taken.application}", "a free lease", found, next_step)
                raise checklist.failed("lease", problem, State.WAITING)
            checklist.passed("lease", "it is free")

        self._ask("under_way", another_version)
        hold = current_hold(acts(git, policy.name))
        if hold is not None:
            self.plan.under_way.append(f"a hold by {hold.by} since {format_time(hold.at)} ({hold.reason})")
        if image is not None:
            self._ask("allowed", lambda checklist: require_permission(self.promotion, image.digest, checklist))
        self._ask("lease", lease)


def _diff(edit: FileEdit, before: bytes) -> str:
    old, new = (text.decode("utf-8").splitlines(keepends=True) for text in (before, edit.content))
    return "".join(_ended(difflib.unified_diff(old, new, f"a/{edit.path}", f"b/{edit.path}")))


def _ended(lines: Iterator[str]) -> Iterator[str]:
    """Give each line its end: a file's last line may have none."""
    for line in lines:
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"

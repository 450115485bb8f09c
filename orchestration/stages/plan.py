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
from orchestration.promotion.branch_view import BranchView, other_under_way
from orchestration.promotion.decided import decided_in
from orchestration.promotion.deployed import Deployed, pinned_digest
from orchestration.promotion.gate_queries import QueryAnswer
from orchestration.promotion.images import ImageRef, choose_image
from orchestration.promotion.merge_wait import proposed_of, request_of, return_of
from orchestration.promotion.model_version import ModelVersion, TrainingRun
from orchestration.promotion.originals import with_originals
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Clients, FileEdit
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem, ProblemError
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import format_time, parse_time
from orchestration.stages.judge_address import require_address
from orchestration.stages.judge_candidate import (
    judge_image,
    require_challenger,
    require_may_commit,
    require_next,
    require_quality,
    require_recording,
    require_run,
)
from orchestration.stages.judge_signature import NOT_PUBLISHED, ImageSearch, Missing, require_signature
from orchestration.stages.lease import ApplicationLease, in_words
from orchestration.stages.look_before import LiveTarget, looks_before
from orchestration.stages.manifest_commit import (
    TARGET_CHECK,
    application_of,
    dependencies,
    plan_edit,
    require_automated_sync,
    require_way_back,
    target_fault,
)
from orchestration.stages.permission import require_permission
from orchestration.stages.results import Checklist, StageEnded
from orchestration.stages.rollback_target import RollbackTarget, rollback_target
from orchestration.stages.stage import Promotion, promotion_of
from orchestration.stages.version_record import read_version

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
    NOTE = "note"
    """It would not pass now, and the plan goes on as if it did."""


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
    alias: str
    """The alias by which a version asks for its promotion."""
    manifest: str
    """The path of the file that would be edited."""
    as_if_challenger: bool = False
    """Whether the alias does not name the version, so that all is foreseen as if it did."""
    checks: list[Foreseen] = field(default_factory=list)
    image: str | None = None
    """The image, or the address, that serves now, as the branch has it."""
    subject: str | None = None
    """The subject of the commit that would be made."""
    trailers: dict[str, str] = field(default_factory=dict)
    diff: str = ""
    way_back: str | None = None
    """What a rollback would return to, and what is known about it."""
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
    """Find out what a promotion would do now, and change nothing; of a version without the alias, as if it had it.

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
    plan = Plan(policy.name, version, policy.challenger_alias, policy.manifest.path)
    planning = _Planning(promotion_of(clients, policy, version, lease, say), plan)
    planning.look_at_everything()
    return plan


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
        self.live = LiveTarget(promotion)
        self.way_back: RollbackTarget | None = None

    def look_at_everything(self) -> None:
        """Fill in the plan."""
        self.promotion.say("asking Git, the registry and the image registry")
        view = self._ask("manifest_readable", lambda _: self.promotion.look())
        if view is not None:
            self.plan.image = view.image
            self._ask("server_takes_pushes", lambda _: self.clients.git.check_push())
        deployed = self._candidate(view)
        self.promotion.say("asking Argo CD, the cluster and Prometheus")
        self._dependencies(view, deployed)
        if view is not None and deployed is not None:
            self._edit(view, deployed)
        self._pods()
        self._under_way(view, deployed)

    def _ask(self, name: str, ask: Callable[[Checklist], Answer]) -> Answer | None:
        """Ask one check; None when it does not pass. A check that says nothing itself is left out when it passes."""
        checklist = Checklist()
        try:
            answer = ask(checklist)
        except StageEnded as ended:
            outlook = Outlook.WAITING if ended.state is State.WAITING else Outlook.REFUSED
            passed = [check for check in ended.checks if check.passed]
            self.plan.checks += [Foreseen(check.name, Outlook.PASSED, check.summary) for check in passed]
            self._foresee(
                next((check.name for check in ended.checks if not check.passed), name), outlook, ended.problem
            )
            return None
        except DependencyError as error:
            self._foresee(name, Outlook.UNANSWERED, error.problem)
            return None
        except ProblemError as error:
            self._foresee(name, Outlook.REFUSED, error.problem)
            return None
        self.plan.checks += [Foreseen(check.name, Outlook.PASSED, check.summary) for check in checklist.checks]
        return answer

    def _foresee(self, name: str, outlook: Outlook, problem: Problem) -> None:
        finding = f"{problem.subject}: expected {problem.expected}, found {problem.found}."
        self.plan.checks.append(Foreseen(name, outlook, finding, problem.next_step))

    def _not_asked(self, name: str, needed: str) -> None:
        self.plan.checks.append(Foreseen(name, Outlook.NOT_ASKED, f"needs {needed}"))

    def _candidate(self, view: BranchView | None) -> Deployed | None:
        """Judge the candidate as `find_candidate` does, and return what it deploys, if that is there."""
        promotion, registry, policy = self.promotion, self.clients.registry, self.policy
        if view is not None and isinstance(view.standing, OnBranch):
            commit = view.standing.promotion.commit.commit
            state = promotion.record.state or "without a state"
            finding = f"it is on the branch already (commit {commit[:12]}, {state}); what is committed is finished"
            self.plan.checks.append(Foreseen("is_challenger", Outlook.PASSED, finding))
            return None
        champion = registry.version_by_alias(policy.model, policy.champion_alias)
        champion_run = registry.training(champion) if champion is not None else None
        self._challenger(view, champion)
        run = self._ask("run_finished", lambda checklist: require_run(promotion, checklist))
        if run is None:
            for name in ("quality", "recorded_requests_fit", "image_published", "image_signed"):
                self._not_asked(name, "a finished run")
            return None
        self._ask("quality", lambda checklist: require_quality(promotion, run, champion, champion_run, checklist))
        self._ask("recorded_requests_fit", lambda checklist: require_recording(promotion, run, champion_run, checklist))
        if view is None:
            self._not_asked("image_published", "a manifest that can be read")
            return None
        return self._ask("image_published", lambda checklist: self._deployed(view, run, checklist))

    def _challenger(self, view: BranchView | None, champion: ModelVersion | None) -> None:
        """Foresee whether this is the version to promote; that the alias does not name it is noted, and can be set."""
        promotion, policy, number = self.promotion, self.policy, self.plan.version.version
        named = self.clients.registry.version_by_alias(policy.model, policy.challenger_alias)
        self.plan.as_if_challenger = named is None or named.version != number
        if self.plan.as_if_challenger:
            names = f"names version {named.version}" if named is not None else "is not set"
            finding = f"alias {policy.challenger_alias} {names}; the rest is what would happen if it named this version"
            next_step = f"To set it: incumbent register {policy.name} {number}."
            self.plan.checks.append(Foreseen("is_challenger", Outlook.NOTE, finding, next_step))
        if view is None:
            self._not_asked("is_challenger", "a manifest that can be read")
            return

        def as_if(checklist: Checklist) -> None:
            require_may_commit(promotion, view, champion, checklist)
            checklist.passed("is_challenger", require_next(promotion, view, champion, checklist))

        def ask(checklist: Checklist) -> None:
            require_challenger(promotion, view, champion, checklist)

        self._ask("is_challenger", as_if if self.plan.as_if_challenger else ask)

    def _deployed(self, view: BranchView, run: TrainingRun, checklist: Checklist) -> Deployed:
        if self.policy.slot.holds_address:
            return require_address(self.promotion, view, checklist)
        chosen = choose_image(
            with_originals(self.clients.registry, self.promotion.version), run, self.policy.images.repository
        )
        if isinstance(chosen, Problem):
            raise checklist.failed("image_published", chosen)
        found = ImageSearch(self.promotion, chosen, deadline=0.0).look()
        if isinstance(found, Missing):
            raise self._still_missing(chosen, found, checklist)
        judge_image(self.promotion, view, found.image, checklist)
        require_signature(self.promotion, found, checklist)
        return found.image.reference

    def _still_missing(self, image: ImageRef, missing: Missing, checklist: Checklist) -> StageEnded:
        """Return how a promotion would end: it waits for its image, but only until the deadline after its request."""
        seconds = self.policy.images.deadline
        requested_at = parse_time(self.promotion.version.tag(self.policy.name, "requested_at"))
        over = requested_at is not None and self.clients.clock.now() >= requested_at + seconds
        problem = Problem(
            f"image {image}",
            f"an image {missing.what} within {seconds:g} s of the request",
            missing.found,
            f"{missing.mend}. "
            + ("Its time is over: the promotion would be refused." if over else "A promotion waits for it."),
        )
        check = "image_published" if missing is NOT_PUBLISHED else "image_signed"
        return checklist.failed(check, problem, State.REFUSED if over else State.WAITING)

    def _dependencies(self, view: BranchView | None, deployed: Deployed | None) -> None:
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
            self.way_back = target
            require_way_back(self.promotion, view, checklist, rows)
            checklist.passed("dependencies_ready", "what a rollback would return to is in the registry")

        self._ask("dependencies_ready", sync)
        if view is not None and isinstance(view.standing, MayCommit):
            self._ask("dependencies_ready", way_back)
            self._target(view, self.way_back if answered else None, deployed)

    def _target(self, view: BranchView, way_back: RollbackTarget | None, deployed: Deployed | None) -> None:
        """Foresee each look by itself, in the words of the stage."""
        try:
            application = application_of(self.promotion) if way_back is not None else None
            if application is None or way_back is None:
                self._not_asked(TARGET_CHECK, "answers of the dependencies, and the Application")
                return
            for look in looks_before(self.live, view, application, way_back, deployed):
                if look.problem is None:
                    self.plan.checks.append(Foreseen(TARGET_CHECK, Outlook.PASSED, f"{look.what}: {look.finding}"))
                else:
                    fault = target_fault(self.promotion, look, Checklist())
                    outlook = Outlook.WAITING if fault.state is State.WAITING else Outlook.REFUSED
                    self._foresee(TARGET_CHECK, outlook, fault.problem)
        except DependencyError as error:
            self._foresee(TARGET_CHECK, Outlook.UNANSWERED, error.problem)
        except InvalidInputError as error:
            self._foresee(TARGET_CHECK, Outlook.REFUSED, error.problem)

    def _edit(self, view: BranchView, deployed: Deployed) -> None:
        standing = view.standing
        attempt = standing.attempt if isinstance(standing, MayCommit) else 1

        def edit(checklist: Checklist) -> FileEdit:
            planned = plan_edit(self.promotion, view, deployed, attempt, checklist)
            checklist.passed(
                "one_commit", f"the {self.policy.slot.noun} in {planned.path} would change, and nothing else"
            )
            return planned

        planned = self._ask("one_commit", edit)
        if planned is not None:
            self.plan.subject, self.plan.trailers = planned.subject, dict(planned.trailers)
            self.plan.diff = _diff(planned, view.content)

    def _request(self) -> None:
        """Say which pull request of this version is waited for."""
        git, requests, policy = self.clients.git, self.clients.requests, self.policy
        proposal = proposed_of(git, policy.name, self.plan.version.version) if requests is not None else None
        request = request_of(requests, proposal) if requests is not None and proposal is not None else None
        if request is not None:
            self.plan.under_way.append(f"{request}, which is {request.state}")
        returning = return_of(git, policy.name) if requests is not None else None
        if returning is not None:
            number, decided = returning[1].version, decided_in(returning[0].commit.trailers)
            self.plan.under_way.append(f"a return to version {number} by {decided}, which waits for its merge")

    def _permission(self, deployed: Deployed, checklist: Checklist) -> None:
        require_permission(self.promotion, pinned_digest(deployed), self.promotion.act_tags, checklist)

    def _pods(self) -> None:
        """Show the gate's queries, and what they give for the pods that serve now."""
        try:
            if self.live.gate is not None:
                self.plan.pods = tuple(pod.name for pod in self.live.gate.pods)
                self.plan.queries.extend(self.live.gate.answers)
        except ProblemError as error:
            outlook = Outlook.UNANSWERED if isinstance(error, DependencyError) else Outlook.REFUSED
            known = [check.finding for check in self.plan.checks if check.outlook is outlook]
            if not any(error.problem.subject in finding for finding in known):
                self._foresee("gate_queries", outlook, error.problem)

    def _under_way(self, view: BranchView | None, deployed: Deployed | None) -> None:
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
                found = f"{in_words(taken.holder)} at work, with the lease until {format_time(taken.expires_at)}"
                self.plan.under_way.append(f"on application {taken.application}: {found}")
                next_step = "No action needed: the promotion goes on when it is free."
                problem = Problem(f"the lease of application {taken.application}", "a free lease", found, next_step)
                raise checklist.failed("lease", problem, State.WAITING)
            checklist.passed("lease", "it is free")

        self._ask("under_way", another_version)
        self._ask("under_way", lambda _: self._request())
        hold = current_hold(self.promotion.acts)
        if hold is not None:
            self.plan.under_way.append(f"a hold by {hold.by} since {format_time(hold.at)} ({hold.reason})")
        if deployed is not None:
            self._ask("allowed", lambda checklist: self._permission(deployed, checklist))
        self._ask("lease", lease)


def _diff(edit: FileEdit, before: bytes) -> str:
    old, new = (text.decode("utf-8").splitlines(keepends=True) for text in (before, edit.content))
    return "".join(_ended(difflib.unified_diff(old, new, f"a/{edit.path}", f"b/{edit.path}")))


def _ended(lines: Iterator[str]) -> Iterator[str]:
    """Give each line its end: a file's last line may have none."""
    for line in lines:
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"

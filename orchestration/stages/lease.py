"""The application's lease as one run holds it: taken, kept alive, pushed under, and given back."""

import re
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from orchestration.promotion.decided import Decided
from orchestration.promotion.ports import Clock, FileEdit, GitOpsRepository, LeaseBusy, LeaseLost, LeaseRecord, Pushed
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.state import State
from orchestration.stages.results import Aborted, StageEnded

LEASE_SECONDS = 60.0
"""How long a lease outlives its owner: long enough for a slow push, short enough that a crash is soon over."""

_ASK_EVERY, _SAY_EVERY = 3.0, 15.0
"""How many seconds pass between two looks at another run's lease, and between two lines that say so."""

Decision = TypeVar("Decision")
"""What a caller of `push_edit` decides instead of an edit, or what comes of waiting."""

_ABORT = "abort by "
_COMMAND = re.compile(r"(?P<command>rollback|adopt) by (?P<by>.+) \([0-9a-f]+\)")
_NAMES = {"rollback": "a rollback", "adopt": "an adoption"}
_LONGEST_HOLDER = 400


def command_holder(command: str, by: str, run: str) -> str:
    """Name a person's command, `rollback` or `adopt`, as the holder of the lease; `run` (hexadecimal) is its own."""
    return f"{command} by {by[:200]} ({run})"


def abort_holder(decided: Decided) -> str:
    """Name the holder of the lease while a person ends a promotion, so that the run that had it can say why."""
    return f"{_ABORT}{decided}"[:_LONGEST_HOLDER]


def is_abort(holder: str) -> bool:
    """Whether a person who ends a promotion holds the lease."""
    return holder.startswith(_ABORT)


def in_words(holder: str) -> str:
    """Say who holds the lease: `run <id>`, `a rollback by ana`, or an abort with who decided it and why."""
    command = _COMMAND.fullmatch(holder)
    if command is not None:
        return f"{_NAMES[command['command']]} by {command['by']}"
    return f"an {holder}" if is_abort(holder) else f"run {holder}"


def _aborted(holder: str) -> Problem:
    return Problem(
        "this run",
        "to go on until the promotion ends",
        in_words(holder),
        "It has stopped writing; what was committed is taken back. `incumbent retry` tries the version again.",
    )


class ApplicationLease:
    """The right to write for one Argo CD application (design rule 2), as a context manager.

    Entering takes nothing, because not every stage writes; `acquire` takes the lease. However the block ends, the lease
    is given back, unless it was left to the run's next stage by `hand_over`.

    Args:
        git: The repository that keeps the lease.
        clock: The clock by which the lease expires.
        application: The name of the Argo CD application.
        holder: The id of the run, which may take its own lease again.
        say: Receives a line now and then while another run's lease is waited for.
        warn: Receives a line when the lease could not be given back.
        patience: How many seconds to wait for another run's lease, at most.
    """

    def __init__(
        self,
        git: GitOpsRepository,
        clock: Clock,
        application: str,
        holder: str,
        say: Callable[[str], None],
        warn: Callable[[str], None],
        patience: float = 0.0,
    ) -> None:
        self._git, self._clock, self._say, self._warn, self._patience = git, clock, say, warn, patience
        self._application, self.holder = application, holder
        self._record: LeaseRecord | None = None
        self._loss: LeaseLost | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.release()
        except DependencyError as problem:
            self._warn(f"The lease could not be given back; it expires by itself. {problem}")

    def commit_url(self, commit: str) -> str:
        """Return the web page of a commit in the repository that keeps the lease; its id when no page is known."""
        return self._git.commit_url(commit) or commit

    @property
    def is_held(self) -> bool:
        """Whether this run took the lease and has not found it lost since."""
        return self._record is not None

    @property
    def is_lost(self) -> bool:
        """Whether this run took the lease and found that another run has it; nothing may be written any more."""
        return self._loss is not None

    def acquire(self, *, take_over: bool = False) -> None:
        """Take the lease, and wait for another run's as long as this run's patience lasts.

        Args:
            take_over: Take it also from a run that is at work, which writes nothing from then on.

        Raises:
            StageEnded: another run holds it. This run ends as waiting, and the sensor resumes it.
        """
        self._record = self._wait(
            lambda: self._git.acquire_lease(self._application, self.holder, LEASE_SECONDS, take_over=take_over)
        )

    def wait_for_others(self) -> None:
        """Wait until no other run holds the lease, without taking it; a run without patience does not even ask.

        Raises:
            StageEnded: another run held it for too long.
        """
        if self._patience > 0:
            self._wait(self._others_lease)

    def others(self) -> LeaseRecord | None:
        """Ask for the lease that another run or command has now; None when there is none."""
        current = self._git.lease(self._application)
        if current is None or current.holder == self.holder or current.expires_at <= self._clock.now():
            return None
        return current

    def _others_lease(self) -> LeaseBusy | None:
        current = self.others()
        return LeaseBusy(current) if current is not None else None

    def _wait(self, ask: Callable[[], Decision | LeaseBusy]) -> Decision:
        give_up_at = self._clock.now() + self._patience
        say_at = 0.0
        while isinstance(answer := ask(), LeaseBusy):
            now, record = self._clock.now(), answer.record
            if now >= give_up_at:
                raise StageEnded(State.WAITING, self._busy(record, now))
            if now >= say_at:
                say_at = now + _SAY_EVERY
                limit = f"for {give_up_at - now:.0f} s at most"
                self._say(
                    f"waiting {limit} for {in_words(record.holder)}, which works on application {record.application}"
                )
            self._clock.sleep(min(_ASK_EVERY, give_up_at - now))
        return answer

    def _busy(self, record: LeaseRecord, now: float) -> Problem:
        subject = f"the lease of application {record.application}"
        if is_abort(record.holder):  # of this version or of another one
            return Problem(
                subject,
                "a free lease",
                f"{in_words(record.holder)} at work",
                "No action needed: the version that it ends stays as it is until `incumbent retry`, and any other goes "
                "on by itself.",
            )
        remaining = max(0.0, record.expires_at - now)
        if self._patience > 0:
            return Problem(
                subject,
                f"a free lease within {self._patience:.0f} s",
                f"{in_words(record.holder)} still at work, so the version was not decided here",
                "Run this again: it waits again, or finds what that run did.",
            )
        return Problem(
            subject,
            "a free lease",
            f"{in_words(record.holder)} at work, with the lease for another {remaining:.0f} s",
            "No action needed: the sensor resumes this promotion when the lease is free; without a sensor, "
            "materialize again.",
        )

    def keep(self) -> LeaseRecord:
        """Return the lease, renewed when half of its time is over.

        Raises:
            StageEnded: it was lost, so this run stops writing at once.
        """
        if self._loss is not None:
            raise self._lost(self._loss)
        record = self._record
        assert record is not None, "a stage acquires the lease before it writes"
        if record.expires_at - self._clock.now() < LEASE_SECONDS / 2:
            renewed = self._git.renew_lease(record, LEASE_SECONDS)
            if isinstance(renewed, LeaseLost):
                raise self._lost(renewed)
            self._record = record = renewed
        return record

    def confirm(self) -> None:
        """Read the lease again before a write that nothing else fences (design rule 2).

        Raises:
            StageEnded: this run does not hold the lease any more.
        """
        ours = self.keep()
        current = self._git.lease(ours.application)
        if current is None or current.object_id != ours.object_id:
            raise self._lost(LeaseLost(current))

    def push_edit(self, decide: Callable[[str], FileEdit | Decision]) -> Pushed | Decision:
        """Push the edit that `decide` makes of the branch's head, together with the renewed lease.

        Returns:
            The push, or what `decide` returned instead of an edit.

        Raises:
            StageEnded: the lease was lost.
        """
        return self._kept(self._git.push_edit(decide, self.keep(), LEASE_SECONDS))

    def propose(self, name: str, decide: Callable[[str], FileEdit | Decision]) -> Pushed | Decision:
        """Push the edit that `decide` makes of the branch's head to the proposal's own branch, as `push_edit` does.

        Raises:
            StageEnded: the lease was lost.
        """
        return self._kept(self._git.propose(name, decide, self.keep(), LEASE_SECONDS))

    def withdraw(self, name: str) -> None:
        """Delete a proposal and its branch together with renewing the lease.

        Raises:
            StageEnded: the lease was lost.
        """
        self._renew(self._git.withdraw(name, self.keep(), LEASE_SECONDS))

    def create_tag(self, name: str, commit: str, message: str) -> None:
        """Push an annotated tag together with the renewed lease; a tag that is there already counts as pushed.

        Raises:
            StageEnded: the lease was lost.
        """
        self._renew(self._git.create_tag(name, commit, message, self.keep(), LEASE_SECONDS))

    def hand_over(self) -> None:
        """Leave the lease to this run's next stage, which takes it again as its own."""
        self._record = None

    def release(self) -> None:
        """Give the lease back, if this run holds it."""
        if self._record is not None:
            record, self._record = self._record, None
            self._git.release_lease(record)

    def _kept(self, outcome: Pushed | LeaseLost | Decision) -> Pushed | Decision:
        """Take the lease that was renewed with a push; what was decided instead of one leaves it as it is."""
        if isinstance(outcome, LeaseLost):
            raise self._lost(outcome)
        if isinstance(outcome, Pushed):
            self._record = outcome.lease
        return outcome

    def _renew(self, renewed: LeaseRecord | LeaseLost) -> None:
        if isinstance(renewed, LeaseLost):
            raise self._lost(renewed)
        self._record = renewed

    def _lost(self, lost: LeaseLost) -> StageEnded:
        """Forget the lease, and return the exception for a run that has lost it."""
        self._record, self._loss = None, lost
        if lost.current is not None and is_abort(lost.current.holder):
            return Aborted(_aborted(lost.current.holder))
        return StageEnded(
            State.WAITING,
            Problem(
                f"the lease of application {self._application}",
                f"our own lease (run {self.holder})",
                f"{in_words(lost.current.holder)} at work" if lost.current else "no lease",
                "This run has stopped writing. The run that holds the lease goes on; otherwise the sensor resumes.",
            ),
        )

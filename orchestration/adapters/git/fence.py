"""Leases, and pushes that only the owner of a lease can make (design rule 2)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from orchestration.adapters.git.access import Access
from orchestration.adapters.git.authorship import Authorship
from orchestration.adapters.git.lease import lease_message, lease_ref, parse_lease
from orchestration.adapters.git.objects import write_commit
from orchestration.adapters.git.push import (
    ATTEMPTS,
    Applied,
    RefUpdate,
    Refused,
    Unanswered,
    pause_after_failure,
    pause_after_race,
    push,
)
from orchestration.adapters.git.remote import is_useless_to_repeat
from orchestration.adapters.git.rules import next_step
from orchestration.promotion.ports import Clock, LeaseBusy, LeaseLost, LeaseRecord
from orchestration.promotion.problems import DependencyError, Problem

Decision = TypeVar("Decision")


@dataclass(frozen=True)
class Plan:
    """What to push together with the lease."""

    updates: tuple[RefUpdate, ...]
    landed: Callable[[], bool]
    """Asks the server whether it has the updates after all, when a push was not acknowledged."""
    commit: str = ""
    """The new commit, when the plan makes one."""


@dataclass(frozen=True)
class Attempt:
    """One push of a plan with a new lease; when `Fence.push` returns it, the server has both."""

    plan: Plan
    lease: LeaseRecord
    number: int
    """Counted from 1."""


class Fence:
    """The leases of one repository, and what is pushed together with them."""

    def __init__(self, access: Access, clock: Clock, authorship: Authorship) -> None:
        self._access = access
        self._authorship = authorship
        self._clock = clock

    def lease(self, application: str) -> LeaseRecord | None:
        """Read an application's lease as the server has it now, expired or not; None when it is free.

        Raises:
            DependencyError: the server does not answer, or something unreadable is in the lease's place.
        """
        ref = lease_ref(application)
        stored = self._access.repairing(lambda: self._access.server_object(ref, "commit"))
        if stored is None:
            return None
        object_id, content = stored
        record = "it is not a small commit" if content is None else parse_lease(application, object_id, content)
        if isinstance(record, str):
            # A newer incumbent may have written it, so it does not count as expired.
            raise DependencyError(
                Problem(
                    f"lease of application {application} ({ref} in {self._access.remote})",
                    "a lease that incumbent wrote",
                    f"object {object_id[:12]}, which cannot be read: {record}",
                    f"Make sure that no promotion of {application} is running, then free the lease with "
                    f"`git push {self._access.remote.url} --delete {ref}`.",
                )
            )
        return record

    def acquire(self, application: str, holder: str, ttl: float, *, take_over: bool = False) -> LeaseRecord | LeaseBusy:
        """Take an application's lease for `ttl` seconds, when it is free, expired or already the holder's own.

        With `take_over` it is also taken from another holder, whose pushes are fenced off from then on.

        Raises:
            DependencyError: the server does not answer, or refuses although the lease did not change.
        """
        written: list[LeaseRecord] = []
        refusals: list[tuple[LeaseRecord | None, Refused | Unanswered]] = []
        for number in range(1, ATTEMPTS + 1):
            current = self.lease(application)
            # A push that was not acknowledged may have been applied after all.
            if current is not None and any(current.object_id == lease.object_id for lease in written):
                return current
            is_anothers = current is not None and current.holder != holder and current.expires_at > self._clock.now()
            if current is not None and is_anothers and not take_over:
                return LeaseBusy(current)
            if refusals:
                leases_refused_at = [lease for lease, _ in refusals[-2:]]
                if isinstance(refusals[-1][1], Refused) and leases_refused_at == [current, current]:
                    break  # refused twice although nobody else changed the lease
                self._clock.sleep(pause_after_failure(number - 1))
            new = self._access.repairing(lambda: self._write_lease(application, holder, ttl))
            old = None if current is None else current.object_id
            refusal = self._push((RefUpdate(lease_ref(application), new.object_id, old),))
            if refusal is None:
                return new
            written.append(new)
            refusals.append((current, refusal))
        raise self._gave_up(f"take the lease of {application}", refusals[-1][1])

    def renew(self, lease: LeaseRecord, ttl: float) -> LeaseRecord | LeaseLost:
        """Extend a lease to `ttl` seconds from now, unless it was lost."""
        result = self.push(lambda: Plan((), lambda: False), lease, ttl, "renew the lease")
        return result.lease if isinstance(result, Attempt) else result

    def release(self, lease: LeaseRecord) -> None:
        """Delete a lease from the server; a lease that someone else has by now is left alone.

        Raises:
            DependencyError: the server still has the lease after all attempts.
        """
        ref = lease_ref(lease.application)
        for number in range(1, ATTEMPTS + 1):
            refusal = self._push((RefUpdate(ref, None, lease.object_id),))
            if refusal is None or self._access.server_refs(ref).get(ref) != lease.object_id:
                return
            if number == ATTEMPTS:
                raise self._gave_up(f"release the lease of {lease.application}", refusal)
            self._clock.sleep(pause_after_failure(number))

    def _write_lease(self, application: str, holder: str, ttl: float) -> LeaseRecord:
        expires_at = self._clock.now() + ttl
        empty_tree = self._access.mirror.local("mktree").text
        message = lease_message(application, holder, expires_at, self._authorship)
        commit = write_commit(self._access.mirror, empty_tree, None, message, self._clock.now(), self._authorship.maker)
        return LeaseRecord(application, holder, expires_at, commit)

    def push(
        self, plan: Callable[[], Plan | Decision], lease: LeaseRecord, ttl: float, action: str
    ) -> Attempt | LeaseLost | Decision:
        """Push what `plan` returns together with a renewed lease, until the server has it or must not get it.

        Args:
            plan: decides what to push, anew for each attempt; anything but a `Plan` ends the push and is returned.
            lease: the lease that the server must still have.
            ttl: seconds for which the lease is renewed.
            action: completes "the server to let us ..." in an error.

        Raises:
            DependencyError: the server does not answer, or refuses although nobody else pushed.
        """
        attempts: list[Attempt] = []
        refusal: Refused | Unanswered | None = None
        refusals_in_place = 0
        for number in range(1, ATTEMPTS + 1):
            try:
                if attempts:
                    if (landed := self._landed(attempts, lease)) is not None:
                        return landed
                    raced = isinstance(refusal, Refused)
                    self._clock.sleep(pause_after_race() if raced else pause_after_failure(number - 1))
                planned = plan()
                if not isinstance(planned, Plan):
                    # The decision may rest on a push of ours that was applied meanwhile; then its lease counts.
                    return (self._landed(attempts, lease) if attempts else None) or planned
            except DependencyError:
                # Before the first push nothing is in doubt; after it, giving up leaves the outcome to the next run.
                if not attempts or number == ATTEMPTS or self._access.mirror.is_silent:
                    raise
                self._clock.sleep(pause_after_failure(number))
                continue
            attempt, refusal = self._try(planned, lease, ttl, number)
            if refusal is None:
                return attempt
            # Refused twice although nobody else pushed: a rule of the server forbids it.
            in_place = not attempts or _expects_the_same(attempts[-1].plan, planned)
            refusals_in_place = refusals_in_place + 1 if isinstance(refusal, Refused) and in_place else 0
            attempts.append(attempt)
            if refusals_in_place > 1:
                break
        landed = self._landed(attempts, lease)
        if landed is not None:
            return landed
        assert refusal is not None
        raise self._gave_up(action, refusal)

    def _try(
        self, plan: Plan, lease: LeaseRecord, ttl: float, number: int
    ) -> tuple[Attempt, Refused | Unanswered | None]:
        new = self._access.repairing(lambda: self._write_lease(lease.application, lease.holder, ttl))
        fence = RefUpdate(lease_ref(lease.application), new.object_id, lease.object_id)
        return Attempt(plan, new, number), self._push((*plan.updates, fence))

    def _landed(self, attempts: list[Attempt], lease: LeaseRecord) -> Attempt | LeaseLost | None:
        """The attempt that the server has after all, or the lost lease; None when it is neither, so push again.

        The server is asked after every push that was not acknowledged, before anything else is done. That is enough
        even if a push is applied later than that: the next push expects the lease that this one would have replaced,
        so the server can accept only one of all attempts.
        """
        for _ in range(2):
            for attempt in attempts:
                if attempt.plan.landed():
                    return attempt
            current = self.lease(lease.application)
            if current is not None and current.object_id == lease.object_id:
                return None
            for attempt in attempts:  # the push was atomic: with its lease came the rest of it
                if current is not None and attempt.lease.object_id == current.object_id:
                    return attempt
            # Someone else has the lease now; the second look finds a push of ours that was applied just before.
        return LeaseLost(current)

    def _push(self, updates: tuple[RefUpdate, ...]) -> Refused | Unanswered | None:
        """Push; None when the server accepted everything.

        Raises:
            DependencyError: the server turned the push away in a way that repeating it cannot change.
        """
        result = push(self._access.mirror, updates)
        if isinstance(result, Applied):
            return None
        if is_useless_to_repeat(result.reason):
            raise self._access.failure("push", result.reason)
        return result

    def _gave_up(self, action: str, refusal: Refused | Unanswered) -> DependencyError:
        if isinstance(refusal, Unanswered):
            return self._access.failure(action, refusal.reason)
        return DependencyError(
            Problem(
                str(self._access.remote),
                f"the server to let us {action}",
                f"a refusal although nobody else pushed ({' '.join(refusal.reason.split())})",
                next_step(refusal.reason),
            )
        )


def _expects_the_same(first: Plan, second: Plan) -> bool:
    return [update.old for update in first.updates] == [update.old for update in second.updates]

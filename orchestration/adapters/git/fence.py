"""Leases, and pushes that only the owner of a lease can make (design rule 2)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from orchestration.adapters.git.access import GitAccess
from orchestration.adapters.git.lease import lease_message, lease_ref, parse_lease
from orchestration.adapters.git.objects import write_commit
from orchestration.adapters.git.push import ATTEMPTS, Applied, RefUpdate, Refused, Unanswered, moment, pause, push
from orchestration.adapters.git.remote import is_useless_to_repeat
from orchestration.promotion.ports import Clock, LeaseBusy, LeaseLost, LeaseRecord
from orchestration.promotion.problems import DependencyError, Problem

Decision = TypeVar("Decision")


@dataclass(frozen=True)
class Plan:
    """What is pushed beside the lease, and whether the server turns out to have it when no answer came."""

    updates: tuple[RefUpdate, ...]
    landed: Callable[[], bool]
    commit: str = ""


@dataclass(frozen=True)
class Done:
    plan: Plan
    lease: LeaseRecord
    attempts: int


class Fence:
    """The leases of one repository, and what is pushed together with them."""

    def __init__(self, access: GitAccess, clock: Clock) -> None:
        self._access = access
        self._clock = clock

    def lease(self, application: str) -> LeaseRecord | None:
        ref = lease_ref(application)
        there = self._access.repairing(lambda: self._access.server_object(ref, "commit"))
        if there is None:
            return None
        object_id, content = there
        record = "it is no small commit" if content is None else parse_lease(application, object_id, content)
        if isinstance(record, str):
            # It may be the lease of a newer incumbent, so it is not taken for an expired one.
            raise DependencyError(
                Problem(
                    f"lease of application {application} ({ref} in {self._access.remote})",
                    "a lease that incumbent wrote",
                    f"object {object_id[:12]} that cannot be read: {record}",
                    f"Make sure that no promotion of {application} is running, then free it with "
                    f"`git push {self._access.remote.url} --delete {ref}`.",
                )
            )
        return record

    def acquire(self, application: str, holder: str, ttl: float) -> LeaseRecord | LeaseBusy:
        tried: list[LeaseRecord] = []
        refusals: list[tuple[LeaseRecord | None, Refused | Unanswered]] = []
        for attempt in range(1, ATTEMPTS + 1):
            current = self.lease(application)
            for one in tried:
                if current is not None and current.object_id == one.object_id:
                    return current
            if current is not None and current.holder != holder and current.expires_at > self._clock.now():
                return LeaseBusy(current)
            if refusals:
                if isinstance(refusals[-1][1], Refused) and [one[0] for one in refusals[-2:]] == [current, current]:
                    break  # refused twice although nobody else moved it
                self._clock.sleep(pause(attempt - 1))
            new = self._access.repairing(lambda: self._write_lease(application, holder, ttl))
            old = None if current is None else current.object_id
            refusal = self._push((RefUpdate(lease_ref(application), new.object_id, old),))
            if refusal is None:
                return new
            tried.append(new)
            refusals.append((current, refusal))
        raise self._gave_up(f"take the lease of {application}", refusals[-1][1])

    def renew(self, lease: LeaseRecord, ttl: float) -> LeaseRecord | LeaseLost:
        done = self.push(lambda: Plan((), lambda: False), lease, ttl, "renew the lease")
        return done.lease if isinstance(done, Done) else done

    def release(self, lease: LeaseRecord) -> None:
        ref = lease_ref(lease.application)
        for attempt in range(1, ATTEMPTS + 1):
            refusal = self._push((RefUpdate(ref, None, lease.object_id),))
            if refusal is None or self._access.server_refs(ref).get(ref) != lease.object_id:
                return
            if attempt == ATTEMPTS:
                raise self._gave_up(f"release the lease of {lease.application}", refusal)
            self._clock.sleep(pause(attempt))

    def _write_lease(self, application: str, holder: str, ttl: float) -> LeaseRecord:
        expires_at = self._clock.now() + ttl
        empty_tree = self._access.mirror.local("mktree").text
        message = lease_message(application, holder, expires_at)
        commit = write_commit(self._access.mirror, empty_tree, None, message, self._clock.now())
        return LeaseRecord(application, holder, expires_at, commit)

    def push(
        self, plan: Callable[[], Plan | Decision], lease: LeaseRecord, ttl: float, doing: str
    ) -> Done | LeaseLost | Decision:
        """Push what `plan` says together with a new object in the lease's ref, until it is there or must not be.

        After every push that was not acknowledged the server is asked what it has, before anything else is done. That
        is enough even when a push is applied later than that: the next one expects the lease that this one replaced,
        so of all attempts the server can take only one.
        """
        tried: list[Done] = []
        refusal: Refused | Unanswered | None = None
        standing = 0
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if tried:
                    if (landed := self._landed(tried, lease)) is not None:
                        return landed
                    self._clock.sleep(moment() if isinstance(refusal, Refused) else pause(attempt - 1))
                planned = plan()
                if not isinstance(planned, Plan):
                    # What was decided may rest on a push of ours that came in meanwhile, and then its lease holds.
                    return (self._landed(tried, lease) if tried else None) or planned
            except DependencyError:
                # Before the first push, nothing is in doubt; after it, giving up would leave the outcome unknown.
                if not tried or attempt == ATTEMPTS:
                    raise
                self._clock.sleep(pause(attempt))
                continue
            new = self._access.repairing(lambda: self._write_lease(lease.application, lease.holder, ttl))
            fence = RefUpdate(lease_ref(lease.application), new.object_id, lease.object_id)
            refusal = self._push((*planned.updates, fence))
            if refusal is None:
                return Done(planned, new, attempt)
            # Refused twice although nobody else moved anything: a rule of the server forbids it.
            same = bool(tried) and [one.old for one in tried[-1].plan.updates] == [one.old for one in planned.updates]
            standing = standing + 1 if isinstance(refusal, Refused) and (same or not tried) else 0
            tried.append(Done(planned, new, attempt))
            if standing > 1:
                break
        landed = self._landed(tried, lease)
        if landed is not None:
            return landed
        assert refusal is not None
        raise self._gave_up(doing, refusal)

    def _landed(self, tried: list[Done], lease: LeaseRecord) -> Done | LeaseLost | None:
        """The attempt that the server has after all; that the lease is lost; or None: neither, so begin again."""
        for _ in range(2):
            for done in tried:
                if done.plan.landed():
                    return done
            found = self.lease(lease.application)
            if found is not None and found.object_id == lease.object_id:
                return None
            for done in tried:  # the push was atomic, so with this lease came the rest of it
                if found is not None and done.lease.object_id == found.object_id:
                    return done
            # Somebody has the lease now; the second look is for a push of ours that came in just before.
        return LeaseLost(found)

    def _push(self, updates: tuple[RefUpdate, ...]) -> Refused | Unanswered | None:
        """None when the server took it all.

        Raises:
            DependencyError: it was turned away at the door, so that nothing was applied and trying again is useless.
        """
        result = push(self._access.mirror, updates)
        if isinstance(result, Applied):
            return None
        if isinstance(result, Unanswered) and is_useless_to_repeat(result.reason):
            raise self._access.remote.failure("push", result.reason)
        return result

    def _gave_up(self, doing: str, refusal: Refused | Unanswered) -> DependencyError:
        if isinstance(refusal, Unanswered):
            return self._access.remote.failure(doing, refusal.reason)
        return DependencyError(
            Problem(
                str(self._access.remote),
                f"the server to let us {doing}",
                f"a refusal although nobody else pushed ({' '.join(refusal.reason.split())})",
                "Allow the token's owner to push to this branch, to refs/incumbent/* and to tags incumbent/* "
                "(protected branches, push rules, pre-receive hooks).",
            )
        )

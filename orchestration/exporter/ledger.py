"""How a policy's promotions ended, from the branch and the version tags; each reading goes on where the last ended.

A ledger remembers nothing that could not be read again: a new ledger reads everything once and arrives at the same.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from orchestration.exporter.durations import Durations, seconds_between
from orchestration.promotion.identity import PromotionId, parse_promotion_id
from orchestration.promotion.model_version import ModelVersion, tag_key
from orchestration.promotion.moments import Moment, held_since, moments, request_of
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import BranchCommit, Clock, GitOpsRepository, Registry
from orchestration.promotion.state import State
from orchestration.promotion.texts import one_line
from orchestration.promotion.timestamps import parse_time

ENDS = (State.CHAMPION, State.ROLLED_BACK, State.REFUSED, State.SUPERSEDED)
"""How requests end; a champion that another version succeeds was counted when it became champion."""
STAGES = ("commit", "rollout", "gate", "rollback")
LEAD = "lead"
RESTORE = "restore"

_SHOWN_ENDS = 10
"""How many of a policy's last ends are told one by one."""
_LONGEST_REASON = 200
_BLOCK_SECONDS = 600
"""Signs of life are searched for by the beginning of their time, `2026-01-31T12:3`, which covers ten minutes."""
_SLACK_SECONDS = 300.0
"""How far the machines' clocks may differ, and how long after the last sign of life an end may be written."""
_LONGEST_GAP_SECONDS = 3600.0
"""After a longer gap between readings all versions are read again, instead of ten minutes at a time."""


class BranchRewrittenError(Exception):
    """The branch no longer descends from the head that was read last, so everything that was read is void."""


@dataclass
class Committed:
    """A promotion's commit on the branch."""

    identity: PromotionId
    commit: str
    committed_at: float
    requested_at: float | None
    taken_back_at: float | None = None
    gate_is_counted: bool = False


@dataclass(frozen=True)
class Ended:
    """How one request for a version ended."""

    version: int
    state: State
    at: float
    reason: str
    """Empty for a champion, and for a version that was tried again since."""


@dataclass(frozen=True)
class UnderWay:
    """A promotion that has not ended: the challenger's, or one that is on the branch."""

    version: int
    state: State
    since: float


@dataclass
class Ledger:
    """What has been read so far about one policy."""

    policy: Policy
    head: str | None = None
    read_at: float | None = None
    """When the registry was last read completely."""
    watched: set[int] = field(default_factory=set)
    """Versions whose promotion is under way on the branch, which are therefore read each time."""
    committed: dict[tuple[int, int], Committed] = field(default_factory=dict)
    """By version and attempt."""
    newest: dict[int, Committed] = field(default_factory=dict)
    """The newest promotion of each version."""
    by_digest: dict[str, int] = field(default_factory=dict)
    """The version that was last committed with an image of that digest (its first 12 characters)."""
    counted: set[tuple[int, State, str]] = field(default_factory=set)
    """Ends that have been counted, as version, end and request."""
    ends: Counter[State] = field(default_factory=Counter)
    latest: dict[tuple[int, State, str], Ended] = field(default_factory=dict)
    """The last ends, by version, end and request."""
    durations: dict[str, Durations] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """The result of one reading: totals over all readings, and the present state."""

    ends: Mapping[State, int]
    latest: tuple[Ended, ...]
    """The last ends, the newest first."""
    durations: Mapping[str, Durations]
    under_way: tuple[UnderWay, ...]
    held: Mapping[int, float]
    """Since when each held version has been held."""
    champion: ModelVersion | None


@dataclass(frozen=True)
class Asked:
    """What the registry said of one policy; the branch is read after that, so that it has the commits of every end."""

    at: float
    """From before the first question, in seconds since the epoch."""
    versions: Mapping[int, ModelVersion]
    """Those that may have changed since the last reading."""
    champion: ModelVersion | None
    challenger: ModelVersion | None


def ask_registry(ledger: Ledger, registry: Registry, clock: Clock) -> Asked:
    """Ask the registry what may be new since the last reading; nothing is noted yet.

    Raises:
        DependencyError: the registry does not answer.
    """
    policy, now = ledger.policy, clock.now()
    champion = registry.version_by_alias(policy.model, policy.champion_alias)
    challenger = registry.version_by_alias(policy.model, policy.challenger_alias)
    candidates = (*_active(ledger, registry, now), champion, challenger)
    versions = {version.version: version for version in candidates if version is not None}
    for number in ledger.watched - versions.keys():
        watched = registry.version(policy.model, number)
        if watched is not None:
            versions[number] = watched
    return Asked(now, versions, champion, challenger)


def read_on(ledger: Ledger, asked: Asked, registry: Registry, git: GitOpsRepository, head: str) -> Record:
    """Read what is new since the last reading, and count nothing twice.

    Args:
        ledger: What was read before; it goes on from there.
        asked: What the registry said.
        registry: Has the evidence of what has ended.
        git: The repository.
        head: Its branch's head, fetched after the registry was asked: by the time an end is in the registry, its
            commits are on the branch.

    Raises:
        BranchRewrittenError: the caller must begin again with a new ledger.
        DependencyError: Git or the registry does not answer; the next reading makes up for it.
    """
    policy, versions = ledger.policy, asked.versions
    ledger.watched |= _read_branch(ledger, git, head) - versions.keys()
    for version in versions.values():
        _count_ends(ledger, registry, version)
    times = {number: held_since(version, policy.name) for number, version in versions.items()}
    held = {number: since for number, since in times.items() if since is not None}
    unfinished = {number for number, version in versions.items() if _is_unfinished(ledger, version)}
    ledger.watched = (ledger.watched - versions.keys()) | unfinished
    ledger.read_at = asked.at
    under_way = _under_way(policy.name, asked.challenger, [version for _, version in sorted(versions.items())])
    return Record(
        ends=ledger.ends.copy(),
        latest=_latest(ledger),
        durations=dict(ledger.durations),
        under_way=under_way,
        held=held,
        champion=asked.champion,
    )


def _latest(ledger: Ledger) -> tuple[Ended, ...]:
    """Keep the last ends in the ledger, and return them."""
    newest = sorted(ledger.latest.items(), key=lambda item: (-item[1].at, item[0]))[:_SHOWN_ENDS]
    ledger.latest = dict(newest)
    return tuple(ledger.latest.values())


def _under_way(policy: str, challenger: ModelVersion | None, versions: Sequence[ModelVersion]) -> tuple[UnderWay, ...]:
    found = []
    for version in versions:
        state, since = version.state(policy), parse_time(version.tag(policy, "since"))
        if state is None or state.is_end or since is None:
            continue
        is_challenger = challenger is not None and version.version == challenger.version
        if is_challenger or state.is_under_way_on_branch:
            found.append(UnderWay(version.version, state, since))
    return tuple(found)


def champion_commit(ledger: Ledger, champion: ModelVersion) -> Committed | None:
    """Return the promotion that made the champion; None when a person made it champion by hand."""
    committed = ledger.newest.get(champion.version)
    return committed if committed is not None and committed.taken_back_at is None else None


def _active(ledger: Ledger, registry: Registry, now: float) -> Iterator[ModelVersion]:
    """Versions that may have changed: at first all that were ever requested, later those that had a run since.

    Only a run that has just given a sign of life on a version can refuse it or find it superseded.
    """
    policy = ledger.policy
    if ledger.read_at is None or not 0.0 <= now - ledger.read_at < _LONGEST_GAP_SECONDS:
        searches = [(tag_key(policy.name, "state"), "")]
    else:
        first, last = int(ledger.read_at - _SLACK_SECONDS) // _BLOCK_SECONDS, int(now) // _BLOCK_SECONDS
        searches = [(tag_key(policy.name, "seen_at"), _block(number)) for number in range(first, last + 1)]
    for key, start in searches:
        yield from (version for version in registry.tagged(key, start) if version.model == policy.model)


def _block(number: int) -> str:
    """How all times within a block of ten minutes begin in a tag: `2026-01-31T12:3`."""
    return datetime.fromtimestamp(number * _BLOCK_SECONDS, UTC).isoformat()[:15]


def _read_branch(ledger: Ledger, git: GitOpsRepository, head: str) -> set[int]:
    """Note the branch's new commits, and return the versions that they concern.

    Raises:
        BranchRewrittenError: the head that was read before is no longer on the branch.
    """
    name = ledger.policy.name
    if head == ledger.head:
        return set()
    new = git.history(head, name) if ledger.head is None else git.history_since(ledger.head, head, name)
    if new is None:
        raise BranchRewrittenError
    noted = {_note(ledger, commit) for commit in reversed(new)}
    ledger.head = head
    return {version for version in noted if version is not None}


def _note(ledger: Ledger, commit: BranchCommit) -> int | None:
    identity = _promotion_id_in(ledger, commit, "Promotion-Id")
    if identity is not None and (identity.version, identity.attempt) not in ledger.committed:
        requested_at = parse_time(commit.trailers.get("Requested-At"))
        committed = Committed(identity, commit.commit, commit.committed_at, requested_at)
        ledger.committed[identity.version, identity.attempt] = committed
        ledger.newest[identity.version] = committed
        ledger.by_digest[identity.digest] = identity.version
        _observe(ledger, "commit", seconds_between(requested_at, commit.committed_at))
        return identity.version
    taken_back = _promotion_id_in(ledger, commit, "Rollback-Of")
    if taken_back is None:
        return None
    rolled_back = ledger.committed.get((taken_back.version, taken_back.attempt))
    if rolled_back is None or rolled_back.identity != taken_back or rolled_back.taken_back_at is not None:
        return None
    rolled_back.taken_back_at = commit.committed_at
    return taken_back.version


def _promotion_id_in(ledger: Ledger, commit: BranchCommit, trailer: str) -> PromotionId | None:
    """The promotion that a commit's trailer names, when it is this policy's."""
    identity = parse_promotion_id(commit.trailers.get(trailer, ""))
    return identity if identity is not None and identity.policy == ledger.policy.name else None


def _count_ends(ledger: Ledger, registry: Registry, version: ModelVersion) -> None:
    """Count the version's ends with their durations; an end is counted completely or, on an error, not at all."""
    for moment in moments(version, ledger.policy.name):
        key = (version.version, moment.state, moment.request)
        if moment.state not in ENDS:
            continue
        if key in ledger.counted:
            if key in ledger.latest:
                ledger.latest[key] = _ended(ledger, version, moment)
            continue
        committed = ledger.committed.get((version.version, moment.attempt))
        if committed is not None and moment.state in (State.CHAMPION, State.ROLLED_BACK):
            _count_gate(ledger, registry, version, committed)
            _count_end(ledger, committed, moment)
        ledger.counted.add(key)
        ledger.ends[moment.state] += 1
        ledger.latest[key] = _ended(ledger, version, moment)


def _ended(ledger: Ledger, version: ModelVersion, moment: Moment) -> Ended:
    """An end with its reason, which the version keeps until it is tried again."""
    policy = ledger.policy.name
    is_present = version.state(policy) is moment.state and request_of(version, policy) == moment.request
    kept = version.tag(policy, "reason") if is_present and moment.state is not State.CHAMPION else None
    return Ended(version.version, moment.state, moment.at, one_line(kept or "")[:_LONGEST_REASON])


def _count_gate(ledger: Ledger, registry: Registry, version: ModelVersion, committed: Committed) -> None:
    """Count the durations that only the evidence holds; a promotion that failed before its gate has no evidence."""
    if committed.gate_is_counted or version.run_id is None:
        return
    evidence = _json_object(registry.artifact(version.run_id, committed.identity.evidence_path))
    committed.gate_is_counted = True
    if evidence.get("promotion_id") == str(committed.identity):
        started, ended = (_time(evidence, name) for name in ("gate_started", "soak_ended"))
        _observe(ledger, "rollout", seconds_between(committed.committed_at, started))
        _observe(ledger, "gate", seconds_between(started, ended))


def _count_end(ledger: Ledger, committed: Committed, moment: Moment) -> None:
    if moment.state is State.CHAMPION:
        _observe(ledger, LEAD, seconds_between(committed.requested_at, moment.at))
    # Without a rollback commit a person had already put another image there, and the run waited for nothing.
    elif committed.taken_back_at is not None:
        _observe(ledger, "rollback", seconds_between(committed.taken_back_at, moment.at))
        _observe(ledger, RESTORE, seconds_between(committed.committed_at, moment.at))


def _observe(ledger: Ledger, name: str, seconds: float | None) -> None:
    if seconds is not None:
        ledger.durations[name] = ledger.durations.get(name, Durations()).with_one(seconds)


def _json_object(content: bytes | None) -> Mapping[str, Any]:
    """Empty for anything but a JSON object: people who may write artifacts may write anything (design rule 9)."""
    try:
        document = json.loads(content or b"")
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _time(document: Mapping[str, Any], name: str) -> float | None:
    text = document.get(name)
    return parse_time(text) if isinstance(text, str) else None


def _is_unfinished(ledger: Ledger, version: ModelVersion) -> bool:
    """Whether a version can change without a sign of life: its promotion is on the branch and has not ended."""
    state = version.state(ledger.policy.name)
    if state is None or not state.is_under_way_on_branch:
        return version.version in ledger.newest and (state is None or not state.is_end)
    return True

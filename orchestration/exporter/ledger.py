"""What a policy's promotions came to, from the branch and the version tags; read on from where it was read last.

Nothing here is remembered that could not be read again: a new ledger reads all once and comes to the same.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from orchestration.exporter.durations import Durations, seconds_between
from orchestration.promotion.identity import PromotionId, parse_promotion_id
from orchestration.promotion.model_version import ModelVersion, tag_key
from orchestration.promotion.moments import Moment, held_since, moments
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import BranchCommit, Clock, GitOpsRepository, Registry
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import parse_time

ENDS = (State.CHAMPION, State.ROLLED_BACK, State.REFUSED, State.SUPERSEDED)
STAGES = ("commit", "rollout", "gate", "rollback")
LEAD = "lead"
RESTORE = "restore"

_BLOCK_SECONDS = 600
"""Signs of life are looked for by the beginning of their time, `2026-01-31T12:3`: ten minutes each."""
_SLACK_SECONDS = 300.0
"""How far the clocks of the machines may be apart, and how long an end may come after the last sign of life."""
_LONGEST_GAP_SECONDS = 3600.0
"""After a longer time without an answer all versions are read again, rather than block by block."""


class BranchRewrittenError(Exception):
    """The branch does not descend from what was read of it: all that was read is void."""


@dataclass
class Committed:
    """One promotion on the branch."""

    identity: PromotionId
    commit: str
    at: float
    requested_at: float | None
    taken_back_at: float | None = None
    gate_is_counted: bool = False


@dataclass
class Ledger:
    """What was read so far of one policy."""

    policy: Policy
    head: str | None = None
    read_at: float | None = None
    """When the registry was last read to the end."""
    watched: set[int] = field(default_factory=set)
    """Versions that are on their way on the branch, and so are read each time."""
    committed: dict[tuple[int, int], Committed] = field(default_factory=dict)
    """By version and attempt."""
    newest: dict[int, Committed] = field(default_factory=dict)
    """The newest promotion of each version."""
    by_digest: dict[str, int] = field(default_factory=dict)
    """Which version was committed last with an image of that digest."""
    counted: set[tuple[int, State, str]] = field(default_factory=set)
    """Ends that are counted: version, end and request."""
    ends: Counter[State] = field(default_factory=Counter)
    durations: dict[str, Durations] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """What one reading found, and what all readings have come to."""

    ends: Mapping[State, int]
    durations: Mapping[str, Durations]
    held: Mapping[int, float]
    """Since when each held version is held."""
    champion: ModelVersion | None


def read_on(ledger: Ledger, registry: Registry, git: GitOpsRepository, clock: Clock) -> Record:
    """Read what came since the last time; what was counted before is never counted again.

    The registry comes first: an end that it tells of has its commits on the branch that is fetched afterwards.

    Raises:
        BranchRewrittenError: begin again with a new ledger.
        DependencyError: somebody does not answer; what is missing is read the next time.
    """
    policy, now = ledger.policy, clock.now()
    champion = registry.version_by_alias(policy.model, policy.champion_alias)
    challenger = registry.version_by_alias(policy.model, policy.challenger_alias)
    versions = {one.version: one for one in (*_active(ledger, registry, now), champion, challenger) if one is not None}
    for number in ledger.watched - versions.keys():
        found = registry.version(policy.model, number)
        if found is not None:
            versions[number] = found
    ledger.watched |= _read_branch(ledger, git) - versions.keys()
    for version in versions.values():
        _count_ends(ledger, registry, version)
    times = {number: held_since(version, policy.name) for number, version in versions.items()}
    held = {number: since for number, since in times.items() if since is not None}
    ledger.watched -= {number for number, version in versions.items() if not _goes_on(ledger, version)}
    ledger.watched |= {number for number, version in versions.items() if _goes_on(ledger, version)}
    ledger.read_at = now
    return Record(ledger.ends.copy(), dict(ledger.durations), held, champion)


def champion_commit(ledger: Ledger, champion: ModelVersion) -> Committed | None:
    """The promotion that the champion came by, unless it was made champion by hand."""
    found = ledger.newest.get(champion.version)
    return found if found is not None and found.taken_back_at is None else None


def _active(ledger: Ledger, registry: Registry, now: float) -> Iterator[ModelVersion]:
    """Versions of which something may have changed: at first all that were ever asked for, then those with a run.

    A version is refused or overtaken only by a run that has just given a sign of life on it.
    """
    policy = ledger.policy
    if ledger.read_at is None or not 0.0 <= now - ledger.read_at < _LONGEST_GAP_SECONDS:
        searches = [(tag_key(policy.name, "state"), "")]
    else:
        first, last = int(ledger.read_at - _SLACK_SECONDS) // _BLOCK_SECONDS, int(now) // _BLOCK_SECONDS
        searches = [(tag_key(policy.name, "seen_at"), _block(number)) for number in range(first, last + 1)]
    for key, start in searches:
        yield from (one for one in registry.tagged(key, start) if one.model == policy.model)


def _block(number: int) -> str:
    """How the times of ten minutes begin, as tags have them: `2026-01-31T12:3`."""
    return datetime.fromtimestamp(number * _BLOCK_SECONDS, UTC).isoformat()[:15]


def _read_branch(ledger: Ledger, git: GitOpsRepository) -> set[int]:
    """Note the new commits of the branch, and return the versions that they are about.

    Raises:
        BranchRewrittenError: what was read before is not on the branch any more.
    """
    head, name = git.fetch(), ledger.policy.name
    if head == ledger.head:
        return set()
    new = git.history(head, name) if ledger.head is None else git.history_since(ledger.head, head, name)
    if new is None:
        raise BranchRewrittenError
    noted = {_note(ledger, commit) for commit in reversed(new)}
    ledger.head = head
    return {version for version in noted if version is not None}


def _note(ledger: Ledger, commit: BranchCommit) -> int | None:
    identity = _ours(ledger, commit, "Promotion-Id")
    if identity is not None and (identity.version, identity.attempt) not in ledger.committed:
        requested_at = parse_time(commit.trailers.get("Requested-At"))
        made = Committed(identity, commit.commit, commit.committed_at, requested_at)
        ledger.committed[identity.version, identity.attempt] = made
        ledger.newest[identity.version] = made
        ledger.by_digest[identity.digest] = identity.version
        _observe(ledger, "commit", seconds_between(requested_at, made.at))
        return identity.version
    taken_back = _ours(ledger, commit, "Rollback-Of")
    found = ledger.committed.get((taken_back.version, taken_back.attempt)) if taken_back is not None else None
    if found is None or found.identity != taken_back or found.taken_back_at is not None:
        return None
    found.taken_back_at = commit.committed_at
    return found.identity.version


def _ours(ledger: Ledger, commit: BranchCommit, trailer: str) -> PromotionId | None:
    identity = parse_promotion_id(commit.trailers.get(trailer, ""))
    return identity if identity is not None and identity.policy == ledger.policy.name else None


def _count_ends(ledger: Ledger, registry: Registry, version: ModelVersion) -> None:
    """Count the version's ends, each with what it took; an end is counted whole or, on an error, not at all."""
    for moment in moments(version, ledger.policy.name):
        key = (version.version, moment.state, moment.request)
        if not moment.state.is_end or key in ledger.counted:
            continue
        found = ledger.committed.get((version.version, moment.attempt))
        if found is not None and moment.state in (State.CHAMPION, State.ROLLED_BACK):
            _count_gate(ledger, registry, version, found)
            _count_way(ledger, found, moment)
        ledger.counted.add(key)
        ledger.ends[moment.state] += 1


def _count_gate(ledger: Ledger, registry: Registry, version: ModelVersion, found: Committed) -> None:
    """The times that only the evidence holds; a promotion that failed before its gate has none."""
    if found.gate_is_counted or version.run_id is None:
        return
    content = registry.artifact(version.run_id, found.identity.evidence_path)
    document = _document(content)
    found.gate_is_counted = True
    if document.get("promotion_id") == str(found.identity):
        started, ended = (_time(document, name) for name in ("gate_started", "soak_ended"))
        _observe(ledger, "rollout", seconds_between(found.at, started))
        _observe(ledger, "gate", seconds_between(started, ended))


def _count_way(ledger: Ledger, found: Committed, moment: Moment) -> None:
    if moment.state is State.CHAMPION:
        _observe(ledger, LEAD, seconds_between(found.requested_at, moment.at))
    elif found.taken_back_at is not None:  # else a person had put another image there, and nothing was waited for
        _observe(ledger, "rollback", seconds_between(found.taken_back_at, moment.at))
        _observe(ledger, RESTORE, seconds_between(found.at, moment.at))


def _observe(ledger: Ledger, what: str, seconds: float | None) -> None:
    if seconds is not None:
        ledger.durations[what] = ledger.durations.get(what, Durations()).with_one(seconds)


def _document(content: bytes | None) -> Mapping[str, Any]:
    """The evidence; empty when it is none, for whoever may write artifacts may write anything (design rule 9)."""
    try:
        document = json.loads(content or b"")
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _time(document: Mapping[str, Any], name: str) -> float | None:
    text = document.get(name)
    return parse_time(text) if isinstance(text, str) else None


def _goes_on(ledger: Ledger, version: ModelVersion) -> bool:
    """Whether more will happen to a version without a sign of life: it is on the branch and not at its end."""
    state = version.state(ledger.policy.name)
    if state is None or not state.is_under_way_on_branch:
        return version.version in ledger.newest and (state is None or not state.is_end)
    return True

"""A tick of the sensor: which policies are looked at, in which order, and for how long.

However many policies there are and however slow Git is, a tick ends in time, and what it did not come to is next.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from orchestration.commands.watching import Look, Named, Runs, ask_alias, look_at_policy
from orchestration.promotion.platform import Platform, WakingPlatform
from orchestration.promotion.policy import Policy
from orchestration.promotion.policy_status import NO_POLICIES
from orchestration.promotion.ports import Bell, Clock, Registry
from orchestration.promotion.problems import DependencyError, InvalidInputError, ProblemError
from orchestration.promotion.repositories import Repositories
from orchestration.promotion.sensor_rules import (
    Cursor,
    Memory,
    Request,
    in_order,
    pause_between,
    unanswered,
)

TICK_SECONDS = 5.0
"""How long two ticks are apart at the least."""
WORK_SECONDS = 20.0
"""How long a tick goes on to look at policies that are due. Dagster gives up a tick after 60 s."""
ROUND_SECONDS = 2.0
"""How long policies are looked at before the registry is asked again whose alias has moved, because that goes first."""
READ_SECONDS = 5.0
"""How long a round reads policies: to parse one takes 5 ms on an idle machine."""
TOGETHER_FROM = 3
"""From how many policies on the registry is asked for all aliases at once; that is 25 times cheaper for it at 100."""
RUNG_SHARE = 10
"""The bell shortens a pause to a tenth of it, so that the registry has one however often it rings."""
_ASKED_AT_ONCE = 8
"""How many questions the registry gets at the same time; MLflow's client keeps 10 connections."""
_SHOWN_IGNORED = 10


@dataclass(frozen=True)
class Seen:
    """What a tick found."""

    requests: tuple[tuple[str, Request], ...]
    """The runs to start, each with its policy's name."""
    cursor: Cursor
    """What to remember until the next tick."""
    unwatched: tuple[str, ...]
    """Why a policy could not be watched, in a sentence each: it is broken, or a dependency does not answer."""
    ignored: str = ""
    """What is in the folder of policies and is none, in a sentence, when that was not said before."""


@dataclass
class _Tick:
    platform: Platform
    runs: Runs
    registry: Registry
    repositories: Repositories
    clock: Clock
    memories: dict[str, Memory]
    requests: list[tuple[str, Request]] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    """By policy, why it cannot be used; when there are no policies, that."""
    unanswered: dict[str, str] = field(default_factory=dict)
    """By policy, which dependency did not answer."""
    hints_help: bool = True
    """False when the registry cannot be asked for many aliases at once, or its answers are known to be incomplete."""
    is_first_round: bool = True
    is_done: bool = False
    """Whether the last round read all policies, and came to all that were due."""
    told: frozenset[str] = frozenset()
    """The models whose aliases have moved as somebody says."""
    pause: float = 0.0
    """How many seconds to wait for the next round."""


def watch(platform: WakingPlatform, runs: Runs, cursor: Cursor, seconds: float = 0.0) -> Seen:
    """Do one tick for all policies; one that cannot be watched does not stop the others, and its memory is kept.

    It ends with the first round that finds a run to request, or a dependency that does not answer.

    Args:
        platform: Policies, registry, Git and clock.
        runs: The runs that were requested so far.
        cursor: What is remembered of the ticks before.
        seconds: How long the tick keeps watching when there is nothing to do; 0 for one look.

    Raises:
        DependencyError: the registry does not answer, for whichever policy.
        InvalidInputError: a setting or the folder of policies cannot be used.
    """
    with platform.bell() as bell:
        return _watch(platform, runs, cursor, seconds, bell)


def _watch(platform: Platform, runs: Runs, cursor: Cursor, seconds: float, bell: Bell) -> Seen:
    clock = platform.clock()
    tick = _Tick(platform, runs, platform.registry(), Repositories(platform), clock, dict(cursor.memories))
    began = clock.now()
    while True:
        _round(tick)
        passed = clock.now() - began
        if tick.requests or tick.unanswered or not 0.0 <= passed < max(seconds, WORK_SECONDS):
            break
        if tick.is_done:
            if passed >= seconds:
                break
            left = seconds - passed
            unheard = min(tick.pause / RUNG_SHARE, left)
            clock.sleep(unheard)
            tick.told = bell.wait(min(tick.pause, left) - unheard)
    said = _ignored(platform.ignored_files())
    unwatched = tuple(why for _, why in sorted((tick.broken | tick.unanswered).items()))
    return Seen(tuple(tick.requests), Cursor(tick.memories, said), unwatched, said if said != cursor.said else "")


def _ignored(files: Sequence[str]) -> str:
    if not files:
        return ""
    more = f" and {len(files) - _SHOWN_IGNORED} more" if len(files) > _SHOWN_IGNORED else ""
    shown = ", ".join(files[:_SHOWN_IGNORED])
    return f"Ignored in the folder of policies: {shown}{more}. Only files named *.yaml or *.yml are policies."


def _round(tick: _Tick) -> None:
    """Ask whose alias has moved, and look at the policies that are due until the round's time is over."""
    names = tick.platform.policy_names()
    tick.memories = {name: tick.memories[name] for name in names if name in tick.memories}
    policies = _policies(tick, names)
    tick.repositories.forget_heads()
    began = tick.clock.now()
    hints = _hints(tick, policies)
    asked = tick.clock.now()
    every = pause_between(len(policies), 0.0, together=False)
    if tick.is_first_round and every <= TICK_SECONDS:
        every -= TICK_SECONDS  # which have passed since the last tick
    told = {name for name, policy in policies.items() if policy.model in tick.told}
    due = iter(in_order(policies, tick.memories, hints, asked, every, told))
    tick.is_first_round = tick.is_done = False
    while some := list(islice(due, 2 * _ASKED_AT_ONCE)):
        answers = _answers(tick, {name: policies[name] for name in some})
        until = tick.clock.now() + ROUND_SECONDS  # however long the questions took, some of the answers are used
        for name, answer in answers.items():
            if tick.clock.now() >= until:
                return
            _look(tick, policies[name], answer, hints)
        if tick.clock.now() >= asked + ROUND_SECONDS:
            return
    tick.is_done = len(policies) + len(tick.broken) >= len(names)
    # Without hints each policy is asked when its time has come, so that many of them are not asked all at once.
    tick.pause = pause_between(1 if hints is None else len(policies), asked - began, together=hints is not None)


def _policies(tick: _Tick, names: Sequence[str]) -> Mapping[str, Policy]:
    """Read the policies, those first that were not looked at for the longest time, until the time for that is over.

    One that did not change is not parsed again, so that only a new code server on a busy machine does not come to all.
    """
    tick.broken = {} if names else {"": str(NO_POLICIES)}
    policies: dict[str, Policy] = {}
    until = tick.clock.now() + READ_SECONDS
    for name in sorted(names, key=lambda name: tick.memories[name].asked_at if name in tick.memories else 0.0):
        if tick.clock.now() >= until:
            break
        try:
            policies[name] = tick.platform.policy(name)
        except InvalidInputError as error:
            tick.broken[name] = f"Policy {name} is broken: {error}"
    return policies


def _hints(tick: _Tick, policies: Mapping[str, Policy]) -> Mapping[str, int] | None:
    """Ask for the aliases of all models at once; None when each policy has to be asked for."""
    if len(policies) < TOGETHER_FROM or not tick.hints_help:
        return None
    hints: dict[str, int] = {}
    for alias in sorted({policy.challenger_alias for policy in policies.values()}):
        models = {name: policy.model for name, policy in policies.items() if policy.challenger_alias == alias}
        named = tick.registry.named_by(alias, set(models.values()))
        if named is None:
            tick.hints_help = False
            return None
        hints |= {name: named.get(model, 0) for name, model in models.items()}
    return hints


def _answers(tick: _Tick, policies: Mapping[str, Policy]) -> Mapping[str, Named | DependencyError]:
    """Ask for the challengers of some policies at the same time, and once for those that share model and alias."""

    def ask(policy: Policy) -> Named | DependencyError:
        try:
            return ask_alias(tick.registry, tick.clock, policy)
        except DependencyError as error:
            return error

    shared = {(policy.model, policy.challenger_alias): policy for policy in policies.values()}
    if len(shared) == 1:
        found = dict(zip(shared, map(ask, shared.values()), strict=True))
    else:
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as askers:
            found = dict(zip(shared, askers.map(ask, shared.values()), strict=True))
    return {name: found[policy.model, policy.challenger_alias] for name, policy in policies.items()}


def _look(tick: _Tick, policy: Policy, answer: Named | DependencyError, hints: Mapping[str, int] | None) -> None:
    """Look at one policy, and remember what came of it."""
    name, memory = policy.name, tick.memories.get(policy.name)
    repositories = tick.repositories
    try:
        if isinstance(answer, DependencyError):
            raise answer
        git = repositories.of(policy)
        look = Look(
            tick.runs,
            tick.registry,
            git,
            lambda: repositories.head(policy),
            tick.clock,
            tick.platform.pull_requests,
            tick.platform.images,
        )
        requests, tick.memories[name] = look_at_policy(look, policy, memory, answer)
    except ProblemError as error:
        tick.memories[name] = unanswered(memory, tick.clock.now())
        if isinstance(error, DependencyError):
            tick.registry.ping()  # down for all policies: the tick fails here, and not once for each of them
            tick.unanswered[name] = f"Policy {name} waits for an answer of {error}"
        else:
            tick.broken[name] = f"Policy {name} is broken: {error}"
    else:
        tick.requests += ((name, request) for request in requests)
        now_named = tick.memories[name].named
        if hints is not None and memory is not None and hints.get(name, 0) != now_named == memory.named:
            tick.hints_help = False

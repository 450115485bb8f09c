"""Runs of a promotion without Dagster, and a kill at any of their writes."""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestration.promotion.identity import partition_key
from orchestration.stages.lease import LEASE_SECONDS
from orchestration.stages.pipeline import STAGES
from orchestration.stages.results import Check, StageDone
from orchestration.stages.runner import StageFailed, run_stage
from orchestration.stages.stage import Stage
from tests.fakes.world import POLICY_NAME, World, WorldPlatform

REGISTRY_WRITES = ("write_tags", "set_alias", "put_artifact")
GIT_WRITES = (
    "push_edit",
    "create_tag",
    "acquire_lease",
    "renew_lease",
    "release_lease",
    "record_act",
    "propose",
    "withdraw",
    "conclude",
)
HOST_WRITES = ("open", "comment", "close", "merge_when_ready")


class Killed(BaseException):
    """The process is gone: what its handlers would still do reaches nobody."""


class Saboteur:
    """Counts the writes of a world and dies at one of them: before it is done, or after, its answer lost.

    A dead process writes nothing more, whatever its code would do on the way out; `revive` starts the next one.
    """

    def __init__(self, world: World, at: int, *, after: bool) -> None:
        self.count, self.at, self.after = 0, at, after
        self.dead = False
        for port, names in (
            (world.registry, REGISTRY_WRITES),
            (world.git, GIT_WRITES),
            (world.requests, HOST_WRITES),
        ):
            for name in names:
                setattr(port, name, self._deadly(getattr(port, name)))

    def revive(self) -> None:
        self.dead = False

    def _deadly(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def dying(*arguments: Any, **named: Any) -> Any:
            self.count += 1
            self.dead = self.dead or (self.count == self.at and not self.after)
            if self.dead:
                raise Killed
            try:
                return write(*arguments, **named)
            finally:
                self.dead = self.count == self.at
                if self.dead:
                    raise Killed

        return dying


@dataclass(frozen=True)
class Host:
    """A run without Dagster, which handles no kill either."""

    run_id: str
    goes_on: bool
    say: Callable[[str], None]
    cancelled: bool = False
    """Whether a person cancelled the run when it is interrupted."""
    caller_waits: bool = False

    @property
    def warn(self) -> Callable[[str], None]:
        return self.say

    def version_read(self, facts: Mapping[str, object]) -> None:
        assert facts["run_id"]

    def is_cancelled(self, interruption: BaseException) -> bool:
        return self.cancelled


@dataclass(frozen=True)
class Ended:
    """What a person sees of a run."""

    checks: tuple[Check, ...]
    failure: str
    """The reason of the stage that failed; empty when all did their work."""
    said: tuple[str, ...]

    @property
    def success(self) -> bool:
        return not self.failure

    def check(self, name: str) -> Check:
        """Return the one result of a check."""
        (found,) = (check for check in self.checks if check.name == name)
        return found


def run_stages(world: World, number: int, selection: Sequence[str] | None = None) -> Ended:
    """Run stages, all of them by default, as a command does that waits for the end; without Dagster."""
    run, said, checks, failure = str(uuid.uuid4()), list[str](), list[Check](), ""
    selected = [stage for stage in STAGES if selection is None or stage.name in selection]

    def host(stage: Stage) -> Host:
        later = STAGES[STAGES.index(stage) + 1 :]
        return Host(run, bool(later) and later[0] in selected, said.append, caller_waits=True)

    for result in _results(world, number, selected, host):
        checks += result.checks
        failure = f"{result.outcome}: {result.problem}" if isinstance(result, StageFailed) else ""
    return Ended(tuple(checks), failure, tuple(said))


def run_until(world: World, number: int, last: str = STAGES[-1].name, *, run: str = "run") -> StageDone | StageFailed:
    """Run the stages up to one of them, and return what the last that ran resulted in."""
    selected = STAGES[: 1 + next(at for at, stage in enumerate(STAGES) if stage.name == last)]

    def host(stage: Stage) -> Host:
        return Host(run, stage.name != last, world.said.append, cancelled=True)

    return list(_results(world, number, selected, host))[-1]


def promote(world: World, number: int, run: str) -> bool:
    """Run the stages as the main job does; True unless the run was killed."""
    try:
        list(_results(world, number, STAGES, lambda stage: Host(run, stage is not STAGES[-1], world.said.append)))
    except Killed:
        return False
    return True


def _results(
    world: World, number: int, stages: Sequence[Stage], host: Callable[[Stage], Host]
) -> Iterator[StageDone | StageFailed]:
    """Run stages one after the other until one fails, and yield what each resulted in."""
    for stage in stages:
        result = run_stage(stage, WorldPlatform(world), partition_key(POLICY_NAME, number), host(stage))
        yield result
        if isinstance(result, StageFailed):
            return


def resume(world: World, number: int) -> None:
    """The next runs, as the sensor would request them once the dead run's lease has expired."""
    for resumed in range(3):
        world.clock.sleep(LEASE_SECONDS + 1)
        promote(world, number, f"resume-{resumed}")

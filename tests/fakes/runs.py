"""Runs of a promotion without Dagster, and a kill at any of their writes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestration.promotion.identity import partition_key
from orchestration.stages.lease import LEASE_SECONDS
from orchestration.stages.pipeline import STAGES
from orchestration.stages.results import StageDone
from orchestration.stages.runner import StageFailed, run_stage
from tests.fakes.world import POLICY_NAME, World, WorldPlatform

REGISTRY_WRITES = ("write_tags", "set_alias", "put_artifact")
GIT_WRITES = ("push_edit", "create_tag", "acquire_lease", "renew_lease", "release_lease", "record_act")


class Killed(BaseException):
    """The process is gone: what its handlers would still do reaches nobody."""


class Saboteur:
    """Counts the writes of a world and dies at one of them: before it is done, or after, its answer lost.

    A dead process writes nothing more, whatever its code would do on the way out; `revive` starts the next one.
    """

    def __init__(self, world: World, at: int, *, after: bool) -> None:
        self.count, self.at, self.after = 0, at, after
        self.dead = False
        for port, names in ((world.registry, REGISTRY_WRITES), (world.git, GIT_WRITES)):
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

    @property
    def caller_waits(self) -> bool:
        return False

    @property
    def warn(self) -> Callable[[str], None]:
        return self.say

    def version_read(self, facts: Mapping[str, object]) -> None:
        assert facts["run_id"]

    def is_cancelled(self, interruption: BaseException) -> bool:
        return self.cancelled


def run_until(world: World, number: int, last: str = STAGES[-1].name, *, run: str = "run") -> StageDone | StageFailed:
    """Run the stages up to one of them, and return what the last that ran resulted in."""
    for stage in STAGES:
        host = Host(run, stage.name != last, world.said.append, cancelled=True)
        result = run_stage(stage, WorldPlatform(world), partition_key(POLICY_NAME, number), host)
        if isinstance(result, StageFailed) or stage.name == last:
            break
    return result


def promote(world: World, number: int, run: str) -> bool:
    """Run the stages as the main job does; True unless the run was killed."""
    partition = partition_key(POLICY_NAME, number)
    try:
        for stage in STAGES:
            host = Host(run, stage is not STAGES[-1], world.said.append)
            if isinstance(run_stage(stage, WorldPlatform(world), partition, host), StageFailed):
                break
    except Killed:
        return False
    return True


def resume(world: World, number: int) -> None:
    """The next runs, as the sensor would request them once the dead run's lease has expired."""
    for resumed in range(3):
        world.clock.sleep(LEASE_SECONDS + 1)
        promote(world, number, f"resume-{resumed}")

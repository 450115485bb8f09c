"""Ticks of the sensor on a world, and the runs that it asks for, without Dagster."""

from orchestration.commands.sensor_tick import watch
from orchestration.promotion.sensor_rules import Cursor, Memory
from tests.fakes.runs import promote
from tests.fakes.world import World, WorldPlatform


class Runs:
    """The runs that a sensor has requested so far; each has ended."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def cancelled(self, request: str) -> str | None:
        return None

    def count(self, request: str) -> int:
        return self.counts.get(request, 0)

    def is_young(self, request: str, *, created_after: float, started_after: float) -> bool:
        return False


def look(world: World, runs: Runs, memories: dict[str, Memory]) -> list[int]:
    """Let the sensor tick once, a while after the last time, and return the versions that it wants to run."""
    world.clock.sleep(200)
    seen = watch(WorldPlatform(world), runs, Cursor(memories))
    assert seen.unwatched == ()
    memories.update(seen.cursor.memories)
    for policy, request in seen.requests:
        tag = request.tag(policy)
        runs.counts[tag] = runs.counts.get(tag, 0) + 1
    return [request.version for _, request in seen.requests]


def go_on(world: World, runs: Runs, memories: dict[str, Memory], ticks: int = 6) -> list[int]:
    """Tick and run whatever the sensor asks for; return which versions were run."""
    ran = []
    for number in range(ticks):
        for version in look(world, runs, memories):
            promote(world, version, f"run-{version}-{number}")
            ran.append(version)
    return ran

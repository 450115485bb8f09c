"""The definitions on a platform of fakes, for commands that load a module: version 1 is good, and version 2 is not."""

import dagster as dg

from orchestration.assets import registered_model, stage_assets
from orchestration.jobs import promote
from tests.fakes.world import World, WorldPlatform

world = World()
good = world.register()
world.register(accuracy=0.1)
world.registry.set_alias(good, "challenger")

defs = dg.Definitions(
    assets=[registered_model, *stage_assets],
    jobs=[promote],
    resources={"platform": WorldPlatform(world)},
    executor=dg.in_process_executor,
)

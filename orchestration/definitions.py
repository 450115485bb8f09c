"""The table of contents of the code location."""

import dagster as dg

from orchestration.assets import registered_model, stage_assets
from orchestration.jobs import promote
from orchestration.live import live_models, live_sensor
from orchestration.resources import platform_from_environment
from orchestration.sensors import challenger_sensor

defs = dg.Definitions(
    assets=[registered_model, *stage_assets, live_models],
    jobs=[promote],
    sensors=[challenger_sensor, live_sensor],
    resources={"platform": platform_from_environment()},
    executor=dg.in_process_executor,
)

"""The table of contents of the code location."""

import dagster as dg

from orchestration.assets import registered_model, stage_assets
from orchestration.jobs import promote
from orchestration.operations_serving import serving_operations
from orchestration.resources import platform_from_environment
from orchestration.sensors import challenger_sensor

defs = dg.Definitions(
    assets=[registered_model, *stage_assets],
    jobs=[promote, *serving_operations],
    sensors=[challenger_sensor],
    resources={"platform": platform_from_environment()},
    executor=dg.in_process_executor,
)

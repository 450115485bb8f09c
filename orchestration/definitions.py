"""The table of contents of the code location."""

import dagster as dg

from orchestration.assets import registered_model, stage_assets
from orchestration.evaluation import champion_evaluation, evaluation_job, evaluation_schedule
from orchestration.jobs import promote
from orchestration.live import LiveLook, live_models, live_sensor
from orchestration.notifications import Background, notification_sensor
from orchestration.operations import operations
from orchestration.resources import notifications_from_environment, platform_from_environment
from orchestration.sensors import challenger_sensor

defs = dg.Definitions(
    assets=[registered_model, *stage_assets, live_models, champion_evaluation],
    jobs=[promote, *operations, evaluation_job],
    schedules=[evaluation_schedule],
    sensors=[challenger_sensor, live_sensor, notification_sensor],
    resources={
        "platform": platform_from_environment(),
        "notifications": notifications_from_environment(),
        "background": Background(),
        "live_look": LiveLook(),
    },
    executor=dg.in_process_executor,
)

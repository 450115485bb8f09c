"""The main job: one version, from candidate to champion."""

import dagster as dg

from orchestration.assets import PROMOTION_GROUP

promote = dg.define_asset_job(
    "promote",
    selection=dg.AssetSelection.groups(PROMOTION_GROUP),
    description="Promote one version: judge it, commit it, wait for its rollout, prove it healthy; or take it back.",
    executor_def=dg.in_process_executor,  # a process for each step would cost 5 to 9 s each
)

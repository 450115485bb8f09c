"""The stages of a promotion, in their order."""

from orchestration.stages import manifest_commit, promotion_candidate, rollout, serving_model

STAGES = (promotion_candidate.STAGE, manifest_commit.STAGE, rollout.STAGE, serving_model.STAGE)

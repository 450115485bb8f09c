"""When each stage of a promotion ended, from the metadata of Dagster's materializations."""

from dataclasses import dataclass
from typing import Any

from testbeds.story.environment import Environment
from testbeds.story.expectation import Expected, promotion_commits
from testbeds.story.seen import Seen

_MATERIALIZATIONS = """
query($asset: AssetKeyInput!, $partitions: [String!]) {
  assetOrError(assetKey: $asset) {
    ... on Asset {
      assetMaterializations(partitions: $partitions, limit: 1) {
        timestamp
        metadataEntries { label ... on FloatMetadataEntry { floatValue } }
      }
    }
  }
}
"""
_CONDITIONS = ("revision", "operation", "image", "replicas", "digests")


@dataclass(frozen=True)
class Stages:
    """When one promotion reached each stage, in seconds since the epoch, or None for a stage that it did not reach."""

    revision_at: float | None = None
    synced_at: float | None = None
    rolled_out_at: float | None = None
    champion_at: float | None = None


def stages_of(environment: Environment, story: Expected, seen: Seen, version: int) -> Stages:
    """Read from Dagster's materializations when the rollout's conditions were met and the alias was set."""
    partition = f"{story.policy}@{version}"
    commits = promotion_commits(seen, story, version)
    rollout = _materialization(environment, "rollout", partition)
    champion = _materialization(environment, "serving_model", partition)
    numbers = {entry["label"]: entry.get("floatValue") for entry in rollout["metadataEntries"]} if rollout else {}
    since_commit = [numbers.get(f"{name}_seconds") for name in _CONDITIONS]
    met = [commits[0].at + float(seconds) for seconds in since_commit if commits and seconds is not None]
    all_met = len(met) == len(_CONDITIONS)
    return Stages(
        revision_at=met[0] if all_met else None,
        synced_at=met[1] if all_met else None,
        rolled_out_at=max(met) if all_met else None,
        champion_at=float(champion["timestamp"]) / 1000 if champion is not None else None,
    )


def _materialization(environment: Environment, asset: str, partition: str) -> dict[str, Any] | None:
    variables = {"asset": {"path": [asset]}, "partitions": [partition]}
    asset_data = environment.ask_dagster(_MATERIALIZATIONS, variables)["assetOrError"]
    latest: dict[str, Any] | None = (asset_data.get("assetMaterializations") or [None])[0]
    return latest

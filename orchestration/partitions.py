"""One partition a version that was ever tried, so that the UI has a row for each: `iris-classifier-edge@7`."""

import dagster as dg

from orchestration.promotion.identity import parse_partition_key
from orchestration.promotion.problems import InvalidInputError, Problem

model_versions = dg.DynamicPartitionsDefinition(name="model_versions")


def policy_and_version(key: str) -> tuple[str, int]:
    """The policy's name and the version's number of a partition.

    Raises:
        InvalidInputError: the key is none of ours.
    """
    parsed = parse_partition_key(key)
    if parsed is None:
        raise InvalidInputError(
            Problem(
                f"partition {key}",
                "<policy>@<version>, such as iris-classifier-edge@7",
                "another form",
                "Add it with: incumbent register POLICY VERSION.",
            )
        )
    return parsed

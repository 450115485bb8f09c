"""The partitions, so that the UI has a row for each: one for each version that was ever tried, one for each policy."""

import dagster as dg

model_versions = dg.DynamicPartitionsDefinition(name="model_versions")
"""Named after policy and version, such as `iris-classifier-edge@7`."""

policies = dg.DynamicPartitionsDefinition(name="policies")
"""Named after the policies; those that do not exist any more are removed."""

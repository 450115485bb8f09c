"""One partition for each version that was ever tried, so that the UI has a row for each: `iris-classifier-edge@7`."""

import dagster as dg

model_versions = dg.DynamicPartitionsDefinition(name="model_versions")

"""Places to run incumbent in: what stands in for the world around the pipeline. The pipeline imports none of it."""

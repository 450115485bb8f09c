"""The long-lived process beside the pipeline: one HTTP server with the parts that were chosen."""

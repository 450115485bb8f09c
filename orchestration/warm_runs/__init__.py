"""Runs that are forked from a process which has imported everything: a launcher for Dagster, and that process."""

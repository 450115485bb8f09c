"""Metrics of the promotions themselves for Prometheus, computed from Git, the registry and the clusters."""

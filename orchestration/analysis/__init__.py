"""Alerts, told to people: what the cluster, Git and the registry know of one, and what a language model makes of it."""

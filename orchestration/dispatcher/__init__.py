"""Alerts become runs of workflows: what is dispatched, with which inputs, how often, and what an answer means; pure."""

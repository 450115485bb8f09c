"""Real iris models for the testbeds: trained, logged to MLflow, registered, and published as images."""

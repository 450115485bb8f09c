"""Real models of irises and wines for the testbeds: trained, logged to MLflow, registered and published as images."""

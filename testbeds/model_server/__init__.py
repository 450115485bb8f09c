"""The model server of the testbeds: it serves one registered model as `/predict`, `/health` and `/metrics`."""

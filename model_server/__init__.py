"""This project's own model server: it serves one registered model as `/predict`, `/health` and `/metrics`."""

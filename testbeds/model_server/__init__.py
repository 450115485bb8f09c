"""The model server of the testbeds: an image is a registered model, served as `/predict`, `/health`, `/metrics`."""

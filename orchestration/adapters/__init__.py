"""The only importers of mlflow, kubernetes, git and HTTP clients: each adapter plays one port of `promotion.ports`."""

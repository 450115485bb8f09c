"""The only importers of mlflow, kubernetes, git and HTTP clients; each implements a port of `promotion.ports`."""

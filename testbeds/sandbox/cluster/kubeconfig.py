"""The kubeconfig of the stand-in: contexts `gcp` and `edge`, both at this one server."""

import json
from pathlib import Path

CONTEXTS = ("gcp", "edge")


def write_kubeconfig(path: Path, server: str, token: str) -> None:
    """Write the kubeconfig, readable only by its owner. JSON is YAML, so nothing in it needs quoting."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CONTEXTS[-1],
        "clusters": [{"name": name, "cluster": {"server": server}} for name in CONTEXTS],
        "users": [{"name": name, "user": {"token": token}} for name in CONTEXTS],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in CONTEXTS],
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=2) + "\n")

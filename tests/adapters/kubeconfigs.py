"""Kubeconfigs for tests."""

import json
from pathlib import Path

TOKEN = "t0ken-of-the-test"


def write_kubeconfig(folder: Path, server: str, context: str = "edge") -> Path:
    """Write a kubeconfig with one context; it is JSON, which is valid YAML."""
    path = folder / "kubeconfig"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
        "contexts": [{"name": context, "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(json.dumps(document))
    return path

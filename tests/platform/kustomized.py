"""What an application's folder brings: plain manifests, or what its kustomization lists and generates."""

from pathlib import Path
from typing import Any

from tests.platform.crds import documents

_KUSTOMIZATION = "kustomization.yaml"
_KNOWN = {"apiVersion", "kind", "namespace", "resources", "configMapGenerator", "replacements"}


def content(folder: Path) -> list[dict[str, Any]]:
    """All objects, as Argo CD would find them; of generated ones kind, name and place."""
    listing = folder / _KUSTOMIZATION
    if not listing.exists():
        return [one for path in sorted(folder.glob("*.yaml")) for one in documents(path)]
    (kustomization,) = documents(listing)
    unknown = set(kustomization) - {
        "apiVersion",
        "kind",
        "namespace",
        "resources",
        "configMapGenerator",
        "replacements",
    }
    assert not unknown, f"{listing}: this reader does not know {unknown}"
    found: list[dict[str, Any]] = []
    for name in kustomization["resources"]:
        path = folder / name
        found += content(path) if path.is_dir() else documents(path)
    place = kustomization.get("namespace")
    for one in kustomization.get("configMapGenerator", ()):
        files = {Path(file).name: (folder / file).read_text(encoding="utf-8") for file in one.get("files", ())}
        metadata = {"name": one["name"], "namespace": one.get("namespace", place)}
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": files})
    return found

"""Validation of custom resources by upstream's own CRDs, from pinned Go modules, as an API server would do it."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # no types of its own
from jsonschema import Draft7Validator  # type: ignore[import-untyped] # no stubs in the lock

from testbeds.homelab.offline.go_build import argocd_sources, kserve_sources

_FILES: Mapping[str, tuple[Callable[[], Path], str]] = {
    "Application": (argocd_sources, "manifests/crds/application-crd.yaml"),
    "AppProject": (argocd_sources, "manifests/crds/appproject-crd.yaml"),
    "InferenceService": (kserve_sources, "config/crd/full/serving.kserve.io_inferenceservices.yaml"),
}


def complaints(document: Mapping[str, Any]) -> list[str]:
    """Return what an API server would refuse in a custom resource, and which fields it would drop."""
    return [f"{error.json_path}: {error.message}" for error in _validator(document["kind"]).iter_errors(document)]


@cache
def _validator(kind: str) -> Draft7Validator:
    sources, file = _FILES[kind]
    text = (sources() / file).read_text(encoding="utf-8")
    definition = yaml.load(text, Loader=yaml.CSafeLoader)
    (version,) = [version for version in definition["spec"]["versions"] if version["storage"]]
    schema = _closed(version["schema"]["openAPIV3Schema"])
    names = {
        "apiVersion": f"{definition['spec']['group']}/{version['name']}",
        "kind": definition["spec"]["names"]["kind"],
    }
    schema["properties"] |= {key: {"const": value} for key, value in names.items()} | {"metadata": {"type": "object"}}
    return Draft7Validator(schema)


def _closed(schema: Any) -> Any:
    """Return an OpenAPI schema as a JSON Schema in which an unknown field is an error."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string") is True:
        closed.pop("type", None)
    elif isinstance(schema.get("properties"), dict) and schema.get("x-kubernetes-preserve-unknown-fields") is not True:
        closed.setdefault("additionalProperties", False)
    return closed


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the documents of a file as Kubernetes reads them, whose parser is a port of libyaml, too."""
    return [dict(document) for document in yaml.load_all(path.read_bytes(), Loader=yaml.CSafeLoader)]

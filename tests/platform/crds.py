"""Custom resources held to what their API server would hold them to: upstream's own CRDs, of pinned Go modules."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator  # type: ignore[import-untyped] # no stubs in the lock
from ruamel.yaml import YAML

from testbeds.homelab.offline.go_build import module_sources

_ARGOCD = ("argocd", "github.com/argoproj/argo-cd/v3", "manifests/crds")
_KSERVE = ("kserve", "github.com/kserve/kserve", "config/crd/full")
_FILES = {
    "Application": (*_ARGOCD, "application-crd.yaml"),
    "AppProject": (*_ARGOCD, "appproject-crd.yaml"),
    "InferenceService": (*_KSERVE, "serving.kserve.io_inferenceservices.yaml"),
}


def complaints(document: Mapping[str, Any]) -> list[str]:
    """What an API server would refuse in a custom resource, and which fields it would drop."""
    return [f"{error.json_path}: {error.message}" for error in _validator(document["kind"]).iter_errors(document)]


@cache
def _validator(kind: str) -> Draft7Validator:
    name, module, folder, file = _FILES[kind]
    text = (module_sources(name, module) / folder / file).read_text(encoding="utf-8")
    definition = YAML(typ="safe").load(text)
    (version,) = [one for one in definition["spec"]["versions"] if one["storage"]]
    schema = _closed(version["schema"]["openAPIV3Schema"])
    names = {
        "apiVersion": f"{definition['spec']['group']}/{version['name']}",
        "kind": definition["spec"]["names"]["kind"],
    }
    schema["properties"] |= {key: {"const": value} for key, value in names.items()} | {"metadata": {"type": "object"}}
    return Draft7Validator(schema)


def _closed(schema: Any) -> Any:
    """The schema as JSON Schema, in which a field that nobody knows is an error."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string") is True:
        closed.pop("type", None)
    elif isinstance(schema.get("properties"), dict) and schema.get("x-kubernetes-preserve-unknown-fields") is not True:
        closed.setdefault("additionalProperties", False)
    return closed


def documents(path: Path) -> list[dict[str, Any]]:
    return [dict(one) for one in YAML(typ="safe").load_all(path.read_text(encoding="utf-8"))]

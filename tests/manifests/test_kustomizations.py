"""Kustomizations use every file in their folders."""

from typing import Any

from ruamel.yaml import YAML

from testbeds.common.tools import CHECKOUT


def generated(kustomization: dict[str, Any]) -> set[str]:
    """Return the files of which a kustomization makes ConfigMaps; `key=file` gives one another name there."""
    generators = kustomization["configMapGenerator"]
    named = [file for generator in generators for file in (*generator.get("files", []), *generator.get("envs", []))]
    return {file.rpartition("=")[2] for file in named}


def test_each_file_of_a_kustomization_is_used() -> None:
    """kustomize reads each file in such a folder; one that it did not read would seem to have an effect."""
    for path in (CHECKOUT / "manifests").rglob("kustomization.yaml"):
        kustomization = YAML(typ="safe").load(path)
        own = {name for name in kustomization.get("resources", []) if not name.startswith("../")}
        files = {str(file.relative_to(path.parent)) for file in path.parent.rglob("*") if file.is_file()}
        assert own | generated(kustomization) == files - {path.name}


def test_the_config_map_of_policies_has_each_policy() -> None:
    """A policy that it lacked would be promoted by a Dagster on one machine, and not by one on Kubernetes."""
    folder = CHECKOUT / "policies"
    kustomization = YAML(typ="safe").load(folder / "Kustomization")
    assert generated(kustomization) == {path.name for path in folder.glob("*.yaml")}

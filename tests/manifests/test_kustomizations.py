"""Kustomizations use every file in their folders."""

from ruamel.yaml import YAML

from testbeds.common.tools import CHECKOUT


def test_each_file_of_a_kustomization_is_used() -> None:
    """kustomize reads each file in such a folder; one that it did not read would seem to have an effect."""
    for path in (CHECKOUT / "manifests").rglob("kustomization.yaml"):
        kustomization = YAML(typ="safe").load(path)
        generated = [file for generator in kustomization["configMapGenerator"] for file in generator["files"]]
        files = {str(file.relative_to(path.parent)) for file in path.parent.rglob("*") if file.is_file()}
        assert {*kustomization.get("resources", []), *generated} == files - {path.name}

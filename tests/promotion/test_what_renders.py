"""Which files Argo CD applies as they stand, so that they can be tried before the commit."""

from typing import Any

import pytest

from orchestration.promotion.application_files import what_renders
from orchestration.promotion.cluster_json import parse_application

PATH = "base/iris.yaml"
BASE = {"base/kustomization.yaml": "resources: [iris.yaml]\n"}


def overlay(fields: str) -> dict[str, str]:
    """The files of a base and of an overlay in `p` with these fields."""
    return {**BASE, "p/kustomization.yaml": f"resources: [../base]\n{fields}\n"}


def rendered(path: str, files: dict[str, str], folder: str, **source: Any) -> str:
    """What `what_renders` says of a file, of an Application whose source is a folder."""
    status = {"sourceType": source.pop("type", "")}
    raw = {"spec": {"source": {"repoURL": "r", "path": folder, **source}}, "status": status}
    application = parse_application(raw)
    assert application.source is not None
    contents = {path: "kind: Deployment\n", **files}
    return what_renders(
        application.source, application, path, lambda name: contents[name].encode() if name in contents else None
    )


@pytest.mark.parametrize(
    ("path", "files", "folder", "source"),
    [
        ("apps/iris.yaml", {}, "apps", {}),
        ("apps/deep/iris.yaml", {}, "apps", {"directory": {"recurse": True}}),
        (PATH, BASE, "base", {}),
        (PATH, overlay("namePrefix: prod-\nnamespace: ml"), "p", {}),
        (PATH, BASE, "base", {"kustomize": {"images": ["a:b"], "namePrefix": "x-"}}),
    ],
)
def test_a_plain_manifest_is_applied_as_it_stands(
    path: str, files: dict[str, str], folder: str, source: dict[str, Any]
) -> None:
    """Also by a kustomization that sets names and images."""
    assert rendered(path, files, folder, **source) == ""


@pytest.mark.parametrize(
    ("path", "files", "folder", "source", "said"),
    [
        ("apps/values.yaml", {"apps/Chart.yaml": ""}, "apps", {}, "Helm renders it"),
        ("apps/templates/iris.yaml", {"apps/Chart.yaml": ""}, "apps", {}, "Helm renders it"),
        ("envs/iris.yaml", {}, "chart", {"helm": {"valueFiles": ["/envs/iris.yaml"]}}, "Helm renders it"),
        ("apps/iris.yaml", {}, "apps", {"type": "Helm"}, "Helm renders it"),
        ("apps/iris.yaml", {}, "apps", {"plugin": {"name": "cue"}}, "a plugin"),
        ("apps/iris.yaml", {}, "other", {}, "is not known"),
        (PATH, overlay("patches: []"), "p", {}, "Kustomize changes it (patches)"),
        (PATH, overlay("labels: []"), "p", {}, "Kustomize changes it (labels)"),
        (PATH, overlay("commonLabels: {a: b}"), "p", {}, "(commonLabels)"),
        (PATH, BASE, "base", {"kustomize": {"patches": [{}]}}, "(spec.source.kustomize.patches)"),
    ],
)
def test_what_becomes_another_manifest_is_told(
    path: str, files: dict[str, str], folder: str, source: dict[str, Any], said: str
) -> None:
    """Helm, a plugin and patches of Kustomize make another manifest of a file, which nothing here knows."""
    assert said in rendered(path, files, folder, **source)

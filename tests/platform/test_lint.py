"""kube-score on everything that Argo CD is told to keep; each exception is needed, and has its reason beside it."""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pytest

from testbeds.common.tools import CHECKOUT
from testbeds.homelab.settings import KUBERNETES_VERSION
from tests.manifests.test_argocd_apps import APPLICATIONS
from tests.platform.programs import content, kube_score

FOLDERS = sorted({one["spec"]["source"]["path"] for one in APPLICATIONS.values()})
IGNORE = "kube-score/ignore"
OPTIONAL = ("container-ports-check", "container-seccomp-profile")
"""Not the others, which want requests that equal limits: an e2-small has no room for that."""
UNKNOWN = {
    "AppProject",
    "Application",
    "ClusterRole",
    "ClusterRoleBinding",
    "ConfigMap",
    "InferenceService",
    "Namespace",
    "PersistentVolumeClaim",
    "Role",
    "RoleBinding",
    "Secret",
    "ServiceAccount",
}
"""Kinds that kube-score passes over in silence."""
_WARNING = 5
"""kube-score's grades: 1 is critical, 5 a warning, 7 and 10 are fine."""
Findings = dict[tuple[str, str, str], set[str]]


def key(kind: str, metadata: Mapping[str, Any]) -> tuple[str, str, str]:
    return kind, metadata.get("namespace", ""), metadata["name"]


def lint(documents: Sequence[Mapping[str, Any]], *options: str) -> Findings:
    """The checks that each object fails, if any; objects of kinds that kube-score does not know are absent."""
    version, _, _ = KUBERNETES_VERSION.rpartition(".")
    command = [str(kube_score()), "score", f"--kubernetes-version={version}", "--output-format=json", *options]
    command += [*(f"--enable-optional-test={one}" for one in OPTIONAL), "-"]
    stream = "\n---\n".join(json.dumps(one) for one in documents)  # JSON is YAML
    done = subprocess.run(command, input=stream, capture_output=True, text=True)
    assert done.stdout, done.stderr
    return {
        key(one["type_meta"]["kind"], one["object_meta"]): {
            each["check"]["id"] for each in one["checks"] if not each["skipped"] and each["grade"] <= _WARNING
        }
        for one in json.loads(done.stdout) or ()
    }


@cache
def without_exceptions(folder: str) -> Findings:
    return lint(content(folder), "--disable-ignore-checks-annotations")


def exceptions(document: Mapping[str, Any]) -> list[str]:
    """What an object's annotation asks kube-score to ignore."""
    found = document["metadata"].get("annotations", {}).get(IGNORE)
    return found.split(",") if found else []


@pytest.mark.parametrize("folder", FOLDERS)
def test_kube_score_finds_nothing(folder: str) -> None:
    """No object has a critical finding or a warning that is not an exception."""
    assert {one: found for one, found in lint(content(folder)).items() if found} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_exception_is_needed(folder: str) -> None:
    """Without its annotation an object has just the findings that this names, and none that was mended since."""
    found = without_exceptions(folder)
    for one in content(folder):
        mine = key(one["kind"], one["metadata"])
        assert sorted(exceptions(one)) == sorted(found.get(mine, ())), mine


def test_each_exception_has_its_reason() -> None:
    """Above each annotation a comment names every check that it lists, and says why."""
    seen = 0
    for path in (CHECKOUT / "manifests").rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        for comments, listed in re.findall(rf"((?: +# .+\n)*) +{IGNORE}: (.+)\n", text):
            reasons = re.findall(r"# ([a-z, -]+): \w.+\.\n", comments)
            assert ", ".join(reasons).split(", ") == listed.split(","), path
            seen += 1
    assert seen == sum(bool(exceptions(one)) for folder in FOLDERS for one in content(folder))


def test_what_is_not_linted_is_known() -> None:
    """Every object of a kind that kube-score has checks for was looked at, and the others' kinds are those above."""
    kinds = set()
    for folder in FOLDERS:
        linted = set(without_exceptions(folder))
        kinds |= {one["kind"] for one in content(folder) if key(one["kind"], one["metadata"]) not in linted}
    assert kinds == UNKNOWN


def test_a_bad_deployment_is_found() -> None:
    """The linter is alive: a privileged pod of the newest image, without bounds or probes, fails what it should."""
    container = {"name": "bad", "image": "bad:latest", "securityContext": {"privileged": True}}
    labels = {"app": "bad"}
    metadata = {"name": "bad", "namespace": "bad", "labels": labels}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }
    service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": labels}}
    found = lint([deployment, service])
    assert found["Service", "bad", "bad"] == set()
    assert found["Deployment", "bad", "bad"] >= {
        "container-image-tag",
        "container-resources",
        "container-seccomp-profile",
        "container-security-context-privileged",
        "container-security-context-readonlyrootfilesystem",
        "container-security-context-user-group-id",
        "deployment-replicas",
        "pod-probes",
    }

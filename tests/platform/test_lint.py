"""kube-score on everything that Argo CD deploys; each exception is needed, and its reason stands beside it."""

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

FOLDERS = sorted({application["spec"]["source"]["path"] for application in APPLICATIONS.values()})
IGNORE = "kube-score/ignore"
OPTIONAL = ("container-ports-check", "container-seccomp-profile")
"""Not the other optional tests, which require requests equal to limits, for which an e2-small has no room."""
UNKNOWN = {
    "AppProject",
    "Application",
    "ClusterRole",
    "ClusterRoleBinding",
    "ConfigMap",
    "InferenceService",
    "LimitRange",
    "Namespace",
    "PersistentVolumeClaim",
    "ResourceQuota",
    "Role",
    "RoleBinding",
    "Secret",
    "ServiceAccount",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
"""Kinds that kube-score silently ignores."""
_WARNING = 5
"""The grade of a warning; kube-score's grades are 1 (critical), 5 (warning), 7 and 10 (fine)."""
Findings = dict[tuple[str, str, str], set[str]]


def key(kind: str, metadata: Mapping[str, Any]) -> tuple[str, str, str]:
    return kind, metadata.get("namespace", ""), metadata["name"]


def lint(documents: Sequence[Mapping[str, Any]], *options: str) -> Findings:
    """Return the checks that each object fails, if any; objects of kinds that kube-score does not know are absent."""
    version, _, _ = KUBERNETES_VERSION.rpartition(".")
    command = [str(kube_score()), "score", f"--kubernetes-version={version}", "--output-format=json", *options]
    command += [*(f"--enable-optional-test={name}" for name in OPTIONAL), "-"]
    stream = "\n---\n".join(json.dumps(document) for document in documents)  # JSON is YAML
    done = subprocess.run(command, input=stream, capture_output=True, text=True)
    assert done.stdout, done.stderr
    return {
        key(score["type_meta"]["kind"], score["object_meta"]): {
            result["check"]["id"] for result in score["checks"] if not result["skipped"] and result["grade"] <= _WARNING
        }
        for score in json.loads(done.stdout) or ()
    }


@cache
def without_exceptions(folder: str) -> Findings:
    return lint(content(folder), "--disable-ignore-checks-annotations")


def exceptions(document: Mapping[str, Any]) -> list[str]:
    """Return the checks that an object's annotation asks kube-score to ignore."""
    checks = document["metadata"].get("annotations", {}).get(IGNORE)
    return checks.split(",") if checks else []


@pytest.mark.parametrize("folder", FOLDERS)
def test_kube_score_finds_nothing(folder: str) -> None:
    """No object has a critical finding or a warning that is not an exception."""
    assert {name: checks for name, checks in lint(content(folder)).items() if checks} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_exception_is_needed(folder: str) -> None:
    """Without its annotation, an object fails exactly the checks that the annotation names."""
    findings = without_exceptions(folder)
    for document in content(folder):
        name = key(document["kind"], document["metadata"])
        assert sorted(exceptions(document)) == sorted(findings.get(name, ())), name


def test_each_exception_has_its_reason() -> None:
    """Above each annotation, comments name every check that it lists, and say why."""
    seen = 0
    for path in (CHECKOUT / "manifests").rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        for comments, listed in re.findall(rf"((?: +# .+\n)*) +{IGNORE}: (.+)\n", text):
            reasons = re.findall(r"# ([a-z, -]+): \w.+\.\n", comments)
            assert ", ".join(reasons).split(", ") == listed.split(","), path
            seen += 1
    assert seen == sum(bool(exceptions(document)) for folder in FOLDERS for document in content(folder))


def test_only_unknown_kinds_are_not_linted() -> None:
    """kube-score checks every object except those of the kinds that it does not know."""
    kinds = set()
    for folder in FOLDERS:
        linted = set(without_exceptions(folder))
        for document in content(folder):
            if key(document["kind"], document["metadata"]) not in linted:
                kinds.add(document["kind"])
    assert kinds == UNKNOWN


def test_a_bad_deployment_is_found() -> None:
    """A privileged container with the tag latest, without limits or probes, fails the checks that it should."""
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
    findings = lint([deployment, service])
    assert findings["Service", "bad", "bad"] == set()
    assert findings["Deployment", "bad", "bad"] >= {
        "container-image-tag",
        "container-resources",
        "container-seccomp-profile",
        "container-security-context-privileged",
        "container-security-context-readonlyrootfilesystem",
        "container-security-context-user-group-id",
        "deployment-replicas",
        "pod-probes",
    }

"""What the pipeline's account may do to an Application, by a real API server with the control plane's manifests."""

from collections.abc import Mapping
from typing import Any

import pytest

from bootstrap.kubectl import Document
from bootstrap.objects import namespace
from orchestration.adapters.kube_api import ApiReply, KubeApi, api_path
from testbeds.common.processes import wait_until
from testbeds.common.state import read_policies
from testbeds.common.tools import CHECKOUT
from tests.manifests.test_argocd_apps import APPLICATIONS
from tests.platform.api_server import ApiServer
from tests.platform.programs import content

ACCESS = "manifests/platform/access/control-plane"
POLICY = "ValidatingAdmissionPolicy 'incumbent-refreshes'"
REFRESH = "argocd.argoproj.io/refresh"
NAME = "iris-classifier"
_MERGE, _JSON, _APPLY = (f"application/{kind}" for kind in ("merge-patch+json", "json-patch+json", "apply-patch+yaml"))
_SECONDS = 60.0
_KEPT = {"argocd.argoproj.io/sync-wave": "0"}
"""Annotations that the Application has before."""


def path_of(name: str, query: str = "") -> str:
    return api_path("apis", "argoproj.io", "v1alpha1", "namespaces", "argocd", "applications", name) + query


def annotated(**annotations: str | None) -> Mapping[str, Any]:
    return {"metadata": {"annotations": annotations}}


def patch(api: KubeApi, document: object, kind: str = _MERGE, name: str = NAME, query: str = "") -> ApiReply:
    return api.send("PATCH", path_of(name, query), document, {"Content-Type": kind})


def refusal(reply: ApiReply) -> str:
    """Return what the API server says about why it refuses; empty when it does not."""
    document = reply.document
    assert isinstance(document, dict)
    return str(document["message"]) if reply.status == 403 else ""


@pytest.fixture(scope="module")
def pipeline(api_server: ApiServer) -> KubeApi:
    """Apply accounts and Applications, and return the API as the pipeline sees it once its bounds are in force."""
    admin = api_server.admin
    everything = [*content(ACCESS), *content("manifests/platform/access/dagster")]
    admin.apply([namespace("argocd"), *(each for each in everything if each["kind"] == "Namespace")])
    admin.apply(everything)
    admin.apply([_application(name) for name in APPLICATIONS])
    pipeline = api_server.account("incumbent", "incumbent")
    changed = {"spec": {"project": "root"}}
    wait_until(
        lambda: POLICY in refusal(patch(pipeline, changed, query="?dryRun=All")), _SECONDS, "the policy is in force"
    )
    return pipeline


def _application(name: str) -> Document:
    """Return one of our Applications as Argo CD keeps it: with a status, labels, an owner and a finalizer."""
    document = APPLICATIONS[name]
    metadata = {
        **document["metadata"],
        "annotations": _KEPT,
        "labels": {"team": "models"},
        "finalizers": ["resources-finalizer.argocd.argoproj.io"],
    }
    status = {"sync": {"status": "Synced", "revision": "1" * 40}, "health": {"status": "Healthy"}}
    return {**document, "metadata": metadata, "status": status}


@pytest.mark.parametrize("value", ["normal", "hard"])
def test_a_refresh_is_admitted(pipeline: KubeApi, api_server: ApiServer, value: str) -> None:
    """The pipeline sets the annotation, and Argo CD's removal of it, and a second one, are admitted as well."""
    assert patch(pipeline, annotated(**{REFRESH: value})).status == 200
    found = api_server.admin.read("application", NAME, "argocd")
    assert found is not None
    assert found["metadata"]["annotations"] == {**_KEPT, REFRESH: value}
    assert patch(pipeline, annotated(**{REFRESH: None})).status == 200
    assert patch(pipeline, annotated(**{REFRESH: value})).status == 200


def test_runs_in_pods_are_bound_as_the_account_outside_is(pipeline: KubeApi, api_server: ApiServer) -> None:
    """On Kubernetes, a run's account may ask for a refresh of the same Applications, and change nothing else."""
    run = api_server.account("dagster", "run")
    assert patch(run, annotated(**{REFRESH: "normal"})).status == 200
    assert POLICY in refusal(patch(run, {"spec": {"project": "root"}}))
    assert 'applications.argoproj.io "root" is forbidden' in refusal(run.get(path_of("root")))


def test_the_account_is_bound_to_the_policies_applications() -> None:
    """The role names the Application of each policy, and no other."""
    (role,) = [each for each in content(ACCESS) if each["kind"] == "Role" and each["metadata"]["name"] == "incumbent"]
    (rule,) = role["rules"]
    policies = read_policies(CHECKOUT / "policies")
    assert sorted(rule["resourceNames"]) == sorted({policy.argocd.application for policy in policies})


REFUSED: dict[str, tuple[object, str]] = {
    "another path of the source": ({"spec": {"source": {"path": "manifests/platform/access/edge"}}}, "spec"),
    "another repository": ({"spec": {"source": {"repoURL": "https://evil.example/x.git"}}}, "spec"),
    "another branch": ({"spec": {"source": {"targetRevision": "evil"}}}, "spec"),
    "an image over the file's": ({"spec": {"source": {"kustomize": {"images": ["a=evil"]}}}}, "spec"),
    "another project": ({"spec": {"project": "access"}}, "spec"),
    "another cluster": ({"spec": {"destination": {"name": "in-cluster"}}}, "spec"),
    "another namespace": ({"spec": {"destination": {"namespace": "kube-system"}}}, "spec"),
    "automated sync turned off": ({"spec": {"syncPolicy": {"automated": None}}}, "spec"),
    "an operation": ({"operation": {"sync": {"revision": "evil"}}}, "operation"),
    "another status": ({"status": {"sync": {"status": "OutOfSync"}}}, "status"),
    "no status": ({"status": None}, "status"),
    "a refresh beside another source": (
        {**annotated(**{REFRESH: "normal"}), "spec": {"source": {"path": "evil"}}},
        "spec",
    ),
    "a label": ({"metadata": {"labels": {"argocd.argoproj.io/instance": "root"}}}, "labels"),
    "no labels": ({"metadata": {"labels": None}}, "labels"),
    "no finalizers": ({"metadata": {"finalizers": None}}, "finalizers"),
    "an owner": (
        {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]}},
        "owners",
    ),
    "another annotation": (annotated(**{"notifications.argoproj.io/subscribe.on-sync.webhook": "evil"}), "annotation"),
    "an annotation with another value": (annotated(**{"argocd.argoproj.io/sync-wave": "-5"}), "annotation"),
    "an annotation removed": (annotated(**{"argocd.argoproj.io/sync-wave": None}), "annotation"),
    "all annotations removed": ({"metadata": {"annotations": None}}, "annotation"),
    "a refresh of another kind": (annotated(**{REFRESH: "evil"}), "normal or hard"),
}
"""Patches that the pipeline has no business with, each with a word of the refusal that it must get."""


@pytest.mark.parametrize(("document", "word"), REFUSED.values(), ids=REFUSED)
def test_every_other_change_is_refused(pipeline: KubeApi, document: object, word: str) -> None:
    """The admission policy refuses it, says why, and not for want of a right."""
    said = refusal(patch(pipeline, document))
    assert POLICY in said
    assert word in said


def test_other_forms_of_a_patch_are_bound_as_well(pipeline: KubeApi) -> None:
    """A JSON patch and a server-side apply reach the same refusal as a merge patch."""
    replaced = [{"op": "replace", "path": "/spec/project", "value": "root"}]
    assert POLICY in refusal(patch(pipeline, replaced, _JSON))
    applied = {**APPLICATIONS[NAME], "spec": {**APPLICATIONS[NAME]["spec"], "project": "root"}}
    query = "?fieldManager=evil&force=true"
    assert POLICY in refusal(patch(pipeline, applied, _APPLY, query=query))


@pytest.mark.parametrize("name", sorted(set(APPLICATIONS) - {"iris-classifier", "wine-quality"}))
def test_no_other_application_can_be_read_or_refreshed(pipeline: KubeApi, name: str) -> None:
    """Root, the accounts' Applications and the platform's are out of reach, even for a refresh."""
    for reply in (patch(pipeline, annotated(**{REFRESH: "normal"}), name=name), pipeline.get(path_of(name))):
        assert f'applications.argoproj.io "{name}" is forbidden' in refusal(reply)


def test_the_policy_binds_the_pipeline_alone(pipeline: KubeApi, api_server: ApiServer) -> None:
    """Argo CD and administrators go on to change what they like."""
    changed = [f"--patch={{'spec': {{'project': '{name}'}}}}".replace("'", '"') for name in ("access", "models")]
    for each in changed:
        api_server.admin.run("patch", "application", "wine-quality", "--namespace=argocd", "--type=merge", each)

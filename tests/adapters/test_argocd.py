"""Argo CD's Applications: which requests are made, and what each kind of answer means."""

import re
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from orchestration.adapters.argocd import ArgoCDApplications
from orchestration.promotion.cluster_status import ApplicationSource
from orchestration.promotion.problems import DependencyError
from orchestration.promotion.rights import Right
from tests.adapters.kubeconfigs import write_kubeconfig
from tests.adapters.test_clusters import status

ANY_PATH = re.compile("/")
APPLICATION = "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications/iris-classifier"


@pytest.fixture
def argocd(httpserver: HTTPServer, tmp_path: Path) -> ArgoCDApplications:
    """The adapter, with the scripted server as the API server that holds the Applications."""
    return ArgoCDApplications(write_kubeconfig(tmp_path, httpserver.url_for("").rstrip("/"), "gcp"), "gcp")


def test_an_application_is_read(httpserver: HTTPServer, argocd: ArgoCDApplications) -> None:
    """Sync, revision and health are those of the Application's status."""
    httpserver.expect_request(APPLICATION).respond_with_json(
        {
            "metadata": {"name": "iris-classifier"},
            "spec": {"syncPolicy": {"automated": {}}},
            "status": {"sync": {"status": "Synced", "revision": "a" * 40}, "health": {"status": "Healthy"}},
        }
    )
    application = argocd.application("argocd", "iris-classifier")
    assert application is not None
    sync = (application.sync_status, application.sync_revision)
    assert (*sync, application.health_status) == ("Synced", "a" * 40, "Healthy")
    assert application.auto_sync


def test_an_application_says_what_it_reads_and_where_it_deploys(
    httpserver: HTTPServer, argocd: ArgoCDApplications
) -> None:
    """Source and destination are those of the spec; several sources are none that can be compared."""
    source = {"repoURL": "https://git.example/a.git", "targetRevision": "main", "path": "apps"}
    deployed = [
        {"kind": "Deployment", "namespace": "ml-apps", "name": "iris"},
        {"kind": "Namespace", "name": "ml-apps"},
    ]
    spec = {"source": source, "destination": {"server": "https://edge:6443", "namespace": "ml-apps"}}
    httpserver.expect_oneshot_request(APPLICATION).respond_with_json({"spec": spec, "status": {"resources": deployed}})
    application = argocd.application("argocd", "iris-classifier")
    assert application is not None
    assert application.source == ApplicationSource("https://git.example/a.git", "main", "apps")
    assert application.destination == "https://edge:6443"
    assert application.resources == (("Deployment", "ml-apps", "iris"), ("Namespace", "", "ml-apps"))
    several = {"sources": [source, source], "destination": {"name": "edge"}}
    httpserver.expect_oneshot_request(APPLICATION).respond_with_json({"spec": several})
    application = argocd.application("argocd", "iris-classifier")
    assert application is not None
    assert (application.source, application.destination, application.resources) == (None, "edge", ())


def test_a_right_is_asked_of_the_api_server_with_the_applications(
    httpserver: HTTPServer, argocd: ArgoCDApplications
) -> None:
    """Applications belong to Argo CD's API group, and the right may be one on a single Application."""
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    httpserver.expect_request(path).respond_with_json({"status": {"allowed": True}}, status=201)
    assert argocd.may(Right("patch", "applications", "argoproj.io", namespace="argocd", name="iris"))
    asked = httpserver.log[0][0].json["spec"]["resourceAttributes"]
    assert (asked["group"], asked["name"]) == ("argoproj.io", "iris")


def test_a_missing_application_is_none(httpserver: HTTPServer, argocd: ArgoCDApplications) -> None:
    """Only the API server's own 404 means that the Application does not exist; a missing resource type is an error."""
    httpserver.expect_oneshot_request(APPLICATION).respond_with_json(status(404, "NotFound"), status=404)
    assert argocd.application("argocd", "iris-classifier") is None
    httpserver.expect_oneshot_request(APPLICATION).respond_with_data("404 page not found", 404)
    with pytest.raises(DependencyError, match="HTTP 404"):
        argocd.application("argocd", "iris-classifier")


@pytest.mark.parametrize(("hard", "word"), [(False, "normal"), (True, "hard")])
def test_a_refresh_is_a_merge_patch_of_one_annotation(
    httpserver: HTTPServer, argocd: ArgoCDApplications, hard: bool, word: str
) -> None:
    """The patch has the annotation and nothing else, so it cannot overwrite anything."""
    httpserver.expect_request(
        APPLICATION,
        method="PATCH",
        headers={"Content-Type": "application/merge-patch+json"},
        json={"metadata": {"annotations": {"argocd.argoproj.io/refresh": word}}},
    ).respond_with_json({})
    argocd.refresh("argocd", "iris-classifier", hard=hard)
    assert len(httpserver.log) == 1


def test_a_conflict_is_asked_again_by_the_caller(httpserver: HTTPServer, argocd: ArgoCDApplications) -> None:
    """A refresh may be dropped anyway, so a 409 is not an error (argo-cd#28306)."""
    httpserver.expect_request(APPLICATION).respond_with_json(status(409, "Conflict"), status=409)
    argocd.refresh("argocd", "iris-classifier")


@pytest.mark.parametrize("code", [401, 403, 404, 422, 500, 503])
def test_a_refused_refresh_is_an_error_and_sent_once(
    httpserver: HTTPServer, argocd: ArgoCDApplications, code: int
) -> None:
    """Missing rights, a missing Application and failures are reported, and a write is not repeated."""
    httpserver.expect_request(APPLICATION).respond_with_json(status(code, "No"), status=code)
    with pytest.raises(DependencyError):
        argocd.refresh("argocd", "iris-classifier")
    assert len(httpserver.log) == 1


@pytest.mark.parametrize(("code", "body"), [(200, "<html>"), (401, "{}"), (403, "{}"), (500, "x")])
def test_garbage_and_refusals_are_errors(
    httpserver: HTTPServer, argocd: ArgoCDApplications, code: int, body: str
) -> None:
    """Garbage and refusals never count as an Application that does not exist."""
    httpserver.expect_request(ANY_PATH).respond_with_data(body, code)
    with pytest.raises(DependencyError, match=f"HTTP {code}"):
        argocd.application("argocd", "iris-classifier")


def test_the_api_server_that_holds_the_applications_is_asked_itself(
    httpserver: HTTPServer, argocd: ArgoCDApplications
) -> None:
    """Argo CD is ready when /readyz says so."""
    httpserver.expect_oneshot_request("/readyz").respond_with_data("ok")
    argocd.ready()
    httpserver.expect_oneshot_request("/readyz").respond_with_data("no", 500)
    with pytest.raises(DependencyError):
        argocd.ready()

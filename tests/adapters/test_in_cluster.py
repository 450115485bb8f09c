"""A pod's own cluster: the service account's token and authority, as Kubernetes mounts and replaces them."""

import datetime as real
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kubernetes.config import incluster_config
from pytest_httpserver import HTTPServer

from orchestration.adapters.argocd import ArgoCDApplications
from orchestration.adapters.clusters import KubernetesCluster
from orchestration.adapters.kube_api import IN_CLUSTER, OWN_SERVER
from orchestration.environment import platform_from_environment
from orchestration.promotion.problems import DependencyError, InvalidInputError
from tests.adapters.kubeconfigs import write_kubeconfig
from tests.adapters.pod import in_a_pod

NODES = "/api/v1/nodes"


@pytest.fixture
def account(tmp_path: Path) -> Path:
    """Provide the folder in which a pod finds its service account."""
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    return folder


@pytest.fixture
def api(account: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    """Provide the API server of the pod's cluster, which has no nodes."""
    with in_a_pod(account, monkeypatch) as server:
        server.expect_request(NODES).respond_with_json({"items": []})
        yield server


def tokens(api: HTTPServer) -> list[str]:
    return [request.headers["Authorization"].partition(" ")[2] for request, _ in api.log]


def test_the_pods_own_account_logs_in(api: HTTPServer) -> None:
    """Its token goes to the address that Kubernetes puts into each container's environment, over TLS that it trusts."""
    assert KubernetesCluster(None, IN_CLUSTER).nodes() == ()
    assert tokens(api) == ["first"]


def test_a_token_that_was_replaced_on_disk_is_used(
    api: HTTPServer, account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubernetes replaces it before it expires, under a client that lives on, which reads it again each minute."""
    cluster = KubernetesCluster(None, IN_CLUSTER)
    cluster.nodes()
    (account / "token").write_text("second")
    _pass_time(monkeypatch, real.timedelta(seconds=61))
    cluster.nodes()
    assert tokens(api) == ["first", "second"]


def test_the_token_is_in_no_error(api: HTTPServer) -> None:
    """A server that repeats the token is not quoted with it, and the next step leads to the account."""
    refusal = {"kind": "Status", "apiVersion": "v1", "message": "who is first?"}
    api.clear_all_handlers()
    api.expect_request(NODES).respond_with_json(refusal, 401)
    with pytest.raises(DependencyError, match="Renew the login of the pod's service account") as caught:
        KubernetesCluster(None, IN_CLUSTER).nodes()
    assert "first" not in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda account, environment: environment.delenv("KUBERNETES_SERVICE_HOST"), "Service host/port is not set"),
        (lambda account, environment: (account / "token").unlink(), "token file does not exist"),
        (lambda account, environment: (account / "token").write_text(""), "Token file exists but empty"),
    ],
)
def test_a_process_without_an_account_is_told(
    api: HTTPServer,
    account: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path, pytest.MonkeyPatch], object],
    found: str,
) -> None:
    """It runs in no pod, or in one whose token is not mounted."""
    spoil(account, monkeypatch)
    with pytest.raises(InvalidInputError, match=f"context in-cluster: .*{found}.*automountServiceAccountToken"):
        KubernetesCluster(None, IN_CLUSTER).nodes()
    assert not api.log


def test_the_settings_choose_by_the_contexts_name(
    api: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Argo CD is asked in the pod's own cluster, and edge by the kubeconfig, which only edge needs."""
    monkeypatch.setenv("INCUMBENT_ARGOCD_CONTEXT", IN_CLUSTER)
    monkeypatch.delenv("INCUMBENT_KUBECONFIG", raising=False)
    api.expect_request("/readyz").respond_with_data("ok")
    platform = platform_from_environment()
    platform.argocd().ready()
    assert platform.contexts() == {IN_CLUSTER: OWN_SERVER}
    with pytest.raises(InvalidInputError, match="INCUMBENT_KUBECONFIG"):
        platform.cluster("edge")
    monkeypatch.setenv("INCUMBENT_KUBECONFIG", str(write_kubeconfig(tmp_path, "https://edge:6550")))
    platform = platform_from_environment()
    assert platform.contexts() == {"edge": "https://edge:6550", IN_CLUSTER: OWN_SERVER}
    assert str(platform.cluster("edge")) == "Kubernetes API of context edge"


def test_an_application_is_refreshed_by_the_pods_account(api: HTTPServer) -> None:
    """Argo CD's Applications are read and annotated with the pod's token as with any other."""
    path = "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications/iris"
    api.expect_request(path, method="PATCH").respond_with_json({})
    ArgoCDApplications(None, IN_CLUSTER).refresh("argocd", "iris")
    ((request, _),) = api.log
    assert json.loads(request.data)["metadata"]["annotations"] == {"argocd.argoproj.io/refresh": "normal"}
    assert tokens(api) == ["first"]


def _pass_time(monkeypatch: pytest.MonkeyPatch, elapsed: real.timedelta) -> None:
    """Let the Kubernetes client believe that this much time has passed."""

    class Later(real.datetime):
        @classmethod
        def now(cls, tz: real.tzinfo | None = None) -> "Later":
            return cls.fromtimestamp((real.datetime.now(tz) + elapsed).timestamp(), tz)

    class Module:
        datetime, timedelta = Later, real.timedelta

    monkeypatch.setattr(incluster_config, "datetime", Module)

"""The serving cluster: which requests the adapter makes, and what each kind of answer means."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from orchestration.adapters.clusters import KubernetesCluster, label_selector
from orchestration.adapters.kube_api import servers_of_contexts
from orchestration.adapters.service import HttpService
from orchestration.promotion.cluster_status import ClusterService, ServicePort
from orchestration.promotion.policy import HeaderFile
from orchestration.promotion.ports import Headers
from orchestration.promotion.problems import DependencyError, InvalidInputError
from orchestration.promotion.rights import Right
from tests.adapters.kubeconfigs import TOKEN, write_kubeconfig
from tests.adapters.test_service import raw_server

ANY_PATH = re.compile("/")
DEPLOYMENT = "/apis/apps/v1/namespaces/ml-apps/deployments/iris-classifier"


def status(code: int, reason: str) -> dict[str, Any]:
    """Return an error body as the API server writes it."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "code": code,
        "message": reason,
    }


@pytest.fixture
def cluster(httpserver: HTTPServer, tmp_path: Path) -> KubernetesCluster:
    """The adapter, with the scripted server as its API server."""
    return KubernetesCluster(write_kubeconfig(tmp_path, httpserver.url_for("").rstrip("/")), "edge")


def test_a_ready_cluster_passes(httpserver: HTTPServer, cluster: KubernetesCluster) -> None:
    """The request for /readyz carries the kubeconfig's token."""
    httpserver.expect_request("/readyz").respond_with_data("ok")
    cluster.ready()
    assert httpserver.log[0][0].headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("code", [401, 403, 404, 500, 503])
def test_a_cluster_that_is_not_ready_is_an_error(httpserver: HTTPServer, cluster: KubernetesCluster, code: int) -> None:
    """Any other answer than ok gives an error that names the context and the next step, and shows no token."""
    httpserver.expect_request("/readyz").respond_with_data(f"[-]etcd failed, Bearer {TOKEN}", code)
    with pytest.raises(DependencyError, match=f"context edge.*HTTP {code}") as caught:
        cluster.ready()
    assert TOKEN not in str(caught.value)
    assert len(httpserver.log) == (3 if code == 503 else 1)


def test_a_deployment_is_read_with_all_that_belongs_to_it(httpserver: HTTPServer, cluster: KubernetesCluster) -> None:
    """Deployment, ReplicaSets, pods by the Deployment's selector, and the pods' warnings take four requests."""
    pod = {
        "metadata": {
            "name": "iris-1",
            "uid": "u",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"kind": "ReplicaSet", "uid": "rs", "controller": True}],
        },
        "status": {"phase": "Pending"},
    }
    event = {
        "involvedObject": {"kind": "Pod", "name": "iris-1"},
        "type": "Warning",
        "reason": "Failed",
        "message": "no such image",
    }
    httpserver.expect_request(DEPLOYMENT).respond_with_json(
        {
            "metadata": {"name": "iris-classifier", "namespace": "ml-apps", "generation": 3, "uid": "d"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "iris-classifier", "tier": "a/b"}}},
        }
    )
    selector = {"labelSelector": "app=iris-classifier,tier=a/b", "limit": "500"}
    warnings = {"fieldSelector": "involvedObject.kind=Pod,type=Warning", "limit": "500"}
    replicaset = {
        "metadata": {"uid": "rs", "ownerReferences": [{"kind": "Deployment", "uid": "d", "controller": True}]}
    }
    for path, query, items in (
        ("/apis/apps/v1/namespaces/ml-apps/replicasets", selector, [replicaset]),
        ("/api/v1/namespaces/ml-apps/pods", selector, [pod]),
        ("/api/v1/namespaces/ml-apps/events", warnings, [event]),
    ):
        httpserver.expect_request(path, query_string=query).respond_with_json({"items": items})
    workload = cluster.workload("Deployment", "ml-apps", "iris-classifier")
    assert workload is not None
    assert (workload.generation, workload.wanted) == (3, 2)
    assert [pod.name for pod in workload.pods] == ["iris-1"]
    assert "no such image" in workload.pods[0].warnings[0]
    assert len(httpserver.log) == 4


def test_a_missing_deployment_is_none(httpserver: HTTPServer, cluster: KubernetesCluster) -> None:
    """Only the API server's own 404 means that the Deployment does not exist."""
    httpserver.expect_request(DEPLOYMENT).respond_with_json(status(404, "NotFound"), status=404)
    assert cluster.workload("Deployment", "ml-apps", "iris-classifier") is None
    httpserver.clear()
    httpserver.expect_request(DEPLOYMENT).respond_with_data("404 page not found", 404)
    with pytest.raises(DependencyError):
        cluster.workload("Deployment", "ml-apps", "iris-classifier")


def test_a_deployment_that_selects_everything_is_refused(httpserver: HTTPServer, cluster: KubernetesCluster) -> None:
    """Without labels all pods of the namespace would be read."""
    httpserver.expect_request(DEPLOYMENT).respond_with_json({"spec": {"selector": {}}})
    with pytest.raises(DependencyError, match="a selector that names no label"):
        cluster.workload("Deployment", "ml-apps", "iris-classifier")


@pytest.mark.parametrize("name", ["", "..", "."])
def test_names_that_are_folders_are_refused(cluster: KubernetesCluster, name: str) -> None:
    """No name can turn into another path of the API."""
    with pytest.raises(InvalidInputError):
        cluster.workload("Deployment", "ml-apps", name)


def test_other_kinds_are_refused(cluster: KubernetesCluster) -> None:
    """A kind that cannot be judged is the policy's fault."""
    with pytest.raises(InvalidInputError, match=r"kind CronJob cannot be judged.*manifest\.kind"):
        cluster.workload("CronJob", "ml-apps", "iris-classifier")


OWN: dict[str, Any] = {
    "metadata": {"name": "iris", "namespace": "ml-apps", "generation": 1, "uid": "own"},
    "spec": {"selector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["iris", "iris2"]}]}},
    "status": {"observedGeneration": 1, "currentPodHash": "h"},
}


@pytest.mark.parametrize(
    ("kind", "path", "revisions"),
    [
        ("StatefulSet", "/apis/apps/v1/namespaces/ml-apps/statefulsets/iris", None),
        ("DaemonSet", "/apis/apps/v1/namespaces/ml-apps/daemonsets/iris", "controllerrevisions"),
        ("Rollout", "/apis/argoproj.io/v1alpha1/namespaces/ml-apps/rollouts/iris", "replicasets"),
    ],
)
def test_each_kind_is_read_with_its_own_revisions(
    httpserver: HTTPServer, cluster: KubernetesCluster, kind: str, path: str, revisions: str | None
) -> None:
    """A kind is asked of its own API, and what keeps its templates is listed by the workload's selector."""
    httpserver.expect_request(path).respond_with_json(OWN)
    selected = {"labelSelector": "app in (iris,iris2)", "limit": "500"}
    lists = ["/api/v1/namespaces/ml-apps/pods"]
    lists += [f"/apis/apps/v1/namespaces/ml-apps/{revisions}"] if revisions else []
    for each in lists:
        httpserver.expect_request(each, query_string=selected).respond_with_json({"items": []})
    httpserver.expect_request("/api/v1/namespaces/ml-apps/events").respond_with_json({"items": []})
    workload = cluster.workload(kind, "ml-apps", "iris")
    assert workload is not None
    assert str(workload) == f"{kind} ml-apps/iris"
    assert len(httpserver.log) == 2 + len(lists)


@pytest.mark.parametrize(("owner", "found"), [("own", "iris"), ("another", None)])
def test_an_inference_service_is_read_through_the_deployment_that_it_controls(
    httpserver: HTTPServer, cluster: KubernetesCluster, owner: str, found: str | None
) -> None:
    """Its Deployment is found by its name and believed by its controller: someone else's is not its own."""
    owners = [{"uid": owner, "controller": True}]
    metadata = {"name": "iris-predictor", "namespace": "ml-apps", "ownerReferences": owners}
    pod_spec = {"containers": [{"name": "kserve-container", "image": "iris"}]}
    spec = {"selector": {"matchLabels": {"app": "x"}}, "replicas": 2, "template": {"spec": pod_spec}}
    service = "/apis/serving.kserve.io/v1beta1/namespaces/ml-apps/inferenceservices/iris"
    httpserver.expect_request(service).respond_with_json(OWN)
    httpserver.expect_request("/apis/apps/v1/namespaces/ml-apps/deployments/iris-predictor").respond_with_json(
        {"metadata": metadata, "spec": spec}
    )
    for group, listed in (("/apis/apps/v1", "replicasets"), ("/api/v1", "pods"), ("/api/v1", "events")):
        httpserver.expect_request(f"{group}/namespaces/ml-apps/{listed}").respond_with_json({"items": []})
    workload = cluster.workload("InferenceService", "ml-apps", "iris")
    assert workload is not None
    assert str(workload) == "InferenceService ml-apps/iris"
    assert workload.images.get("kserve-container") == found
    assert "no Deployment" in (workload.unfinished or "") or found


def test_long_lists_are_read_page_by_page(httpserver: HTTPServer, cluster: KubernetesCluster) -> None:
    """All pages are read, and a list whose continuation expired (410) is read once more from the beginning."""
    expired = [True]

    def nodes(request: Request) -> Response:
        following = request.args.get("continue")
        if following is None:
            return _json({"metadata": {"continue": "a&b"}, "items": [_node("one")]})
        if expired.pop() if expired else False:
            return _json(status(410, "Expired"), 410)
        assert following == "a&b"
        return _json({"metadata": {}, "items": [_node("two")]})

    httpserver.expect_request("/api/v1/nodes").respond_with_handler(nodes)
    assert [node.name for node in cluster.nodes()] == ["one", "two"]
    assert cluster.nodes()[0].architecture == "arm64"


def test_a_list_that_never_ends_is_an_error(httpserver: HTTPServer, cluster: KubernetesCluster) -> None:
    """A server that always names another page cannot keep the adapter busy for ever."""
    httpserver.expect_request("/api/v1/nodes").respond_with_json({"metadata": {"continue": "x"}, "items": []})
    with pytest.raises(DependencyError, match="pages"):
        cluster.nodes()


def _node(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"kubernetes.io/arch": "arm64"}}}


def _json(document: object, code: int = 200) -> Response:
    return Response(json.dumps(document), code, {"Content-Type": "application/json"})


@pytest.mark.parametrize(("code", "body"), [(200, "<html>"), (200, "[]"), (500, "x"), (401, "{}"), (403, "{}")])
def test_garbage_and_refusals_are_errors(
    httpserver: HTTPServer, cluster: KubernetesCluster, code: int, body: str
) -> None:
    """An answer without a list is never an empty list."""
    httpserver.expect_request(ANY_PATH).respond_with_data(body, code)
    with pytest.raises(DependencyError, match=f"HTTP {code}"):
        cluster.nodes()
    with pytest.raises(DependencyError, match=f"HTTP {code}"):
        cluster.workload("Deployment", "ml-apps", "iris-classifier")


def test_a_transient_failure_is_asked_again(httpserver: HTTPServer, cluster: KubernetesCluster) -> None:
    """An API server that restarts behind its load balancer does not end a promotion."""
    httpserver.expect_oneshot_request("/readyz").respond_with_data("", 502)
    httpserver.expect_request("/readyz").respond_with_data("ok")
    cluster.ready()


def test_log_lines_are_the_containers_own(httpserver: HTTPServer, cluster: KubernetesCluster) -> None:
    """The last lines of the named container's log are read, or those of its previous life, without passwords."""
    httpserver.expect_request(
        "/api/v1/namespaces/ml-apps/pods/iris-1/log",
        query_string={"container": "model-server", "tailLines": "5", "limitBytes": "262144", "previous": "true"},
    ).respond_with_data("a\npassword=hunter22 \xff\n")
    text = cluster.log_tail("ml-apps", "iris-1", "model-server", previous=True, lines=5)
    assert text.startswith("a\n")
    assert "hunter22" not in text


def test_a_log_that_is_cut_ends_with_a_whole_line(httpserver: HTTPServer, cluster: KubernetesCluster) -> None:
    """The API server stops at the limit, maybe within a secret, of which half would not be recognised."""
    lines = b"started\n" + b"x" * (256 * 1024 - 8)
    httpserver.expect_request(ANY_PATH).respond_with_data(lines)
    assert cluster.log_tail("ml-apps", "iris-1", "model-server", previous=False) == "started\n"


def test_pods_and_their_events_are_chosen_by_the_api_server(httpserver: HTTPServer, cluster: KubernetesCluster) -> None:
    """By selectors, so that a namespace may have any number of pods; what comes back is as the server wrote it."""
    pod, event = {"metadata": {"name": "iris-1"}}, {"reason": "BackOff"}
    for path, query, item in (
        ("pods", {"fieldSelector": "metadata.name=iris-1", "limit": "500"}, pod),
        ("pods", {"labelSelector": "app=iris", "limit": "500"}, pod),
        ("events", {"fieldSelector": "involvedObject.kind=Pod,involvedObject.name=iris-1", "limit": "500"}, event),
    ):
        request = httpserver.expect_request(f"/api/v1/namespaces/ml-apps/{path}", query_string=query)
        request.respond_with_json({"kind": "List", "items": [item]})
    assert cluster.pods("ml-apps", fields="metadata.name=iris-1") == (pod,)
    assert cluster.pods("ml-apps", labels="app=iris") == (pod,)
    assert cluster.pod_events("ml-apps", "iris-1") == (event,)


@pytest.mark.parametrize(("code", "reason"), [(400, "BadRequest"), (404, "NotFound")])
def test_a_container_without_log_has_an_empty_one(
    httpserver: HTTPServer, cluster: KubernetesCluster, code: int, reason: str
) -> None:
    """A waiting container, or a pod that is gone, has an empty log; anything else is an error."""
    httpserver.expect_request(ANY_PATH).respond_with_json(status(code, reason), status=code)
    assert cluster.log_tail("ml-apps", "iris-1", "model-server", previous=False) == ""
    httpserver.clear()
    httpserver.expect_request(ANY_PATH).respond_with_data("", 500)
    with pytest.raises(DependencyError):
        cluster.log_tail("ml-apps", "iris-1", "model-server", previous=False)


def test_a_pod_without_a_node_has_an_empty_log(httpserver: HTTPServer, cluster: KubernetesCluster) -> None:
    """The API server answers 204, without a body, for a pod that is not on a node yet."""
    httpserver.expect_request(ANY_PATH).respond_with_data("", 204)
    assert cluster.log_tail("ml-apps", "iris-1", "model-server", previous=False) == ""


def ask(cluster: KubernetesCluster, timeout: float = 5) -> Any:
    """Send a recorded request to one pod."""
    body = b'{"features": [5.1, 3.5, 1.4, 0.2]}'
    return cluster.ask_pod("ml-apps", "iris-1", 8080, "/predict", body, {"X-Incumbent-Replay": "1"}, timeout)


def test_a_pod_is_asked_through_the_proxy(httpserver: HTTPServer, cluster: KubernetesCluster) -> None:
    """Body and headers reach the pod, and its answer comes back as the model's, whatever the status is."""
    httpserver.expect_request(
        "/api/v1/namespaces/ml-apps/pods/iris-1:8080/proxy/predict",
        method="POST",
        json={"features": [5.1, 3.5, 1.4, 0.2]},
        headers={"X-Incumbent-Replay": "1"},
    ).respond_with_data('{"detail": "kind of wrong"}', 500)
    answer = ask(cluster)
    assert (answer.status, answer.body, answer.from_api) == (500, b'{"detail": "kind of wrong"}', False)
    assert len(httpserver.log) == 1


@pytest.mark.parametrize(
    "path", ["/predict?explain=false", "/v1/models/iris:predict", "/m/%C3%A9t%C3%A9", "/a%20b?q=a%2Bb%20c", "/"]
)
def test_path_and_query_reach_the_pod_as_they_are(
    httpserver: HTTPServer, cluster: KubernetesCluster, path: str
) -> None:
    """Nothing is escaped twice, and the query stays one: it asks for the same as the service's address."""
    httpserver.expect_request(ANY_PATH).respond_with_data("{}")
    cluster.ask_pod("ml-apps", "iris-1", 8080, path, b"{}", {}, 5)
    HttpService().ask(httpserver.url_for("/").rstrip("/") + path, b"{}", {}, 5)
    by_proxy, direct = (request.environ["RAW_URI"] for request, _ in httpserver.log)
    assert by_proxy == f"/api/v1/namespaces/ml-apps/pods/iris-1:8080/proxy{path}"
    assert direct == path


def test_the_policys_headers_reach_the_pod(httpserver: HTTPServer, cluster: KubernetesCluster, tmp_path: Path) -> None:
    """Host and secret values do; Authorization stays the login at the API server."""
    for name in ("key", "login"):
        (tmp_path / name).write_text(f"Bearer {name}-of-the-model\n")
    headers: Headers = {"Host": "iris.example", "X-Key": HeaderFile(file=str(tmp_path / "key"))}
    httpserver.expect_request(ANY_PATH).respond_with_data("seen key-of-the-model", content_type="Text/Plain; charset=a")
    login: Headers = {"Authorization": HeaderFile(file=str(tmp_path / "login"))}
    answer = cluster.ask_pod("ml-apps", "iris-1", 8080, "/predict", b"{}", {**headers, **login}, 5)
    sent = httpserver.log[0][0].headers
    assert (sent["Host"], sent["X-Key"]) == ("iris.example", "Bearer key-of-the-model")
    assert sent.get_all("Authorization") == [f"Bearer {TOKEN}"]
    assert (answer.body, answer.content_type) == (b"seen ***", "text/plain")


def test_an_answer_may_be_compressed(httpserver: HTTPServer, cluster: KubernetesCluster) -> None:
    """What is compared is the content, by whichever way it came."""
    body = gzip.compress(b'{"prediction": NaN}')
    httpserver.expect_request(ANY_PATH).respond_with_data(body, headers={"Content-Encoding": "gzip"})
    assert ask(cluster).body == HttpService().ask(httpserver.url_for("/p"), b"{}", {}, 5).body == b'{"prediction": NaN}'


@pytest.mark.parametrize("status", ["200 OK", "401 Unauthorized"])
@pytest.mark.parametrize(
    ("header", "seconds"),
    [("Date: Thu, 26 Nov 2026 08:00:00 GMT\r\n", 1795680000.0), ("Date: soon\r\n", None), ("", None)],
)
def test_an_api_server_tells_its_time(tmp_path: Path, status: str, header: str, seconds: float | None) -> None:
    """Whatever else it answers; without the header, or with one that nobody can read, the time is not known."""
    head = f"HTTP/1.1 {status}\r\n{header}Content-Length: 2\r\n\r\nok".encode()
    with raw_server(head) as url:
        assert KubernetesCluster(write_kubeconfig(tmp_path, url), "edge").server_time() == seconds


SERVICES = "/api/v1/namespaces/ml-apps/services"


def test_services_are_read_with_their_ports(httpserver: HTTPServer, cluster: KubernetesCluster) -> None:
    """What selects which pods, and where it leads."""
    ports = [{"port": 80, "targetPort": "http", "nodePort": 30808}]
    iris = {"metadata": {"name": "iris"}, "spec": {"selector": {"app": "iris"}, "ports": ports}}
    httpserver.expect_request(SERVICES).respond_with_json({"items": [iris]})
    expected = ClusterService("iris", {"app": "iris"}, (ServicePort(80, "http", 30808),))
    assert cluster.services("ml-apps") == (expected,)


def test_services_that_may_not_be_listed_are_not_known(httpserver: HTTPServer, cluster: KubernetesCluster) -> None:
    """An account without that right gets along without; any other failure is an error."""
    httpserver.expect_oneshot_request(SERVICES).respond_with_json(status(403, "Forbidden"), status=403)
    assert cluster.services("ml-apps") is None
    for code in (401, 500):
        httpserver.expect_oneshot_request(SERVICES).respond_with_json(status(code, "Failed"), status=code)
        with pytest.raises(DependencyError):
            cluster.services("ml-apps")


@pytest.mark.parametrize(("code", "reason"), [(404, "NotFound"), (503, "ServiceUnavailable")])
def test_the_api_servers_errors_are_distinguished_from_the_models(
    httpserver: HTTPServer, cluster: KubernetesCluster, code: int, reason: str
) -> None:
    """A `kind: Status` body comes from the API server and is never the model's fault; the request is not repeated."""
    httpserver.expect_request(ANY_PATH).respond_with_json(status(code, reason), status=code)
    answer = ask(cluster)
    assert (answer.status, answer.from_api) == (code, True)
    assert len(httpserver.log) == 1


@pytest.mark.parametrize(
    ("code", "reason", "next_step"),
    [(401, "Unauthorized", "Renew the login of context edge"), (403, "Forbidden", "docs/architecture.md")],
)
def test_a_refused_question_to_a_pod_is_an_error(
    httpserver: HTTPServer, cluster: KubernetesCluster, code: int, reason: str, next_step: str
) -> None:
    """The error for a missing right or an invalid token has the API server's message and the next step."""
    httpserver.expect_request(ANY_PATH).respond_with_json(status(code, reason), status=code)
    with pytest.raises(DependencyError, match=rf"HTTP {code}: .*{next_step}"):
        ask(cluster)
    assert len(httpserver.log) == 1


REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@pytest.mark.parametrize("allowed", [True, False])
def test_a_right_is_asked_of_the_api_server(httpserver: HTTPServer, cluster: KubernetesCluster, allowed: bool) -> None:
    """The review names verb, kind, part and namespace, and its answer is the API server's own."""
    pods = {"resource": "pods", "group": "", "subresource": "proxy", "namespace": "ml-apps", "name": ""}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "create", **pods}},
    }
    httpserver.expect_request(REVIEW, method="POST", json=review).respond_with_json(
        {"status": {"allowed": allowed}}, status=201
    )
    assert cluster.may(Right("create", "pods", subresource="proxy", namespace="ml-apps")) is allowed


@pytest.mark.parametrize(("code", "body"), [(403, "{}"), (404, "{}"), (405, "no"), (201, "{}"), (201, "<html>")])
def test_an_api_server_may_not_tell_about_rights(
    httpserver: HTTPServer, cluster: KubernetesCluster, code: int, body: str
) -> None:
    """An account that may not ask, and an answer without a result, mean that the right is not known."""
    httpserver.expect_request(REVIEW).respond_with_data(body, code, content_type="application/json")
    assert cluster.may(Right("list", "nodes")) is None


def test_a_refused_login_is_not_a_missing_right(httpserver: HTTPServer, cluster: KubernetesCluster) -> None:
    """A token that is not accepted is an error, whose next step is to renew it."""
    httpserver.expect_request(REVIEW).respond_with_json(status(401, "Unauthorized"), status=401)
    with pytest.raises(DependencyError, match="Renew the login"):
        cluster.may(Right("list", "nodes"))


OBJECT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "iris-classifier", "namespace": "ml-apps"},
}
DRY_RUN = "dryRun=All&fieldManager=incumbent"


@pytest.mark.parametrize(
    ("server_side", "query", "kind"),
    [(True, f"{DRY_RUN}&force=true", "apply-patch+yaml"), (False, DRY_RUN, "merge-patch+json")],
)
def test_a_dry_run_applies_as_argo_cd_does(
    httpserver: HTTPServer, cluster: KubernetesCluster, server_side: bool, query: str, kind: str
) -> None:
    """It keeps nothing, takes over what others manage, and has the API server treat unknown fields as usual."""
    headers = {"Content-Type": f"application/{kind}"}
    httpserver.expect_request(
        DEPLOYMENT, method="PATCH", query_string=query, headers=headers, json=OBJECT
    ).respond_with_json(OBJECT)
    assert cluster.try_to_apply("deployments", OBJECT, server_side=server_side) is None


def test_a_refusal_does_not_repeat_the_live_object(httpserver: HTTPServer, cluster: KubernetesCluster) -> None:
    """The API server quotes it when it cannot decode a patch, with the values of all variables."""
    quoted = json.dumps(json.dumps({**OBJECT, "spec": {"env": [{"name": "A", "value": "hidden"}]}}))
    message = f' "" is invalid: patch: Invalid value: {quoted}: json: cannot unmarshal string'
    body = {**status(422, "Invalid"), "message": message}
    httpserver.expect_request(DEPLOYMENT, method="PATCH").respond_with_json(body, status=422)
    said = cluster.try_to_apply("deployments", OBJECT, server_side=False)
    assert said == '"" is invalid: patch: Invalid value: {...}: json: cannot unmarshal string'


@pytest.mark.parametrize("code", [400, 403, 404, 422])
def test_a_refused_dry_run_has_the_api_servers_words(
    httpserver: HTTPServer, cluster: KubernetesCluster, code: int
) -> None:
    """On one line, and without the login."""
    body = {**status(code, "Invalid"), "message": f"denied the request:\n  no {TOKEN}"}
    httpserver.expect_request(DEPLOYMENT, method="PATCH").respond_with_json(body, status=code)
    said = cluster.try_to_apply("deployments", OBJECT, server_side=False)
    assert said is not None
    assert said.startswith("denied the request: no ")
    assert TOKEN not in said


@pytest.mark.parametrize(
    ("code", "body"), [(500, None), (409, None), (401, None), (403, "no"), (404, "no"), (503, "no")]
)
def test_a_dry_run_without_a_verdict_is_an_error(
    httpserver: HTTPServer, cluster: KubernetesCluster, code: int, body: str | None
) -> None:
    """A webhook that is down, a proxy's page and a refused login say nothing about the object."""
    text = body or json.dumps(status(code, "InternalError"))
    httpserver.expect_request(DEPLOYMENT, method="PATCH").respond_with_data(text, code)
    with pytest.raises(DependencyError, match=f"HTTP {code}"):
        cluster.try_to_apply("deployments", OBJECT, server_side=False)


@pytest.mark.parametrize(("api", "path"), [("apps/v1", "/openapi/v3/apis/apps/v1"), ("v1", "/openapi/v3/api/v1")])
def test_schemas_are_those_of_one_api(httpserver: HTTPServer, cluster: KubernetesCluster, api: str, path: str) -> None:
    """They come with one request, and by name."""
    document = {"components": {"schemas": {"Deployment": {"type": "object"}}}}
    httpserver.expect_request(path).respond_with_json(document)
    assert cluster.schemas(api) == {"Deployment": {"type": "object"}}
    assert len(httpserver.log) == 1


@pytest.mark.parametrize("code", [403, 404])
def test_schemas_may_be_missing(httpserver: HTTPServer, cluster: KubernetesCluster, code: int) -> None:
    """An API server that lacks the API, or shows no schemas to this account, has none; any other answer is an error."""
    httpserver.expect_request("/openapi/v3/apis/apps/v1").respond_with_data("404 page not found", code)
    assert cluster.schemas("apps/v1") is None
    httpserver.clear()
    httpserver.expect_request("/openapi/v3/apis/apps/v1").respond_with_data("<html>", 200)
    with pytest.raises(DependencyError, match="the schemas of apps/v1"):
        cluster.schemas("apps/v1")


def test_the_contexts_servers_are_those_of_their_clusters(tmp_path: Path) -> None:
    """Each context has the address of its cluster's API server; a context without one has none."""
    file = tmp_path / "kubeconfig"
    file.write_text(
        "clusters: [{name: c1, cluster: {server: https://one:6443}}]\n"
        "contexts: [{name: edge, context: {cluster: c1, user: u}}, {name: gcp, context: {cluster: c2}}]\n"
    )
    assert servers_of_contexts(file) == {"edge": "https://one:6443", "gcp": ""}


def test_an_api_server_that_is_silent_is_an_error(tmp_path: Path) -> None:
    """A proxy that does not answer in time is the platform's fault."""
    with raw_server() as url, pytest.raises(DependencyError):
        ask(KubernetesCluster(write_kubeconfig(tmp_path, url), "edge"), timeout=0.3)


def test_a_trickle_is_given_up(tmp_path: Path) -> None:
    """Bytes that keep arriving do not extend the time-out."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    with raw_server(head, endless=b"x") as url, pytest.raises(DependencyError, match="trickles"):
        ask(KubernetesCluster(write_kubeconfig(tmp_path, url), "edge"), timeout=0.5)


def test_a_dead_api_server_is_an_error(free_address: str, tmp_path: Path) -> None:
    """The error for a refused connection names the context, and a command that reproduces it."""
    cluster = KubernetesCluster(write_kubeconfig(tmp_path, f"http://{free_address}"), "edge")
    with pytest.raises(DependencyError, match="kubectl --context edge"):
        cluster.ready()


def test_a_server_without_the_right_certificate_is_an_error(tmp_path: Path) -> None:
    """A TLS failure counts as a missing answer."""
    with raw_server(b"no TLS here\r\n") as url:
        cluster = KubernetesCluster(write_kubeconfig(tmp_path, url.replace("http:", "https:")), "edge")
        with pytest.raises(DependencyError):
            cluster.ready()


def test_the_error_for_a_missing_context_lists_the_others(tmp_path: Path) -> None:
    """The error for a misspelt `cluster` in a policy lists the names that exist."""
    cluster = KubernetesCluster(write_kubeconfig(tmp_path, "http://127.0.0.1:1", "gcp"), "edge")
    with pytest.raises(InvalidInputError, match="contexts: gcp"):
        cluster.ready()


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"[",
        b"\xff\xfe",
        b"[]",
        b"contexts: 7",
        b"contexts: [{}]",
        b"contexts: [{name: edge}]",
        b"token: s3cret\n[",
    ],
)
def test_an_unusable_kubeconfig_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """The error names a missing, broken or incomplete file, and shows none of its content."""
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match="kubeconfig") as caught:
        KubernetesCluster(path, "edge").ready()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("selector", "query"),
    [
        ({}, ""),
        ({"matchLabels": {"app": "iris", "tier": "a/b"}}, "app=iris,tier=a/b"),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]}, "app in (a,b)"),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}, "app notin (a)"),
        (
            {
                "matchLabels": {"app": "iris"},
                "matchExpressions": [
                    {"key": "track", "operator": "DoesNotExist"},
                    {"key": "model", "operator": "Exists"},
                ],
            },
            "app=iris,!track,model",
        ),
    ],
)
def test_a_selector_is_written_as_a_query_takes_it(selector: dict[str, Any], query: str) -> None:
    """Labels and all four kinds of expressions are asked for, so that no more pods are read than are selected."""
    assert label_selector(selector) == query

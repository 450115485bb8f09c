"""How the API server refuses: the status, the `kind: Status` body and its wording, for each call of the adapters."""

import re
import time
from dataclasses import dataclass
from typing import Any

import pytest

from orchestration.adapters.kube_api import ApiReply, KubeApi
from tests.contract.place import NAMESPACE, PODS, Place, application_path, deployment_path

MERGE = {"Content-Type": "application/merge-patch+json"}
EVENTS = f"/api/v1/namespaces/{NAMESPACE}/events"
REPLICA_SETS = f"/apis/apps/v1/namespaces/{NAMESPACE}/replicasets"


@dataclass(frozen=True)
class Call:
    """One call of the adapters and the right that it needs."""

    context: str
    method: str
    path: str
    verb: str
    resource: str
    group: str = ""
    namespace: str = NAMESPACE

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"

    def send(self, place: Place, account: str) -> ApiReply:
        api = KubeApi(getattr(place, account), self.context)
        return api.get(self.path) if self.method == "GET" else api.send(self.method, self.path, {}, MERGE)


CALLS = [
    Call("gcp", "GET", application_path("a"), "get", "applications", "argoproj.io", "argocd"),
    Call("gcp", "PATCH", application_path("a"), "patch", "applications", "argoproj.io", "argocd"),
    Call("edge", "GET", deployment_path("a"), "get", "deployments", "apps"),
    Call("edge", "GET", REPLICA_SETS, "list", "replicasets", "apps"),
    Call("edge", "GET", PODS, "list", "pods"),
    Call("edge", "GET", EVENTS, "list", "events"),
    Call("edge", "GET", f"/api/v1/namespaces/{NAMESPACE}/services", "list", "services"),
    Call("edge", "GET", "/api/v1/nodes", "list", "nodes", namespace=""),
    Call("edge", "GET", f"{PODS}/a/log", "get", "pods/log"),
    Call("edge", "POST", f"{PODS}/a:8080/proxy/predict", "create", "pods/proxy"),
    Call("edge", "GET", f"{PODS}/a:8080/proxy/metrics", "get", "pods/proxy"),
]


def failure(reply: ApiReply) -> tuple[int, str | None, str]:
    """Return the code, reason and message of the Status by which the API server itself reports a failure."""
    status = reply.document
    assert reply.is_status, reply
    assert (status["status"], status["code"], status["metadata"]) == ("Failure", reply.status, {})
    return reply.status, status.get("reason"), status["message"]


def test_an_answer_has_the_servers_time(place: Place) -> None:
    """The header `Date`, by which clocks are compared, also for an account that may not ask anything else."""
    for api in (place.gcp, place.edge, KubeApi(place.wrong, "edge")):
        before = time.time()
        at = api.server_time()
        assert at is not None
        assert before - 5 < at < time.time() + 5


@pytest.mark.parametrize("context", ["gcp", "edge"])
def test_a_cluster_that_is_ready_says_ok(place: Place, context: str) -> None:
    """`/readyz` answers in plain text and needs an account, but no rights."""
    for kubeconfig in (place.kubeconfig, place.stranger):
        reply = KubeApi(kubeconfig, context).get("/readyz")
        assert (reply.status, reply.body) == (200, b"ok")


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_an_unknown_token_is_unauthorized(place: Place, call: Call) -> None:
    """A 401 is a Status that reveals nothing about the requested object."""
    assert failure(call.send(place, "wrong")) == (401, "Unauthorized", "Unauthorized")


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_a_forbidden_call_names_the_missing_right(place: Place, call: Call) -> None:
    """A 403 names the user, the verb, the resource with its subresource, the group and the namespace."""
    code, reason, message = failure(call.send(place, "stranger"))
    where = f'in the namespace "{call.namespace}"' if call.namespace else "at the cluster scope"
    right = f'cannot {call.verb} resource "{call.resource}" in API group "{call.group}" {where}'
    assert (code, reason) == (403, "Forbidden")
    assert re.fullmatch(rf'.* is forbidden: User "system:serviceaccount:[\w-]+:stranger" {re.escape(right)}', message)


@pytest.mark.parametrize("call", [call for call in CALLS if call.verb != "list"], ids=str)
def test_a_missing_object_is_not_found(place: Place, call: Call) -> None:
    """A 404 for an object, or for a pod's subresource, is a Status that names it, unlike one for a wrong address."""
    reply = call.send(place, "kubeconfig")
    kind = call.resource.partition("/")[0]
    full = f"{kind}.{call.group}" if call.group else kind
    assert failure(reply) == (404, "NotFound", f'{full} "a" not found')
    group = {"group": call.group} if call.group else {}
    assert reply.document["details"] == {"name": "a", "kind": kind, **group}


def test_an_api_that_is_not_served_has_no_status(place: Place) -> None:
    """A 404 for an unknown API group (its CRD is not installed) is plain text, so it does not say an object is gone."""
    for path in ("/apis/nowhere.io/v1/namespaces/a/things/b", "/nowhere"):
        reply = place.edge.get(path)
        assert (reply.status, reply.is_status, reply.body.strip()) == (404, False, b"404 page not found")
    resource = place.edge.get(f"/api/v1/namespaces/{NAMESPACE}/things")
    assert failure(resource) == (404, "NotFound", "the server could not find the requested resource")


@pytest.mark.parametrize(
    ("path", "query", "message"),
    [
        (PODS, {"fieldSelector": "spec.colour=blue"}, "field label not supported: spec.colour"),
        (EVENTS, {"fieldSelector": "involvedObject.colour=blue"}, "field label not supported: involvedObject.colour"),
        (PODS, {"labelSelector": "app=(x"}, "unable to parse requirement: "),
        (PODS, {"limit": "some"}, 'strconv.ParseInt: parsing "some": invalid syntax'),
        (PODS, {"continue": "abc"}, "invalid continue token: continue key is not valid: "),
    ],
)
def test_an_invalid_query_is_a_bad_request(place: Place, path: str, query: dict[str, str], message: str) -> None:
    """A 400 is a Status that says what is wrong."""
    code, reason, answered = failure(place.edge.get(path, query))
    assert (code, reason) == (400, "BadRequest")
    assert answered.startswith(message)


def test_a_merge_patch_merges(place: Place) -> None:
    """A merge patch sets the fields it names, removes those that are null, and returns the whole object.

    Sending it again changes nothing.
    """
    path, name = application_path(), "example.org/contract"

    def patch(value: str | None) -> dict[str, Any]:
        reply = place.gcp.send("PATCH", path, {"metadata": {"annotations": {name: value}}}, MERGE)
        assert reply.status == 200
        document: dict[str, Any] = reply.document
        return document

    before = place.application_json()
    once = patch("1")
    assert once["metadata"]["annotations"][name] == "1"
    assert (once["kind"], once["spec"]) == ("Application", before["spec"])
    again = patch("1")
    versions = [document["metadata"]["resourceVersion"] for document in (before, once, again)]
    assert versions[0] != versions[1]
    # Argo CD may write in between, which changes the version but not the annotation.
    assert versions[1] == versions[2] or again["status"] != once["status"]
    assert name not in patch(None)["metadata"].get("annotations", {})


def test_an_invalid_patch_is_refused(place: Place) -> None:
    """A stale version is refused with 409, another media type with 415, and anything but a JSON object with 400."""
    path = application_path()
    stale = place.gcp.send("PATCH", path, {"metadata": {"resourceVersion": "1"}}, MERGE)
    code, reason, message = failure(stale)
    assert (code, reason) == (409, "Conflict")
    assert message.startswith('Operation cannot be fulfilled on applications.argoproj.io "contract-steady": ')
    assert message.endswith("please apply your changes to the latest version and try again")
    unknown = place.gcp.send("PATCH", path, {}, {"Content-Type": "application/json"})
    assert failure(unknown)[:2] == (415, "UnsupportedMediaType")
    no_object = place.gcp.send("PATCH", path, [1], MERGE)
    assert failure(no_object)[:2] == (400, "BadRequest")
    assert failure(no_object)[2].startswith("error decoding patch: ")

"""A pod's log, and requests to a pod through the API server: which answers are the pod's and which the server's."""

import json

import pytest

from orchestration.analysis.pod_facts import parse_pod, sibling_selector
from orchestration.promotion.problems import DependencyError
from tests.contract.place import CONTAINER, NAMESPACE, PODS, PORT, Place
from tests.contract.test_answers import failure


@pytest.fixture
def pod(place: Place) -> str:
    """Return the name of a pod that serves."""
    workload = place.workload("steady")
    assert workload is not None
    return workload.new_pods[0].name


def test_a_pod_is_described_with_its_containers_and_owner(place: Place, pod: str) -> None:
    """Chosen by its name, or with the other pods of its workload by their labels; nobody else's pods are among them."""
    (described,) = (parse_pod(raw) for raw in place.cluster.pods(NAMESPACE, fields=f"metadata.name={pod}"))
    assert (described.name, described.phase, described.workload, described.is_ready) == (pod, "Running", "steady", True)
    (container,) = described.containers
    assert (container.name, container.ready) == (CONTAINER, True)
    assert container.running_since is not None
    siblings = [parse_pod(raw) for raw in place.cluster.pods(NAMESPACE, labels=sibling_selector(described))]
    assert pod in {sibling.name for sibling in siblings}
    assert {sibling.workload for sibling in siblings} == {"steady"}
    assert place.cluster.pods(NAMESPACE, fields="metadata.name=no-such-pod") == ()


def test_the_last_lines_of_a_log_are_returned(place: Place, pod: str) -> None:
    """The API server returns as many lines as were asked for, as plain text."""
    assert place.cluster.log_tail(NAMESPACE, pod, CONTAINER, previous=False).endswith("steady starts\n")
    reply = place.edge.get(f"{PODS}/{pod}/log", {"container": CONTAINER, "tailLines": "0"})
    assert (reply.status, reply.body) == (200, b"")
    reply = place.edge.get(f"{PODS}/{pod}/log", {"container": CONTAINER, "tailLines": "1", "limitBytes": "4"})
    assert reply.status == 200
    assert 0 < len(reply.body) < len("version steady starts\n")  # the limit is not kept to the byte


def test_a_container_that_ran_once_has_no_previous_log(place: Place, pod: str) -> None:
    """The API server answers 400, which the adapter takes for an empty log."""
    reply = place.edge.get(f"{PODS}/{pod}/log", {"container": CONTAINER, "previous": "true"})
    missing = f'previous terminated container "{CONTAINER}" in pod "{pod}" not found'
    assert failure(reply) == (400, "BadRequest", missing)
    assert place.cluster.log_tail(NAMESPACE, pod, CONTAINER, previous=True) == ""


def test_the_log_of_an_unknown_container_is_a_bad_request(place: Place, pod: str) -> None:
    """The API server answers 400 with the container's name, and also 400 for a number of lines that is not a number."""
    reply = place.edge.get(f"{PODS}/{pod}/log", {"container": "other"})
    assert failure(reply) == (400, "BadRequest", f"container other is not valid for pod {pod}")
    reply = place.edge.get(f"{PODS}/{pod}/log", {"tailLines": "some"})
    assert failure(reply) == (400, "BadRequest", 'strconv.ParseInt: parsing "some": invalid syntax')


def test_a_pod_answers_through_the_api_server(place: Place, pod: str) -> None:
    """Body and headers reach the pod, and its answer comes back as its own, whatever its status."""
    headers = {"X-Incumbent-Replay": "p/1"}
    for path, code in (("/predict", 200), ("/status/422", 422), ("/status/500", 500), ("/status/503", 503)):
        answer = place.cluster.ask_pod(NAMESPACE, pod, PORT, path, b'{"a": 1}', headers, 5)
        version, body, replay = answer.body.decode().split(maxsplit=1)[0], *answer.body.decode().rsplit(" ", 1)
        assert (answer.status, answer.from_api) == (code, False)
        assert (version, json.loads(body.split(" ", 1)[1]), replay) == ("steady", {"a": 1}, "p/1")


def test_query_and_host_reach_the_pod_and_the_login_does_not(place: Place, pod: str) -> None:
    """The pod is asked what the caller asks the API server for, under the name that the caller gives."""
    headers = {"Host": "iris.example", "Authorization": "Bearer of-the-model"}
    answer = place.cluster.ask_pod(NAMESPACE, pod, PORT, "/seen/%C3%A9?q=a%20b", b"{}", headers, 5)
    assert answer.body == b"steady /seen/%C3%A9?q=a%20b iris.example - -"


def test_a_port_on_which_nothing_listens_is_the_api_servers_503(place: Place, pod: str) -> None:
    """The API server answers with a Status that says connection refused: the pod's fault, but not its answer."""
    reply = place.edge.send("POST", f"{PODS}/{pod}:9999/proxy/predict", {}, {"Content-Type": "application/json"})
    code, reason, message = failure(reply)
    assert (code, reason) == (503, "ServiceUnavailable")
    assert message.startswith("error trying to reach service: dial tcp ")
    assert message.endswith(":9999: connect: connection refused")
    assert place.cluster.ask_pod(NAMESPACE, pod, 9999, "/predict", b"{}", {}, 5).from_api


def test_a_connection_that_breaks_off_is_the_api_servers_503_too(place: Place, pod: str) -> None:
    """A pod that closes the connection without an answer has not answered; the API server reports it."""
    answer = place.cluster.ask_pod(NAMESPACE, pod, PORT, "/hang-up", b"{}", {}, 5)
    assert (answer.status, answer.from_api) == (503, True)
    assert json.loads(answer.body)["message"] == "error trying to reach service: EOF"


def test_a_pod_that_does_not_answer_in_time_is_an_error(place: Place, pod: str) -> None:
    """The API server keeps waiting, and the caller gives up first."""
    with pytest.raises(DependencyError):
        place.cluster.ask_pod(NAMESPACE, pod, PORT, "/slow", b"{}", {}, 0.5)


def test_an_unscheduled_pod_has_no_log_and_no_address(place: Place) -> None:
    """The API server answers 204 without a body for its log, and 400 for a request to it."""
    workload = place.wait("a pod that cannot be placed", lambda: place.workload("unplaceable"))
    waiting = place.wait("its pod", lambda: workload.pods or (place.workload("unplaceable") or workload).pods)[0].name
    log = place.edge.get(f"{PODS}/{waiting}/log", {"container": CONTAINER})
    assert (log.status, log.body) == (204, b"")
    assert place.cluster.log_tail(NAMESPACE, waiting, CONTAINER, previous=False) == ""
    reply = place.edge.send("POST", f"{PODS}/{waiting}:8080/proxy/predict", {}, {"Content-Type": "application/json"})
    assert failure(reply) == (400, "BadRequest", "address not allowed")

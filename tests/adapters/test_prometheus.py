"""Prometheus: a real server shows what answers mean, a scripted one what can go wrong."""

import math
import re
from collections.abc import Callable

import pytest
from pytest_httpserver import HTTPServer

from orchestration.adapters.prometheus import Prometheus
from orchestration.promotion.ports import QueryRejected, QueryResult
from orchestration.promotion.problems import DependencyError, InvalidInputError
from testbeds.common.processes import wait_until
from tests.adapters.conftest import START_SECONDS

ANY_PATH = re.compile("/")


def result(answer: QueryResult | QueryRejected) -> QueryResult:
    """Return the answer, which must be a result."""
    assert isinstance(answer, QueryResult), answer
    return answer


@pytest.fixture
def scripted(httpserver: HTTPServer) -> Callable[[object], Prometheus]:
    """A Prometheus that gives the same answer to every query."""

    def answer(document: object) -> Prometheus:
        httpserver.expect_request("/api/v1/query", method="POST").respond_with_json(document)
        return Prometheus(httpserver.url_for(""))

    return answer


def test_a_real_server_is_ready(prometheus_url: str) -> None:
    """/-/ready of a running Prometheus passes."""
    Prometheus(prometheus_url).ready()


def test_vectors_and_scalars_are_samples(prometheus_url: str) -> None:
    """A vector keeps its labels, a scalar has none, and both have the time of their evaluation."""
    metrics = Prometheus(prometheus_url)
    wait_until(lambda: bool(result(metrics.query("up")).samples), START_SECONDS, "the first scrape")
    (up,) = result(metrics.query("up")).samples
    assert up.value == 1.0
    assert up.labels["job"] == "itself"
    at = up.at - 1
    (past,) = result(metrics.query("scalar(vector(2.5))", at)).samples
    assert (past.value, past.labels) == (2.5, {})
    assert past.at == pytest.approx(at, abs=0.001)


@pytest.mark.parametrize(("expression", "value"), [("0/0", math.nan), ("1/0", math.inf), ("-1/0", -math.inf)])
def test_nan_and_infinity_stay_visible(prometheus_url: str, expression: str, value: float) -> None:
    """NaN and infinity arrive unchanged, for the gate to refuse."""
    (sample,) = result(Prometheus(prometheus_url).query(f"vector({expression})")).samples
    assert sample.value == value or (math.isnan(value) and math.isnan(sample.value))


def test_no_data_is_an_empty_result(prometheus_url: str) -> None:
    """A series that does not exist is a result without samples, never a zero."""
    assert result(Prometheus(prometheus_url).query("no_such_series")).samples == ()


@pytest.mark.parametrize(
    "expression",
    [
        *("sum(", "", "up[5m]", '"text"'),
        'vector(1) + on() (vector(1) or label_replace(vector(2), "a", "b", "", ""))',
    ],
)
def test_a_query_that_is_wrong_is_rejected(prometheus_url: str, expression: str) -> None:
    """What does not parse, cannot be evaluated or gives no number is the policy's fault; the message says why."""
    answer = Prometheus(prometheus_url).query(expression)
    assert isinstance(answer, QueryRejected)
    assert answer.message


def test_a_long_query_fits(prometheus_url: str) -> None:
    """A query of a hundred kilobytes is answered, because it is posted."""
    pods = "|".join(f"iris-classifier-{number:032}" for number in range(2000))
    assert result(Prometheus(prometheus_url).query(f'up{{pod=~"{pods}"}}')).samples == ()


def test_warnings_and_infos_are_kept_apart(scripted: Callable[[object], Prometheus]) -> None:
    """A partial response, as Thanos gives it, is a warning; a remark on the query is not."""
    data = {"resultType": "vector", "result": [{"metric": {}, "value": [1.5, "1"]}]}
    answer = {"status": "success", "data": data, "warnings": ["store is down"], "infos": ["PromQL info: x"]}
    partial = result(scripted(answer).query("up"))
    assert partial.warnings == ("store is down",)
    assert partial.infos == ("PromQL info: x",)


def test_native_histograms_are_rejected(scripted: Callable[[object], Prometheus]) -> None:
    """A histogram is not a number."""
    data = {"resultType": "vector", "result": [{"metric": {}, "histogram": [1.5, {"count": "1"}]}]}
    assert isinstance(scripted({"status": "success", "data": data}).query("up"), QueryRejected)


@pytest.mark.parametrize("status", [400, 422])
def test_an_error_of_the_query_is_rejected_at_once(httpserver: HTTPServer, status: int) -> None:
    """When Prometheus itself refuses a query, the query is not repeated."""
    document = {"status": "error", "errorType": "bad_data", "error": "parse error"}
    httpserver.expect_request("/api/v1/query").respond_with_json(document, status=status)
    assert Prometheus(httpserver.url_for("")).query("(") == QueryRejected("bad_data: parse error")
    assert len(httpserver.log) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, "<html>a proxy's bad request</html>"),
        (401, "{}"),
        (404, "not here"),
        (500, '{"status": "error", "errorType": "internal", "error": "x"}'),
        (503, '{"status": "error", "errorType": "timeout", "error": "x"}'),
        (200, "<html>"),
        (200, "[]"),
        (200, '{"status": "success"}'),
        (200, '{"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}}]}}'),
        (200, '{"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, "x"]}]}}'),
        (200, '{"status": "success", "data": {"resultType": "vector", "result": null}}'),
    ],
)
def test_a_server_that_cannot_answer_is_an_error(httpserver: HTTPServer, status: int, body: str) -> None:
    """A backend that is down or garbled is an error, never a bad release (argo-rollouts#2866)."""
    httpserver.expect_request(ANY_PATH).respond_with_data(body, status)
    with pytest.raises(DependencyError, match=f"HTTP {status}"):
        Prometheus(httpserver.url_for("")).query("up")


def test_a_server_that_replays_its_log_is_not_ready(httpserver: HTTPServer) -> None:
    """A 503 from /-/ready is an error."""
    httpserver.expect_request("/-/ready").respond_with_data("Service Unavailable", 503)
    with pytest.raises(DependencyError):
        Prometheus(httpserver.url_for("")).ready()


def test_a_dead_server_is_an_error(free_address: str) -> None:
    """The error for a refused connection names the setting."""
    with pytest.raises(DependencyError, match="PROMETHEUS_URL"):
        Prometheus(f"http://{free_address}").query("up")


def test_an_address_with_a_password_is_refused() -> None:
    """An address with a user and password is refused, and the error does not repeat them."""
    with pytest.raises(InvalidInputError) as caught:
        Prometheus("http://me:hunter22@prometheus:9090")
    assert "hunter22" not in str(caught.value)

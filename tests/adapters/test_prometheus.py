"""Prometheus: a real server shows what answers mean, a scripted one what can go wrong."""

import base64
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from orchestration.adapters.prometheus import Prometheus
from orchestration.adapters.prometheus_access import parse_access
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
    """A running Prometheus answers the query that tells it."""
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


@pytest.mark.parametrize("status", [302, 404, 503])
def test_a_server_that_answers_no_query_is_not_ready(httpserver: HTTPServer, status: int) -> None:
    """Prometheus answers 503 while it replays its log; a login page and a wrong path prefix are found, too."""
    httpserver.expect_request(ANY_PATH).respond_with_data("not now", status)
    with pytest.raises(DependencyError, match=f"HTTP {status}"):
        Prometheus(httpserver.url_for("")).ready()


def test_a_server_without_a_ready_page_is_ready_when_it_answers_a_query(httpserver: HTTPServer) -> None:
    """Thanos, Mimir and VictoriaMetrics have the query API, often below a prefix, and no `/-/ready` beside it."""
    one = {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1.5, "1"]}]}}
    httpserver.expect_request("/prometheus/api/v1/query", method="POST").respond_with_json(one)
    Prometheus(httpserver.url_for("/prometheus/")).ready()


@pytest.mark.parametrize("value", ["0", "NaN"])
def test_a_server_that_cannot_count_to_one_is_not_ready(scripted: Callable[[object], Prometheus], value: str) -> None:
    """A stub that answers everything alike proves nothing."""
    data = {"resultType": "vector", "result": [{"metric": {}, "value": [1.5, value]}]}
    with pytest.raises(DependencyError, match=r"vector\(1\)"):
        scripted({"status": "success", "data": data}).ready()


ONE = {"resultType": "vector", "result": [{"metric": {}, "value": [1.5, "1"]}]}


def test_remarks_that_older_servers_call_warnings_are_remarks(scripted: Callable[[object], Prometheus]) -> None:
    """Prometheus 2.48 to 2.52 have no list of infos: any counter without `_total` made an answer doubtful."""
    info, warning = "PromQL info: metric might not be a counter", "PromQL warning: bucket label le is missing"
    found = result(scripted({"status": "success", "data": ONE, "warnings": [info, warning]}).query("up"))
    assert (found.infos, found.warnings) == ((info,), (warning,))


@pytest.mark.parametrize("partial", [True, False])
def test_a_partial_response_of_victoriametrics_is_doubtful(
    scripted: Callable[[object], Prometheus], partial: bool
) -> None:
    """It says so by a field of its own and without a warning; a complete one has the field, too."""
    found = result(scripted({"status": "success", "isPartial": partial, "data": ONE}).query("up"))
    assert bool(found.warnings) is partial


def test_logins_and_headers_are_sent(httpserver: HTTPServer, tmp_path: Path) -> None:
    """A token or password is read from its file each time, so that a rotated one is used."""
    secret = tmp_path / "secret"
    seen: list[tuple[str | None, str | None]] = []

    def answer(request: Request) -> Response:
        seen.append((request.headers.get("Authorization"), request.headers.get("X-Scope-OrgID")))
        return Response(json.dumps({"status": "success", "data": ONE}))

    httpserver.expect_request("/api/v1/query", method="POST").respond_with_handler(answer)
    url = httpserver.url_for("")
    by_token = Prometheus(url, parse_access(token_file=str(secret), headers="X-Scope-OrgID=team-a, X-Other=b"))
    for token in ("first\n", "second"):
        secret.write_text(token)
        by_token.ready()
    Prometheus(url, parse_access(username="me", password_file=str(secret))).ready()
    basic = "Basic " + base64.b64encode(b"me:second").decode()
    assert seen == [("Bearer first", "team-a"), ("Bearer second", "team-a"), (basic, None)]


def test_a_refused_login_names_the_settings_and_not_the_secret(httpserver: HTTPServer, tmp_path: Path) -> None:
    """Not even where the server repeats it."""
    secret = tmp_path / "secret"
    secret.write_text("hunter22")
    httpserver.expect_request(ANY_PATH).respond_with_data("no hunter22 here", 401)
    with pytest.raises(DependencyError, match="PROMETHEUS_TOKEN_FILE") as caught:
        Prometheus(httpserver.url_for(""), parse_access(token_file=str(secret))).query("up")
    assert "hunter22" not in str(caught.value)


def test_a_secret_that_cannot_be_read_is_an_error(free_address: str, tmp_path: Path) -> None:
    """The file and its setting are named, and nothing is sent without the login."""
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(DependencyError, match=r"expected the token of Prometheus.*PROMETHEUS_TOKEN_FILE"):
            Prometheus(f"http://{free_address}", parse_access(token_file=str(path))).query("up")
        with pytest.raises(DependencyError, match=r"expected the password of Prometheus.*PROMETHEUS_PASSWORD_FILE"):
            Prometheus(f"http://{free_address}", parse_access(username="me", password_file=str(path))).query("up")


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"token_file": "/a", "username": "me", "password_file": "/b"}, "one way to log in"),
        ({"token_file": "/a", "sigv4_region": "eu-central-1"}, "one way to log in"),
        ({"username": "me"}, "a user and a password"),
        ({"password_file": "/b"}, "a user and a password"),
        ({"client_key_file": "/b"}, "a certificate and its key"),
        ({"headers": "X-Scope-OrgID"}, "NAME=VALUE"),
        ({"headers": "Authorization=Bearer hunter22"}, "without a login"),
        ({"headers": "X-A=b\r\nX-C: d"}, "NAME=VALUE"),
        ({"parameters": "partial_response"}, "NAME=VALUE"),
        ({"headers": "X-A="}, "the entry for 'X-A'"),
        ({"headers": "X-A=1,x-a=2"}, "each name once, found two entries for 'x-a'"),
        ({"headers": "Host=prometheus"}, "write that name into PROMETHEUS_URL"),
        ({"headers": "Proxy-Authorization=Basic hunter22"}, "a proxy's login is part of HTTPS_PROXY"),
        *(
            ({"headers": f"{name}=hunter22"}, f"the entry for '{name}'. Remove it: the client writes it itself")
            for name in ("Connection", "keep-alive", "Transfer-Encoding", "TE", "Trailer", "Upgrade", "Expect")
        ),
        *(
            ({"headers": f"{name}=hunter22"}, f"the entry for '{name}'. Remove it: the client writes it itself")
            for name in ("Content-Length", "Content-Type", "Content-Encoding", "Accept-Encoding", "Proxy-Connection")
        ),
        ({"parameters": "query=up"}, "without query, time, nocache"),
        ({"parameters": "nocache=0"}, "without query, time, nocache"),
        ({"parameters": "storeMatch[]=a,storeMatch[]=b"}, "two entries for"),
        ({"username": "a:b", "password_file": "/b"}, "PROMETHEUS_USERNAME: .*a colon"),
        ({"sigv4_region": "eu central"}, "PROMETHEUS_SIGV4_REGION: expected an AWS region"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings: dict[str, str], found: str) -> None:
    """Before anything is asked, and without repeating what may be a secret."""
    with pytest.raises(InvalidInputError, match=found) as caught:
        parse_access(**settings)
    assert "hunter22" not in str(caught.value)


def test_an_answer_is_as_of_now_and_parameters_go_with_each_query(httpserver: HTTPServer) -> None:
    """Without `nocache`, VictoriaMetrics dates back 30 s and does not say so; a setting adds what others need."""
    httpserver.expect_request("/api/v1/query").respond_with_json({"status": "success", "data": ONE})
    url = httpserver.url_for("")
    Prometheus(url).query("up")
    Prometheus(url, parse_access(parameters="partial_response=false, dedup=true")).query("up", 1.5)
    plain, more = (request.form.to_dict() for request, _ in httpserver.log)
    assert plain == {"query": "up", "nocache": "1"}
    assert more == {"query": "up", "nocache": "1", "time": "1.500", "partial_response": "false", "dedup": "true"}


def test_a_store_that_is_down_is_no_fault_of_the_query(httpserver: HTTPServer) -> None:
    """Thanos with `partial_response=false` says it as of a query that cannot be evaluated (its pkg/api/query)."""
    error = "expanding series: proxy Series(): rpc error: code = Aborted desc = fetch series for store 10.0.0.9:10901"
    document = {"status": "error", "errorType": "execution", "error": error}
    httpserver.expect_request("/api/v1/query").respond_with_json(document, status=422)
    with pytest.raises(DependencyError, match="StoreAPIs"):
        Prometheus(httpserver.url_for("")).query("up")


@pytest.mark.parametrize(
    "limit",
    [
        "query processing would load too many samples into memory in query execution",  # Prometheus, Thanos
        "the query exceeded the maximum number of chunks (limit: 2000000 chunks) (err-mimir-max-chunks-per-query). "
        "To adjust the related per-tenant limit, configure -querier.max-fetched-chunks-per-query",
        "cannot select more than -search.maxSamplesPerQuery=1000000000 samples",  # VictoriaMetrics
    ],
)
def test_a_limit_that_a_query_exceeds_is_named(httpserver: HTTPServer, limit: str) -> None:
    """To ask again would not help; the servers' own words name the limit."""
    document = {"status": "error", "errorType": "execution", "error": limit}
    httpserver.expect_request("/api/v1/query").respond_with_json(document, status=422)
    answer = Prometheus(httpserver.url_for("")).query("up")
    assert isinstance(answer, QueryRejected)
    assert limit in answer.message


def test_a_tenant_that_is_missing_names_its_setting(httpserver: HTTPServer) -> None:
    """Mimir answers 401 in plain text (`no org id`, from dskit's user package), although no login is missing."""
    httpserver.expect_request(ANY_PATH).respond_with_data("no org id\n", 401)
    with pytest.raises(DependencyError, match=r"no org id.*PROMETHEUS_HEADERS"):
        Prometheus(httpserver.url_for("")).query("up")


def test_a_dead_server_is_an_error(free_address: str) -> None:
    """The error for a refused connection names the setting."""
    with pytest.raises(DependencyError, match="PROMETHEUS_URL"):
        Prometheus(f"http://{free_address}").query("up")


def test_an_address_with_a_password_is_refused() -> None:
    """An address with a user and password is refused, and the error does not repeat them."""
    with pytest.raises(InvalidInputError) as caught:
        Prometheus("http://me:hunter22@prometheus:9090")
    assert "hunter22" not in str(caught.value)

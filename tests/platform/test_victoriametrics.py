"""A real VictoriaMetrics behind the adapter for Prometheus: the same contract, and what is different about it."""

import time
from collections.abc import Callable, Iterator

import httpx2
import pytest

from orchestration.adapters.prometheus import Prometheus
from orchestration.adapters.prometheus_access import Access
from orchestration.promotion.ports import QueryRejected, QueryResult, Sample
from orchestration.promotion.problems import DependencyError
from testbeds.common.processes import wait_until
from testbeds.common.services import free_ports
from tests.adapters import test_prometheus as contract
from tests.adapters.conftest import serving
from tests.platform.programs import victoriametrics

pytestmark = pytest.mark.timeout(3600)  # the first of these tests may have to build it

PREFIX = "/team/a"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server below a prefix that scrapes itself each second, with its own settings otherwise."""
    folder = tmp_path_factory.mktemp("victoriametrics")
    (port,) = free_ports(1)
    scrapes = folder / "scrapes.yml"
    scrapes.write_text(
        "global: {scrape_interval: 1s}\n"
        "scrape_configs:\n"
        f"- {{job_name: itself, metrics_path: {PREFIX}/metrics, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"
    )
    command = [
        *(str(victoriametrics()), f"-storageDataPath={folder}/data", f"-httpListenAddr=127.0.0.1:{port}"),
        *(f"-http.pathPrefix={PREFIX}", f"-promscrape.config={scrapes}", "-loggerLevel=WARN"),
    ]
    with serving(command, f"http://127.0.0.1:{port}{PREFIX}/health", folder):
        yield f"http://127.0.0.1:{port}{PREFIX}"


PROMISES: tuple[Callable[[str], None], ...] = (
    contract.test_a_real_server_is_ready,
    contract.test_vectors_and_scalars_are_samples,
    contract.test_no_data_is_an_empty_result,
)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__.removeprefix("test_"))
def test_it_keeps_prometheuss_contract(url: str, promise: Callable[[str], None]) -> None:
    """It is ready without `/-/ready`, and answers with samples, labels and times as Prometheus does."""
    promise(url)


@pytest.mark.parametrize("expression", ["sum(", "", "up[5m", "no_such_function(up)"])
def test_a_query_that_is_wrong_is_rejected(url: str, expression: str) -> None:
    """It has no parser of PromQL but one of MetricsQL, and answers 422 where Prometheus answers 400."""
    answer = Prometheus(url).query(expression)
    assert isinstance(answer, QueryRejected)
    assert answer.message


def test_a_long_query_fits_up_to_the_servers_limit(url: str) -> None:
    """It takes 16 KiB of a query, some 250 pods, unless it is told otherwise; what is longer is rejected by name."""

    def of_pods(count: int) -> QueryResult | QueryRejected:
        pods = "|".join(f"iris-classifier-{number:032}" for number in range(count))
        return Prometheus(url).query(f'up{{pod=~"{pods}"}}')

    assert not found(of_pods(250))
    rejected = of_pods(2000)
    assert isinstance(rejected, QueryRejected)
    assert "-search.maxQueryLen" in rejected.message


def test_without_the_prefix_the_error_names_the_address(url: str) -> None:
    """It answers other paths with an error of its own."""
    with pytest.raises(DependencyError, match="path prefix"):
        Prometheus(url.removesuffix(PREFIX)).query("up")


def found(answer: QueryResult | QueryRejected) -> bool:
    assert isinstance(answer, QueryResult), answer
    return bool(answer.samples)


def test_what_was_scraped_just_now_is_seen_just_now(url: str) -> None:
    """By itself, a query for now is answered with what was known 30 s ago, and dated as of now: old evidence as new."""
    name = f"fresh_{time.time_ns()}"
    httpx2.post(f"{url}/api/v1/import/prometheus", content=f"{name} 1\n".encode()).raise_for_status()
    wait_until(lambda: found(Prometheus(url).query(name)), 20.0, "the new series is seen")
    plain = Prometheus(url, Access(parameters={"nocache": "0"}))
    assert not found(plain.query(name))
    (dated,) = _samples(plain.query("vector(time())"))
    assert dated.at - dated.value > 20
    (dated,) = _samples(Prometheus(url).query("vector(time())"))
    assert abs(dated.at - dated.value) < 2


def _samples(answer: QueryResult | QueryRejected) -> tuple[Sample, ...]:
    assert isinstance(answer, QueryResult), answer
    return answer.samples


def test_a_whole_answer_has_no_warning(url: str) -> None:
    """A single node has no part that could be missing, and no field `isPartial`; the cluster version has it."""
    whole = Prometheus(url).query("vector(1)")
    assert isinstance(whole, QueryResult)
    assert whole.warnings == ()

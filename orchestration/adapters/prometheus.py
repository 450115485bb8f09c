"""Service levels: instant queries to Prometheus, or to any server with its HTTP API."""

from typing import Any

from orchestration.adapters.exchange import Reply, excerpt
from orchestration.adapters.http import HttpClient, require_plain_url
from orchestration.promotion.ports import QueryRejected, QueryResult, Sample


class Prometheus:
    """Implements the `Metrics` port."""

    def __init__(self, url: str) -> None:
        """Contact nothing yet.

        Raises:
            InvalidInputError: the URL is not http(s), or has a password in it.
        """
        self._url = require_plain_url("setting PROMETHEUS_URL", url)
        self._http = HttpClient(
            subject=f"Prometheus at {self._url}",
            next_step="Check that the server is running and that PROMETHEUS_URL is right.",
        )

    def ready(self) -> None:
        """Raise `DependencyError` unless the server has replayed its write-ahead log and answers queries."""
        reply = self._http.get(f"{self._url}/-/ready")
        if reply.status != 200:
            raise self._http.unexpected(reply, "HTTP 200 from /-/ready")

    def query(self, expression: str, at: float | None = None) -> QueryResult | QueryRejected:
        """Run an instant query; it is posted, because a long expression does not fit into a URL."""
        form = {"query": expression} | ({} if at is None else {"time": f"{at:.3f}"})
        reply = self._http.read_by_post(f"{self._url}/api/v1/query", form)
        document = reply.document
        if not isinstance(document, dict):
            raise self._http.unexpected(reply, "an answer of Prometheus's API")
        if reply.status in (400, 422) and document.get("status") == "error":
            return QueryRejected(excerpt(f"{document.get('errorType')}: {document.get('error')}"))
        if reply.status != 200 or document.get("status") != "success" or not isinstance(document.get("data"), dict):
            raise self._http.unexpected(reply, "an answer to a query")
        return self._result(reply, document)

    def _result(self, reply: Reply, document: dict[str, Any]) -> QueryResult | QueryRejected:
        data = document["data"]
        kind = data.get("resultType")
        if kind not in ("scalar", "vector"):
            return QueryRejected(f"a {kind} where a number is needed: make the expression return one")
        try:
            rows = [{"metric": {}, "value": data["result"]}] if kind == "scalar" else data["result"]
            if any("histogram" in row for row in rows):
                return QueryRejected("native histograms where numbers are needed: query their quantile or count")
            samples = tuple(_sample(row) for row in rows)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise self._http.unexpected(reply, f"samples in a {kind}") from error
        return QueryResult(samples, _texts(document.get("warnings")), _texts(document.get("infos")))


def _sample(row: dict[str, Any]) -> Sample:
    at, value = row["value"]
    # Values arrive as strings, so that NaN, +Inf and -Inf can be expressed.
    return Sample({str(name): str(label) for name, label in row["metric"].items()}, float(value), float(at))


def _texts(notes: object) -> tuple[str, ...]:
    return tuple(excerpt(str(note)) for note in notes) if isinstance(notes, list) else ()

"""Service levels: instant queries to Prometheus, or to any server with its HTTP API."""

from typing import Any
from urllib.parse import urlencode

from orchestration.adapters.exchange import Reply, excerpt
from orchestration.adapters.http import HttpClient, require_plain_url
from orchestration.adapters.prometheus_access import ANYONE, LOGINS, Access
from orchestration.promotion.ports import QueryRejected, QueryResult, Sample

_INFO = "PromQL info: "
"""How Prometheus 2.48 to 2.52 begin a remark on a query among the warnings; later ones have a list of their own."""
_STORAGE_FAILED = "expanding series: "
"""How the evaluation says that it could not read what it needed, with the code of a query that is wrong.

Prometheus does with remote storage (promql/engine.go), and Thanos with `partial_response=false` while a store is down.
"""
_FRESH = {"nocache": "1"}
"""VictoriaMetrics else evaluates a query for now at 30 s ago (`-search.latencyOffset`), and dates the answer as of now.

Other servers take no notice of it.
"""
_NO_API = (
    "What answers is not Prometheus's API, but perhaps a proxy where people log in. Correct PROMETHEUS_URL (https in "
    f"place of http? a path prefix?), or set the login: {LOGINS}."
)
_STORES = "Check the stores that this server reads from (Thanos's StoreAPIs, Prometheus's remote_read)."


class Prometheus:
    """Implements the `Metrics` port."""

    def __init__(self, url: str, access: Access = ANYONE) -> None:
        """Contact nothing yet.

        Raises:
            InvalidInputError: the URL is not http(s), or has a password in it.
        """
        self._url = require_plain_url("setting PROMETHEUS_URL", url)
        self._access = access
        self._http = HttpClient(
            subject=f"Prometheus at {self._url}",
            next_step="Check that the server is running and that PROMETHEUS_URL (with its path prefix, if it has one) "
            "is right.",
            secrets=access.secrets,
            tls=access.tls.context if access.tls is not None else None,
            tls_step="Set PROMETHEUS_CA_FILE to the authority that signed the server's certificate; where the server "
            "asks for ours, set PROMETHEUS_CLIENT_CERT_FILE and PROMETHEUS_CLIENT_KEY_FILE.",
        )

    def __str__(self) -> str:
        return f"Prometheus at {self._url}"

    def ready(self) -> None:
        """Raise `DependencyError` unless the server answers queries.

        It is asked one, because only Prometheus itself has `/-/ready`, and only without a prefix to its paths. While it
        replays its write-ahead log, it answers no query either.
        """
        answer = self.query("vector(1)")
        if not isinstance(answer, QueryResult) or [sample.value for sample in answer.samples] != [1.0]:
            raise self._http.failure("another answer", "1 as the answer to vector(1)")

    def query(self, expression: str, at: float | None = None) -> QueryResult | QueryRejected:
        """Run an instant query; it is posted, because a long expression does not fit into a URL."""
        form = _FRESH | dict(self._access.parameters) | {"query": expression}
        content = urlencode(form | ({} if at is None else {"time": f"{at:.3f}"})).encode()
        url = f"{self._url}/api/v1/query"
        reply = self._http.read_by_post(url, content, self._access.headers_for(url, content))
        document = reply.document
        if reply.status in (401, 403):
            next_step = f"Set its login ({LOGINS}), and its tenant by PROMETHEUS_HEADERS if it has several."
            raise self._http.unexpected(reply, "an accepted login", next_step)
        if not isinstance(document, dict):
            advice = _NO_API if reply.status < 400 else None
            raise self._http.unexpected(reply, "an answer of Prometheus's API", advice)
        if reply.status in (400, 422) and document.get("status") == "error":
            if str(document.get("error")).startswith(_STORAGE_FAILED):
                raise self._http.unexpected(reply, "all the data that a query needs", _STORES)
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
        notes = _texts(document.get("warnings"))
        remarks = tuple(note for note in notes if note.startswith(_INFO))
        partial = ("a partial response (isPartial)",) if document.get("isPartial") else ()  # of VictoriaMetrics
        warnings = tuple(note for note in notes if note not in remarks) + partial
        return QueryResult(samples, warnings, remarks + _texts(document.get("infos")))


def _sample(row: dict[str, Any]) -> Sample:
    at, value = row["value"]
    # Values arrive as strings, so that NaN, +Inf and -Inf can be expressed.
    return Sample({str(name): str(label) for name, label in row["metric"].items()}, float(value), float(at))


def _texts(notes: object) -> tuple[str, ...]:
    return tuple(excerpt(str(note)) for note in notes) if isinstance(notes, list) else ()

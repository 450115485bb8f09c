"""The policy's `service`: the model as its clients reach it, from outside the cluster."""

import time

from orchestration.adapters.exchange import media_type
from orchestration.adapters.headers import read_headers, secrets_of, without_header_secrets
from orchestration.adapters.http import HttpClient
from orchestration.promotion.ports import Answer, Headers
from orchestration.promotion.problems import DependencyError


class HttpService:
    """Implements the `Service` port; sends each request once, because a request may count."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._http = HttpClient(
            "the service", "Check that its Service and its pods exist.", lambda: tuple(self._secrets)
        )

    def ask(self, url: str, body: bytes, headers: Headers, timeout: float) -> Answer:
        """POST JSON, and wait `timeout` seconds at most; when no answer comes, the body says why."""
        return self._send("POST", url, body, {"Content-Type": "application/json", **headers}, timeout)

    def reach(self, url: str, headers: Headers, timeout: float) -> Answer:
        """GET an address once, and wait `timeout` seconds at most; when no answer comes, the body says why."""
        return self._send("GET", url, b"", headers, timeout)

    def check_headers(self, headers: Headers) -> None:
        """Raise `DependencyError` unless the values of all headers can be read."""
        read_headers(headers)

    def _send(self, method: str, url: str, body: bytes, headers: Headers, timeout: float) -> Answer:
        values = read_headers(headers)
        secrets = list(secrets_of(headers, values))
        self._secrets.update(secrets)
        sent = {name: value.encode("latin-1") for name, value in values.items()}  # the bytes of their files
        started = time.monotonic()
        try:
            reply = self._http.send(method, url, content=body, headers=sent, timeout=timeout)
        except DependencyError as error:
            return Answer(status=0, body=error.problem.found.encode(), seconds=time.monotonic() - started)
        return Answer(
            reply.status,
            without_header_secrets(reply.body, secrets),
            reply.seconds,
            content_type=media_type(reply.headers.get("content-type")),
        )

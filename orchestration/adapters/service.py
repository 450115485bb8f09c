"""The policy's `service_url`: the model as its clients reach it, from outside the cluster."""

import time
from collections.abc import Mapping

from orchestration.adapters.http import HttpClient
from orchestration.promotion.ports import Answer
from orchestration.promotion.problems import DependencyError


class HttpService:
    """Implements the `Service` port; sends each request once, because a request may count."""

    def __init__(self) -> None:
        self._http = HttpClient("the service", "Check that its Service and its pods exist.")

    def ask(self, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Answer:
        """POST JSON, and wait `timeout` seconds at most; when no answer comes, the body says why."""
        started = time.monotonic()
        try:
            reply = self._http.send(
                "POST", url, content=body, headers={"Content-Type": "application/json", **headers}, timeout=timeout
            )
        except DependencyError as error:
            return Answer(status=0, body=error.problem.found.encode(), seconds=time.monotonic() - started)
        return Answer(reply.status, reply.body, reply.seconds)

    def reach(self, url: str, timeout: float) -> Answer:
        """GET an address once, and wait `timeout` seconds at most; when no answer comes, the body says why."""
        started = time.monotonic()
        try:
            reply = self._http.send("GET", url, content=b"", timeout=timeout)
        except DependencyError as error:
            return Answer(status=0, body=error.problem.found.encode(), seconds=time.monotonic() - started)
        return Answer(reply.status, reply.body, reply.seconds)

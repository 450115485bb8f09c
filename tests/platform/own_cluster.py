"""The API server of the cluster in whose pod a test pretends to run, which remembers what it was asked for."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.adapters.pod import in_a_pod

_PATH = re.compile(r"/apis?(?:/(?P<group>[a-z.]+))?/v1/namespaces/(?P<namespace>[^/]+)/(?P<kind>[a-z]+)(?P<rest>.*)")
Call = tuple[str, str, str, str]
"""A namespace, an API group, a resource with its subresource, and a verb, as a rule of a role has them."""


class OwnCluster:
    """An API server that answers with the objects that it was given, and takes what is made or deleted."""

    def __init__(self, server: HTTPServer) -> None:
        self._server = server
        self.calls: set[Call] = set()
        self.made: list[dict[str, Any]] = []
        self.items: dict[str, list[dict[str, Any]]] = {}
        """What a list of a kind has, by the kind's plural."""
        self.objects: dict[str, dict[str, Any]] = {}
        """The answer to reads of single objects, by their kind's plural with the subresource."""
        server.expect_request(re.compile("/")).respond_with_handler(self._answer)

    def _answer(self, request: Request) -> Response:
        match = _PATH.fullmatch(request.path)
        assert match is not None, request.path
        _, name, subresource = (*match["rest"].split("/"), "", "")[:3]
        resource = "/".join(filter(None, (match["kind"], subresource)))
        verb = {"POST": "create", "DELETE": "delete", "PATCH": "patch"}.get(request.method, "get" if name else "list")
        self.calls.add((match["namespace"], match["group"] or "", resource, verb))
        if verb == "create":
            self.made.append(json.loads(request.data))
            return _json(self.made[-1])
        if verb == "list":
            return _json({"items": self.items.get(resource, [])})
        if subresource == "log":
            return Response("what the pod said\n")
        return _json(self.objects.get(resource, {}))


def _json(document: object) -> Response:
    return Response(json.dumps(document), content_type="application/json")


@contextmanager
def own_cluster(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnCluster]:
    """Pretend for the block to run in a pod with a service account's token."""
    with in_a_pod(folder, monkeypatch) as server:
        yield OwnCluster(server)
        server.check_assertions()

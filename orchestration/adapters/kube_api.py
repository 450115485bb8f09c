"""One Kubernetes API server, named by a context of a kubeconfig: bounded calls that return what came, as it came."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from orchestration.adapters.retries import (
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    TRANSIENT_STATUSES,
    UnansweredError,
    ask_again,
)
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.redact import redact

_CAP = 32 * 1024 * 1024
_PAGE = 500
_MAX_PAGES = 40
_CHUNK = 64 * 1024


@dataclass(frozen=True)
class ApiReply:
    status: int
    body: bytes
    seconds: float

    @property
    def document(self) -> Any:
        """The body as JSON; None when it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def is_status(self) -> bool:
        """Whether this is the API server's own word (`kind: Status`), and not that of a pod behind its proxy."""
        document = self.document
        return isinstance(document, dict) and document.get("kind") == "Status" and document.get("apiVersion") == "v1"


class KubeApi:
    """The API server of one context. The official client brings TLS, tokens and login plugins; parsing is not its job.

    Its models are not used: they refuse what a newer or a slightly wrong server sends, and the core parses JSON.
    """

    def __init__(self, kubeconfig: Path, context: str) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self.subject = f"Kubernetes API of context {context}"

    def get(self, path: str, query: Mapping[str, str] | None = None) -> ApiReply:
        """Ask, again after a transient failure; any status is an answer."""
        last: list[ApiReply] = []

        def attempt(left: float) -> ApiReply:
            last.clear()
            reply = self._once("GET", path, query, timeout=min(READ_TIMEOUT, left))
            if reply.status in TRANSIENT_STATUSES:
                last.append(reply)
                raise UnansweredError(self.unexpected(reply, path))
            return reply

        try:
            return ask_again(attempt)
        except DependencyError:
            if last:
                return last[0]
            raise

    def send(
        self,
        method: str,
        path: str,
        document: object,
        headers: Mapping[str, str],
        timeout: float = READ_TIMEOUT,
    ) -> ApiReply:
        """Send a JSON document once."""

        def attempt(left: float) -> ApiReply:
            return self._once(method, path, None, timeout=min(timeout, left), document=document, headers=headers)

        return ask_again(attempt, repeat=False)

    def read(self, path: str) -> dict[str, Any] | None:
        """One object; None when the API server answers that there is none."""
        reply = self.get(path)
        # A 404 without a Status body comes from something that is not an API server.
        if reply.status == 404 and reply.is_status:
            return None
        return self._object(reply, path)

    def items(self, path: str, query: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """All objects of a list, page by page.

        A list that changes so much meanwhile that the server gives up its continuation (410) is begun again once.
        """
        for last_try in (False, True):
            found: list[dict[str, Any]] = []
            following = ""
            for _ in range(_MAX_PAGES):
                page = {"limit": str(_PAGE)} | ({"continue": following} if following else {})
                reply = self.get(path, {**(query or {}), **page})
                if reply.status == 410 and following and not last_try:
                    break
                document = self._object(reply, path)
                found += [item for item in document.get("items") or () if isinstance(item, dict)]
                metadata = document.get("metadata")
                following = str(metadata.get("continue") or "") if isinstance(metadata, dict) else ""
                if not following:
                    return found
            else:
                break
        raise self._failure(f"more than {_MAX_PAGES} pages of {_PAGE}, or a list that does not hold still", path)

    def ready(self) -> None:
        """Raise `DependencyError` unless /readyz says ok."""
        reply = self.get("/readyz")
        if reply.status != 200:
            raise self.unexpected(reply, "/readyz to say ok")

    def unexpected(self, reply: ApiReply, expected: str) -> DependencyError:
        document = reply.document
        said = document.get("message") if isinstance(document, dict) else None
        text = str(said) if said else " ".join(reply.body[:300].decode("utf-8", "replace").split())
        denied = reply.status in (401, 403)
        advice = "Give its user the rights that docs/architecture.md lists." if denied else None
        return self._failure(f"HTTP {reply.status}: {text}", expected, advice)

    def _object(self, reply: ApiReply, path: str) -> dict[str, Any]:
        document = reply.document
        if reply.status != 200 or not isinstance(document, dict):
            raise self.unexpected(reply, f"JSON from {path}")
        return document

    def _failure(self, found: str, expected: str = "an answer", next_step: str | None = None) -> DependencyError:
        advice = next_step or f"Look whether the cluster is up: kubectl --context {self._context} get --raw /readyz."
        return DependencyError(Problem(self.subject, expected, redact(found), advice))

    @cached_property
    def _client(self) -> Any:
        """The client for this context; importing it takes two seconds, so it is not made before it is needed.

        Raises:
            InvalidInputError: the kubeconfig or the context in it cannot be used.
        """
        from kubernetes.client import ApiClient, Configuration
        from kubernetes.config import ConfigException, load_kube_config

        contexts = self._contexts()
        if self._context not in contexts:
            names = ", ".join(contexts) or "none"
            raise self._unusable(f"a context {self._context}", f"contexts: {names}", "Name one of these, or add it.")
        settings = Configuration()
        load: Any = load_kube_config  # untyped
        try:
            load(str(self._kubeconfig), self._context, client_configuration=settings, persist_config=False)
        except (ConfigException, OSError, TypeError, KeyError, ValueError) as error:
            found = redact(f"{type(error).__name__}: {error}")
            raise self._unusable(f"a usable context {self._context}", found, "Correct the file.") from error
        settings.retries = False  # retried here, where writes are told from reads
        return ApiClient(settings)

    def _contexts(self) -> list[str]:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        try:
            document = YAML(typ="safe", pure=True).load(self._kubeconfig.read_text("utf-8"))
            return [str(one["name"]) for one in document["contexts"] or ()]
        except (OSError, ValueError, TypeError, KeyError, YAMLError) as error:
            # Not the error's text: a parser's message shows lines of the file, and tokens stand in it.
            found = f"one that cannot be read ({type(error).__name__})"
            raise self._unusable(
                "a kubeconfig with contexts", found, "Correct INCUMBENT_KUBECONFIG or the file."
            ) from error

    def _unusable(self, expected: str, found: str, next_step: str) -> InvalidInputError:
        return InvalidInputError(Problem(f"kubeconfig {self._kubeconfig}", expected, found, next_step))

    def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        *,
        timeout: float,
        document: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> ApiReply:
        client = self._client
        import urllib3.exceptions as broken
        from kubernetes.client import ApiException

        request = client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", **(headers or {})},
            body=document,
            auth_settings=["BearerToken"],
        )
        started = time.monotonic()
        try:
            answer = client.call_api(*request, _request_timeout=(min(CONNECT_TIMEOUT, timeout), timeout)).response
            body = self._read(answer, started + timeout)
        except (broken.ConnectTimeoutError, broken.NewConnectionError, broken.ProtocolError) as error:
            raise UnansweredError(self._failure(f"{type(error).__name__}: {error}")) from error
        except broken.HTTPError as error:
            raise self._failure(f"{type(error).__name__}: {error}") from error
        except ApiException as error:  # what the client makes of a TLS failure
            raise self._failure(str(error.reason)) from error
        return ApiReply(answer.status, body, time.monotonic() - started)

    def _read(self, answer: Any, deadline: float) -> bytes:
        """The whole body, in time and within the cap; `read1` returns what is there, so a trickle cannot hold us."""
        body = bytearray()
        try:
            while chunk := answer.read1(_CHUNK):
                body += chunk
                if len(body) > _CAP:
                    raise self._failure(f"more than {_CAP} bytes", f"an answer of {_CAP} bytes at most")
                if time.monotonic() > deadline:
                    raise self._failure("an answer that trickles in and does not end in time")
            answer.release_conn()
        except BaseException:
            answer.close()
            raise
        return bytes(body)


def api_path(*parts: str) -> str:
    """A path of the API; no part of it can hold a slash, or be the folder above."""
    if any(part in ("", ".", "..") for part in parts):
        raise InvalidInputError(Problem("a Kubernetes name", "a name", repr(parts), "Correct the name in the policy."))
    return "/" + "/".join(quote(part, safe=":") for part in parts)

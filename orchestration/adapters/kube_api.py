"""One Kubernetes API server: bounded calls that return each answer unchanged.

It is named by a context of a kubeconfig, or it is that of the cluster in whose pod this runs.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from orchestration.adapters.exchange import (
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    TOTAL_TIMEOUT,
    Reply,
    TransientError,
    excerpt,
    exchange,
    media_type,
    read_body,
    time_of_answer,
)
from orchestration.adapters.http import require_plain_url
from orchestration.adapters.importing import importing
from orchestration.adapters.tls_files import TlsFile, TlsFiles
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.redact import redact
from orchestration.promotion.rights import Right

IN_CLUSTER = "in-cluster"
"""In place of a kubeconfig's context: the cluster in whose pod this runs, with the pod's service account. Argo CD calls
its own cluster so, too."""
OWN_SERVER = "https://kubernetes.default.svc"
"""The address of a cluster's API server in its own pods."""
_CAP = 32 * 1024 * 1024
_PAGE = 500
_MAX_PAGES = 40
_CHUNK = 64 * 1024
_QUOTED = re.compile(r"\{.*\}", re.DOTALL)


@dataclass(frozen=True)
class ApiReply(Reply):
    """An answer of the API server, or of a pod behind its proxy."""

    content_type: str = ""
    """In lower case, without parameters."""
    at: float | None = None
    """When it was given by the server's clock, in whole seconds since the epoch; None when it does not say so."""

    @property
    def is_status(self) -> bool:
        """Whether the API server itself answered (`kind: Status`), and not a pod behind its proxy."""
        document = self.document
        return isinstance(document, dict) and document.get("kind") == "Status" and document.get("apiVersion") == "v1"


class ForbiddenError(DependencyError):
    """The API server denies the account a right."""


class KubeApi:
    """The API server of one context, through the official client, which brings TLS, tokens and login plugins.

    The client's models are not used: they refuse what a newer or a slightly wrong server sends, and parsing is the
    core's job.
    """

    def __init__(self, kubeconfig: Path | None, context: str) -> None:
        """Read nothing yet; without a kubeconfig, the pod's service account logs in."""
        self._kubeconfig = kubeconfig
        self._context = context
        self.subject = f"Kubernetes API of context {context}"
        self._place = (
            f"context {context} in {kubeconfig} (INCUMBENT_KUBECONFIG)" if kubeconfig else "the pod's service account"
        )

    def get(self, path: str, query: Mapping[str, str] | None = None) -> ApiReply:
        """Read a path, again after a transient failure; any status is an answer.

        Raises:
            DependencyError: no answer came, or it was too large or too slow.
        """
        return exchange(lambda seconds: self._once("GET", path, query, timeout=min(READ_TIMEOUT, seconds)), repeat=True)

    def send(
        self,
        method: str,
        path: str,
        document: object,
        headers: Mapping[str, str],
        timeout: float = READ_TIMEOUT,
    ) -> ApiReply:
        """Send a JSON document once; any status is an answer.

        Args:
            method: the HTTP method.
            path: the API path, as `api_path` makes it; it may have a query.
            document: the body, which the client encodes as JSON.
            headers: sent beside the client's own.
            timeout: seconds for the whole answer.

        Raises:
            DependencyError: no answer came, or it was too large or too slow.
        """
        return exchange(
            lambda seconds: self._once(
                method, path, None, timeout=min(timeout, seconds), document=document, headers=headers
            ),
            repeat=False,
            total=max(TOTAL_TIMEOUT, timeout),
        )

    def read(self, path: str) -> dict[str, Any] | None:
        """Read one object; None when the API server answers that it does not exist."""
        reply = self.get(path)
        # A 404 without a Status body does not come from an API server.
        if reply.status == 404 and reply.is_status:
            return None
        return self._object(reply, path)

    def items(self, path: str, query: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """Read all objects of a list, page by page.

        When the list changes so much meanwhile that the server gives up the continuation (410), reading starts over,
        once.

        Raises:
            DependencyError: the server does not answer with pages, or never names the last one.
        """
        for last_try in (False, True):
            objects: list[dict[str, Any]] = []
            following = ""
            for _ in range(_MAX_PAGES):
                page = {"limit": str(_PAGE)} | ({"continue": following} if following else {})
                reply = self.get(path, {**(query or {}), **page})
                if reply.status == 410 and following and not last_try:
                    break
                document = self._object(reply, path)
                items = document.get("items") or ()  # an empty list is written as null
                if not isinstance(items, (list, tuple)):
                    raise self.unexpected(reply, f"a list from {path}")
                objects += [item for item in items if isinstance(item, dict)]
                metadata = document.get("metadata")
                following = str(metadata.get("continue") or "") if isinstance(metadata, dict) else ""
                if not following:
                    return objects
            else:
                break
        raise self._failure(f"more than {_MAX_PAGES} pages of {_PAGE}, or a list that keeps changing", path)

    def ready(self) -> None:
        """Raise `DependencyError` unless /readyz says ok."""
        reply = self.get("/readyz")
        if reply.status != 200 or reply.body.strip() != b"ok":  # a page for people to log in comes with 200 as well
            raise self.unexpected(reply, "/readyz to say ok")

    def server_time(self) -> float | None:
        """Ask what time it is there, in whole seconds since the epoch; None when the answer does not say so."""
        return self.get("/readyz").at

    def may(self, right: Right) -> bool | None:
        """Ask whether this context's account has a right (SelfSubjectAccessReview); None when it is not told."""
        attributes = {
            "verb": right.verb,
            "resource": right.resource,
            "group": right.group,
            "subresource": right.subresource,
            "namespace": right.namespace,
            "name": right.name,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = api_path("apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews")
        reply = self.send("POST", path, review, {"Content-Type": "application/json"})
        if reply.status in (403, 404, 405):  # not every account may ask, and not every API server answers
            return None
        if reply.status not in (200, 201):
            raise self.unexpected(reply, "an answer to a SelfSubjectAccessReview")
        document = reply.document
        status = document.get("status") if isinstance(document, dict) else None
        allowed = status.get("allowed") if isinstance(status, dict) else None
        return allowed if isinstance(allowed, bool) else None

    def unexpected(self, reply: ApiReply, expected: str) -> DependencyError:
        """Return the error for an answer that is not the `expected` one; the caller raises it."""
        document = reply.document
        message = document.get("message") if isinstance(document, dict) else None
        text = excerpt(str(message or reply.body.decode("utf-8", "replace")), self.secrets())
        advice = {
            401: f"Renew the login of {self._place}: its token or certificate is refused, or its exec gave none.",
            403: "Give its user the rights that docs/architecture.md lists.",
        }.get(reply.status)
        if reply.status < 400 or (reply.status == 404 and not reply.is_status):
            advice = (
                f"Correct the server of {self._place}: what answers there is no Kubernetes API, but perhaps a proxy."
            )
        return self._failure(f"HTTP {reply.status}: {text}" if text else f"HTTP {reply.status}", expected, advice)

    def _object(self, reply: ApiReply, path: str) -> dict[str, Any]:
        document = reply.document
        if reply.status == 403 and reply.is_status:
            raise ForbiddenError(self.unexpected(reply, f"JSON from {path}").problem)
        if reply.status != 200 or not isinstance(document, dict):
            raise self.unexpected(reply, f"JSON from {path}")
        return document

    def _failure(self, found: str, expected: str = "an answer", next_step: str | None = None) -> DependencyError:
        command = f"kubectl --context {self._context}" if self._kubeconfig else "kubectl"
        advice = next_step or f"Check that the cluster is up: {command} get --raw /readyz."
        return DependencyError(Problem(self.subject, expected, redact(found, self.secrets()), advice))

    def secrets(self) -> Iterator[str]:
        """Yield the texts by which the client logs in at present, which nothing may show."""
        for header in self._client.configuration.api_key.values():
            scheme, _, login = header.partition(" ")
            yield login
            if scheme == "Basic":
                yield base64.b64decode(login).decode().partition(":")[2]

    @cached_property
    def _client(self) -> Any:
        """The client for this context, made when it is first needed, because importing it takes two seconds.

        Raises:
            InvalidInputError: the kubeconfig or the context in it cannot be used, or this runs in no pod.
        """
        with importing:
            from kubernetes.client import ApiClient, Configuration

        settings = Configuration()
        if self._kubeconfig is None:
            _load_service_account(settings)
            client = ApiClient(settings)
        else:
            client = self._client_of(self._kubeconfig, settings)
        self._require_certificates(settings)
        return client

    def _client_of(self, kubeconfig: Path, settings: Any) -> Any:
        """Read the context into the settings, and return a client with them."""
        from kubernetes.client import ApiClient
        from kubernetes.config import load_kube_config

        contexts = _clusters_of_contexts(kubeconfig)
        if self._context not in contexts:
            found, next_step = (
                f"contexts: {', '.join(contexts) or 'none'}",
                "Name one of these, or add the missing one.",
            )
            raise _unusable(kubeconfig, f"a context {self._context}", found, next_step)
        cluster = contexts[self._context]
        require_plain_url(f"the server of {self._place}", str(cluster.get("server") or ""))
        load: Any = load_kube_config  # untyped
        try:
            load(str(kubeconfig), self._context, client_configuration=settings, persist_config=False)
            settings.proxy = cluster.get("proxy-url", settings.proxy)  # the client reads it itself since version 37
            return ApiClient(settings)
        except Exception as error:  # noqa: BLE001 - a plugin that logs in may raise anything, and so may a proxy
            # Without what it quotes of the file: that has the login in it.
            cause = redact(_QUOTED.sub("{...}", f"{type(error).__name__}: {error}"))
            next_step = "Correct the file, or name another one in INCUMBENT_KUBECONFIG."
            raise _unusable(kubeconfig, f"a usable context {self._context}", cause, next_step) from None

    def _require_certificates(self, settings: Any) -> None:
        """Raise `DependencyError` for certificates that cannot be used; the client's own error would name no file."""

        def named(file: str | None, field: str) -> TlsFile | None:
            return TlsFile(Path(file), f"{field} of {self._place}") if file else None

        files = TlsFiles(
            named(settings.ssl_ca_cert if settings.verify_ssl else None, "certificate-authority"),
            named(settings.cert_file, "client-certificate"),
            named(settings.key_file, "client-key"),
        )
        if files != TlsFiles():
            files.context()

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
        import urllib3
        import urllib3.exceptions as broken

        started = time.monotonic()
        sent = {"Accept": "application/json", "User-Agent": client.user_agent, **(headers or {})}
        try:
            # One level below the generated methods, which change their form from version to version.
            login = client.configuration.auth_settings().get("BearerToken")
            answer = client.rest_client.pool_manager.request(
                method,
                f"{client.configuration.host}{path}{f'?{urlencode(query)}' if query else ''}",
                body=None if document is None else json.dumps(document).encode(),
                headers=sent | ({login["key"]: login["value"]} if login else {}),
                timeout=urllib3.Timeout(connect=min(CONNECT_TIMEOUT, timeout), read=timeout),
                retries=False,  # `exchange` repeats reads, and only reads
                preload_content=False,
            )
            body = self._read(answer, started + timeout)
        # None of these errors is kept as the cause: its own text quotes what the server sent, with the secrets in it.
        except (broken.ConnectTimeoutError, broken.NewConnectionError, broken.ProtocolError) as error:
            raise TransientError(self._failure(f"{type(error).__name__}: {error}")) from None
        except broken.SSLError as error:
            next_step = f"Correct certificate-authority, or client-certificate and client-key, of {self._place}."
            raise self._failure(f"SSLError: {error}", next_step=next_step) from None
        except broken.HTTPError as error:
            raise self._failure(f"{type(error).__name__}: {error}") from None
        except ValueError as error:
            raise self._unsendable(error) from None
        content_type, at = media_type(answer.headers.get("Content-Type")), time_of_answer(answer.headers.get("Date"))
        return ApiReply(answer.status, body, time.monotonic() - started, content_type, at)

    def _unsendable(self, error: ValueError) -> DependencyError:
        """Say what of a request could not be sent: the client lets Python's errors through, with a token in them."""
        if isinstance(error, UnicodeEncodeError) and error.encoding == "utf-8":
            return self._failure("a name that is no Unicode text, which cannot be sent")
        found = "a header that cannot be sent, with control characters or characters beyond Latin-1"
        next_step = f"Correct the login of {self._place}, or service.headers in the policy."
        return self._failure(found, next_step=next_step)

    def _read(self, answer: Any, deadline: float) -> bytes:
        # `read1` returns what has arrived, so that the deadline is checked even when bytes only trickle in.
        chunks = iter(lambda: answer.read1(_CHUNK), b"")
        try:
            body = read_body(chunks, cap=_CAP, deadline=deadline, failure=self._failure)
        except BaseException:
            answer.close()
            raise
        answer.release_conn()
        return body


def _load_service_account(settings: Any) -> None:
    """Let the pod's service account log in; its token, which Kubernetes replaces on disk, is read again each minute.

    Raises:
        InvalidInputError: this process runs in no pod, or in one without a token.
    """
    from kubernetes.config import ConfigException, load_incluster_config

    load: Any = load_incluster_config  # untyped
    try:
        load(client_configuration=settings)
    except (ConfigException, OSError) as error:
        raise InvalidInputError(
            Problem(
                f"context {IN_CLUSTER}",
                "a pod with the token of its service account",
                str(error),
                "Name a context of INCUMBENT_KUBECONFIG instead, or set automountServiceAccountToken in the pod.",
            )
        ) from None


def servers_of_contexts(kubeconfig: Path) -> dict[str, str]:
    """Read the contexts of a kubeconfig, and the address of each one's API server; empty when the file has none.

    Raises:
        InvalidInputError: the file cannot be read as a kubeconfig.
    """
    return {name: str(cluster.get("server") or "") for name, cluster in _clusters_of_contexts(kubeconfig).items()}


def _clusters_of_contexts(kubeconfig: Path) -> dict[str, dict[str, Any]]:
    """Read the contexts of a kubeconfig, and what it says about each one's cluster."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        document = YAML(typ="safe", pure=True).load(kubeconfig.read_text("utf-8"))
        clusters = {str(each["name"]): dict(each.get("cluster") or {}) for each in document.get("clusters") or ()}
        names = {
            str(each["name"]): str((each.get("context") or {}).get("cluster")) for each in document["contexts"] or ()
        }
        return {context: clusters.get(name, {}) for context, name in names.items()}
    except OSError as error:
        found = f"a file that cannot be read ({error.strerror or type(error).__name__})"
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, YAMLError):
        found = "something else"  # without the error's text, which quotes lines of the file, with tokens in them
    next_step = "Correct INCUMBENT_KUBECONFIG or the file."
    raise _unusable(kubeconfig, "a kubeconfig with contexts", found, next_step)


def _unusable(kubeconfig: Path, expected: str, found: str, next_step: str) -> InvalidInputError:
    return InvalidInputError(Problem(f"kubeconfig {kubeconfig}", expected, found, next_step))


def api_path(*parts: str) -> str:
    """Join parts to a path of the API, each quoted.

    Raises:
        InvalidInputError: a part is empty, `.` or `..`, which would name another path.
    """
    if any(part in ("", ".", "..") for part in parts):
        raise InvalidInputError(Problem("a Kubernetes name", "a name", repr(parts), "Correct the name in the policy."))
    return "/" + "/".join(quote(part, safe=":") for part in parts)

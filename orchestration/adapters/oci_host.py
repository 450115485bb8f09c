"""One image registry: tokens, passwords, and content verified by its digest."""

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from orchestration.adapters.exchange import Reply
from orchestration.adapters.http import HttpClient, HttpReply
from orchestration.promotion.images import is_digest
from orchestration.promotion.problems import InvalidInputError, Problem

# The distribution specification's own limit for manifests; configs are no larger.
_CAP = 4 * 1024 * 1024
_ABSENT = frozenset({"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN", "NOT_FOUND"})
"""Codes with which a 404 means "no such image" (Harbor says NOT_FOUND); any other 404 is a wrong address."""
_DOCKER_HUB = "registry-1.docker.io"
_DOCKER_HUB_LOGIN = "https://index.docker.io/v1/"
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Login:
    """User and password for one registry."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Content:
    """A JSON document of a registry, with the digest of its bytes."""

    digest: str
    document: Mapping[str, Any]


@dataclass(frozen=True)
class RegistryHost:
    """A registry, or the mirror that is asked instead."""

    base: str
    params: Mapping[str, str]
    login: Login | None
    http: HttpClient
    _tokens: dict[str, str] = field(default_factory=dict, repr=False)
    """Bearer tokens by repository; they live for minutes, so a token that is refused is replaced."""

    @classmethod
    def of(cls, domain: str, mirror: str | None, auths: Mapping[str, Login]) -> "RegistryHost":
        """Describe the registry of a domain.

        Args:
            domain: the registry's host, as image references name it.
            mirror: the address to ask instead; None asks the registry itself.
            auths: logins by host.
        """
        host = _DOCKER_HUB if domain == "docker.io" else domain
        # As Docker and containerd do: plain HTTP for this machine alone.
        local = re.fullmatch(r"(localhost|127(\.\d+){3})(:\d+)?", host) is not None
        base = mirror or f"{'http' if local else 'https'}://{host}"
        login = auths.get(urlsplit(base).netloc) or (
            auths.get(_DOCKER_HUB_LOGIN) if base.endswith(_DOCKER_HUB) else None
        )
        password = (login.password,) if login else ()
        tokens: dict[str, str] = {}
        return cls(
            base=base,
            params={"ns": domain} if mirror else {},
            login=login,
            http=HttpClient(
                f"image registry {domain}" + (f" (mirror {mirror})" if mirror else ""),
                "Check that the registry is up and that it lets this machine in.",
                secrets=lambda: (*password, *tokens.values()),
            ),
            _tokens=tokens,
        )

    def get(self, path: str, what: str, *, digest: str | None, accept: str = "application/json") -> Content | None:
        """Read a JSON document of a repository; None when the registry answers that it does not have it.

        Args:
            path: the repository without its host.
            what: the document's path within the repository, such as `manifests/latest`.
            digest: the digest that the content must have, when it is asked for by digest.
            accept: media types, as the `Accept` header lists them.

        Raises:
            DependencyError: any other answer, or content whose digest is not the one that was asked for or claimed.
        """
        reply = self._let_in(path, what, {"Accept": accept})
        if reply.status == 404 and _error_codes(reply) & _ABSENT:
            return None
        if reply.status in (401, 403):
            advice = f"Log in with `docker login {urlsplit(self.base).netloc}`, or make the image public."
            raise self.http.unexpected(reply, f"access to {path}", advice)
        document = reply.document
        if reply.status != 200 or not isinstance(document, dict):
            raise self.http.unexpected(reply, f"{what} of {path}")
        actual = f"sha256:{hashlib.sha256(reply.body).hexdigest()}"
        # The registry's own claim proves nothing, but content that contradicts it was changed on its way.
        claimed = digest or reply.headers.get("docker-content-digest", "")
        if is_digest(claimed) and claimed != actual:
            raise self.http.failure(f"content with digest {actual}", f"{what} of {path} with digest {claimed}")
        return Content(actual, document)

    def _let_in(self, path: str, what: str, headers: Mapping[str, str]) -> HttpReply:
        """Ask, and when the registry demands a token or a password, ask once more with it."""
        token = self._tokens.get(path)
        reply = self._ask(path, what, {**headers, "Authorization": f"Bearer {token}"} if token else headers)
        if reply.status != 401:
            return reply
        challenge = reply.headers.get("www-authenticate", "")
        if challenge.lower().startswith("basic ") and self.login is not None:
            return self._ask(path, what, headers, self.login)
        if not challenge.lower().startswith("bearer "):
            return reply
        self._tokens[path] = self._new_token(path, dict(_CHALLENGE.findall(challenge)))
        return self._ask(path, what, {**headers, "Authorization": f"Bearer {self._tokens[path]}"})

    def _new_token(self, path: str, challenge: Mapping[str, str]) -> str:
        """Get a token for pulling from the realm that the registry named; an anonymous one without a login."""
        realm = urlsplit(challenge.get("realm", ""))
        if realm.scheme != "https" and not (realm.scheme == "http" and self.base.startswith("http://")):
            raise self.http.failure(f"realm {challenge.get('realm')!r}", "a token server with an https address")
        params = dict(parse_qsl(realm.query))
        params |= {name: challenge[name] for name in ("service",) if name in challenge}
        params |= {"scope": f"repository:{path}:pull"}
        url = urlunsplit((realm.scheme, realm.netloc, realm.path, "", ""))
        auth = (self.login.user, self.login.password) if self.login else None
        reply = self.http.get(url, params=params, auth=auth, cap=_CAP)
        document = reply.document
        token = (document.get("token") or document.get("access_token")) if isinstance(document, dict) else None
        if reply.status != 200 or not isinstance(token, str):
            advice = f"Log in with `docker login {urlsplit(self.base).netloc}`, or make the image public."
            raise self.http.failure(f"HTTP {reply.status} from {realm.netloc}", f"a token to pull {path}", advice)
        return token

    def _ask(self, path: str, what: str, headers: Mapping[str, str], login: Login | None = None) -> HttpReply:
        # Blobs may be stored elsewhere: the client follows redirects, and drops the token when the host changes.
        return self.http.get(
            f"{self.base}/v2/{path}/{what}",
            params=self.params or None,
            headers=headers,
            auth=(login.user, login.password) if login else None,
            cap=_CAP,
            follow_redirects=True,
        )


def read_docker_auths(path: Path | None) -> dict[str, Login]:
    """Read the logins in the `auths` of a Docker `config.json`, by host; credential helpers are not called.

    Args:
        path: the file; None reads the one that `docker login` writes. A missing file holds no logins.

    Raises:
        InvalidInputError: the file exists, but is not in the form that Docker writes.
    """
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    path = path or folder / "config.json"
    try:
        auths = json.loads(path.read_bytes()).get("auths") or {}
        logins = {}
        for host, entry in auths.items():
            user, colon, password = base64.b64decode(entry.get("auth") or "", validate=True).decode().partition(":")
            if colon:
                logins[host] = Login(user, password)
        return logins
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        problem = Problem(
            f"Docker configuration {path}",
            "a JSON file as `docker login` writes it",
            f"a file that cannot be read ({type(error).__name__})",
            "Correct the file, or name another folder in DOCKER_CONFIG.",
        )
        raise InvalidInputError(problem) from error


def _error_codes(reply: Reply) -> set[str]:
    document = reply.document
    errors = document.get("errors") if isinstance(document, dict) else None
    return {str(error.get("code")) for error in errors or () if isinstance(error, dict)}

"""One image registry: tokens, passwords, and content verified by its digest."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urljoin, urlsplit, urlunsplit

from orchestration.adapters.exchange import Reply
from orchestration.adapters.http import HttpClient, HttpReply, next_link
from orchestration.adapters.oci_challenges import Challenge, choose_challenge
from orchestration.adapters.oci_logins import SETTING, Login, Logins
from orchestration.promotion.images import is_digest
from orchestration.promotion.problems import RateLimitedError

INDEX = "application/vnd.oci.image.index.v1+json"
_ACCEPT = ", ".join(
    (
        INDEX,
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
# The distribution specification's own limit for manifests; configs are no larger.
_CAP = 4 * 1024 * 1024
_ABSENT = frozenset({"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "TAG_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN"}) | {
    "NOT_FOUND",  # Harbor's code, and JFrog's message
    "RESOURCE_NOT_FOUND",
}
"""Codes, or messages in their place, with which a 404 means "no such image"."""
_DOCKER_HUB = "registry-1.docker.io"
_REFUSED = frozenset({400, 401, 403})
"""How registries answer a token that has expired: ECR says 400, others 403 (distribution-spec says 401)."""
_UNSUPPORTED = frozenset({400, 405, 406, 501})
"""What registries without referrers say beside 404, as go-containerregistry takes it."""
_NO_REGISTRY = "Correct the registry's name in the policy, or its mirror in INCUMBENT_OCI_MIRRORS."
_PAUSE_SECONDS = 60.0
"""How long to leave a registry alone that limits us and does not say for how long."""


@dataclass(frozen=True)
class Content:
    """A document of a registry, with the digest of its bytes."""

    digest: str
    body: bytes = field(repr=False)
    document: Mapping[str, Any]
    link: str = ""
    """The header `Link`, which says where a list goes on."""


@dataclass(frozen=True)
class _Access:
    """What lets us into one repository, and what it answers."""

    authorization: str = field(repr=False)
    challenge: Challenge


@dataclass(frozen=True)
class RegistryHost:
    """A registry, or the mirror that is asked instead."""

    base: str
    params: Mapping[str, str]
    logins: Logins
    http: HttpClient
    _access: dict[str, _Access] = field(default_factory=dict, repr=False)
    """By repository. Tokens live for minutes and a helper's passwords for hours, so what is refused is replaced."""
    _secrets: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    """By repository: what no error may show."""

    @classmethod
    def of(cls, domain: str, mirror: str | None, logins: Logins) -> "RegistryHost":
        """Describe the registry of a domain.

        Args:
            domain: the registry's host, as image references name it.
            mirror: the address to ask instead; None asks the registry itself.
            logins: the logins of this machine.
        """
        host = _DOCKER_HUB if domain == "docker.io" else domain
        # As Docker and containerd do: plain HTTP for this machine alone.
        local = _is_local(host.partition(":")[0])
        secrets: dict[str, tuple[str, ...]] = {}
        return cls(
            base=mirror or f"{'http' if local else 'https'}://{host}",
            params={"ns": domain} if mirror else {},
            logins=logins,
            http=HttpClient(
                f"image registry {domain}" + (f" (mirror {mirror})" if mirror else ""),
                "Check that the registry is up and that it lets this machine in.",
                secrets=lambda: [secret for each in secrets.values() for secret in each],
                plain_step=f"If it has no TLS, say so in INCUMBENT_OCI_MIRRORS: {domain}=http://{host}.",
            ),
            _secrets=secrets,
        )

    def manifest(self, path: str, name: str) -> Content | None:
        """Read the manifest or the index that a tag or a digest names; None when there is none."""
        return self.get(path, f"manifests/{name}", digest=name if is_digest(name) else None, accept=_ACCEPT)

    def get(
        self,
        path: str,
        what: str,
        *,
        digest: str | None,
        accept: str = "application/json",
        or_unsupported: bool = False,
        query: Mapping[str, str] | None = None,
    ) -> Content | None:
        """Read a JSON document of a repository; None when the registry answers that it does not have it.

        Args:
            path: the repository without its host.
            what: the document's path within the repository, such as `manifests/latest`.
            digest: the digest that the content must have, when it is asked for by digest.
            accept: media types, as the `Accept` header lists them.
            or_unsupported: whether None is also the answer of a registry that does not know this kind of question.
            query: what is asked besides, such as for the next page of a list.

        Raises:
            RateLimitedError: the registry wants to be asked later.
            DependencyError: any other answer, or content whose digest is not the one that was asked for or claimed.
        """
        reply = self._let_in(path, what, {"Accept": accept}, query or {})
        if reply.status == 404:
            if _said(reply) & _ABSENT or self._is_registry():
                return None
            raise self.http.unexpected(reply, f"an image registry at {self.base}/v2/", _NO_REGISTRY)
        if or_unsupported and reply.status in _UNSUPPORTED:
            return None
        if reply.status == 429:
            raise self._limited(reply, f"{what} of {path}")
        if reply.status in (401, 403):
            raise self.http.unexpected(reply, f"access to {path}", self._how_to_get_in(path))
        document = reply.document
        if reply.status != 200 or not isinstance(document, dict):
            raise self.http.unexpected(reply, f"{what} of {path}", _NO_REGISTRY if reply.status < 400 else None)
        actual = f"sha256:{hashlib.sha256(reply.body).hexdigest()}"
        # The registry's own claim proves nothing, but content that contradicts it was changed on its way.
        claimed = digest or reply.headers.get("docker-content-digest", "")
        if is_digest(claimed) and claimed != actual:
            raise self.http.failure(f"content with digest {actual}", f"{what} of {path} with digest {claimed}")
        return Content(actual, reply.body, document, reply.headers.get("link", ""))

    def referrers(self, path: str, digest: str, pages: int) -> tuple[list[Content], str]:
        """Read what the registry says refers to a manifest, by the distribution specification's "Listing Referrers".

        Args:
            path: the repository without its host.
            digest: the manifest's digest.
            pages: how many pages are read at most.

        Returns:
            The pages, none when the registry has no such list, and why there are more of them that were not read; empty
            when these are all.
        """
        what, query, read = f"referrers/{digest}", dict[str, str](), list[Content]()
        while len(read) < pages:
            page = self.get(path, what, digest=None, accept=INDEX, or_unsupported=True, query=query)
            if page is None:
                return read, "a page of referrers that is gone" if read else ""
            read.append(page)
            target = next_link(page.link)
            if target is None:
                return read, ""
            own = f"{self.base}/v2/{path}/{what}"
            try:
                there, here = urlsplit(urljoin(own, target)), urlsplit(own)
            except ValueError:
                return read, "a next page of referrers at no address"
            # Of the address only the query is taken, because a mirror's prefix need not be in it.
            if there.netloc != here.netloc or not unquote(there.path).endswith(f"/{what}"):
                return read, "a next page of referrers at another address"
            query = dict(parse_qsl(there.query, keep_blank_values=True))
        return read, f"more than {pages} pages of referrers"

    def _is_registry(self) -> bool:
        """Whether the address is that of a registry (the distribution specification's end-1).

        A 404 with a web page, or with nothing, comes from a registry's proxy, or from a server that is no registry.
        """
        reply = self.http.get(f"{self.base}/v2/", params=self.params or None)
        if reply.status == 200:
            return "docker-distribution-api-version" in reply.headers or reply.document is not None
        return reply.status == 401 and choose_challenge(reply.headers.get("www-authenticate", "")) is not None

    def _let_in(self, path: str, what: str, headers: Mapping[str, str], query: Mapping[str, str]) -> HttpReply:
        """Ask, and once more with a new token or password when the registry demands one, or refuses the one we had."""
        access = self._access.get(path)
        reply = self._ask(path, what, headers, query, access)
        if reply.status != 401 and (access is None or reply.status not in _REFUSED):
            return reply
        challenge = choose_challenge(reply.headers.get("www-authenticate", "")) or (
            access.challenge if access else None
        )
        renewed = self._answer(path, challenge) if challenge else None
        if renewed is None:
            return reply
        self._access[path] = renewed
        return self._ask(path, what, headers, query, renewed)

    def _answer(self, path: str, challenge: Challenge) -> _Access | None:
        """Return what lets us in by a challenge; None when that needs a login and there is none."""
        login = self._login(path)
        if login and login.registry_token:
            return _Access(f"Bearer {login.registry_token}", challenge)
        if challenge.scheme == "bearer":
            token = self._new_token(path, challenge.parameters, login)
            self._secrets[path] += (token,)
            return _Access(f"Bearer {token}", challenge)
        return _Access(login.basic, challenge) if login and login.password else None

    def _login(self, path: str) -> Login | None:
        login = self.logins.find(f"{self.base.partition('://')[2]}/{path}")
        self._secrets[path] = login.secrets if login else ()
        return login

    def _new_token(self, path: str, challenge: Mapping[str, str], login: Login | None) -> str:
        """Get a token for pulling from the realm that the registry named; an anonymous one without a login.

        By the distribution project's documents "Token Authentication" and, for an identity token, "OAuth2".
        """
        realm = self._realm(challenge["realm"], login)
        params = dict(parse_qsl(realm.query)) | {"scope": f"repository:{path}:pull"}
        params |= {name: challenge[name] for name in ("service",) if name in challenge}
        url = urlunsplit((realm.scheme, realm.netloc, realm.path, "", ""))
        if login and login.identity_token:
            grant = {"grant_type": "refresh_token", "refresh_token": login.identity_token, "client_id": "incumbent"}
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            reply = self.http.read_by_post(url, urlencode(params | grant).encode(), form)
        else:
            reply = self.http.get(url, params=params, headers={"Authorization": login.basic} if login else None)
        document = reply.document
        token = (document.get("token") or document.get("access_token")) if isinstance(document, dict) else None
        if reply.status == 429:
            raise self._limited(reply, f"a token to pull {path}")
        if reply.status != 200 or not isinstance(token, str):
            found = f"HTTP {reply.status} from {realm.netloc}"
            advice = None if reply.status >= 500 else self._how_to_get_in(path, login)
            raise self.http.failure(found, f"a token to pull {path}", advice)
        return token

    def _realm(self, text: str, login: Login | None) -> SplitResult:
        """Return the token server's address; over plain HTTP, a login is sent to no other host than the registry's."""
        own = urlsplit(self.base)
        try:
            realm = urlsplit(text)
            usable = bool(realm.hostname) and "@" not in realm.netloc and realm.port != 0
        except ValueError:
            realm, usable = own, False
        if not usable or (realm.scheme != "https" and not (realm.scheme == own.scheme == "http")):
            raise self.http.failure(f"realm {text!r}", "a token server with an https address")
        is_own = realm.hostname == own.hostname or (_is_local(realm.hostname) and _is_local(own.hostname))
        if login and realm.scheme == "http" and not is_own:
            advice = f"Give the token server an https address, or remove this registry's login from {SETTING}."
            raise self.http.failure(f"realm {text!r}", "a token server with an https address for the login", advice)
        return realm

    def _how_to_get_in(self, path: str, login: Login | None = None) -> str:
        login = login or self._login(path)
        host = urlsplit(self.base).netloc
        if login is None:
            step = f"Log in with `docker login {host}`, or name a file with a login in {SETTING}, or make it public."
        else:
            step = f"Let {login.owner} pull {path}, or log in again with `docker login {host}` (setting {SETTING})."
        # As ghcr.io, Docker Hub and ECR do, so that nobody learns which private names there are.
        return f"{step} If it was never pushed, push it: registries may answer the same for what does not exist."

    def _limited(self, reply: HttpReply, expected: str) -> RateLimitedError:
        seconds = _PAUSE_SECONDS if reply.retry_after is None else reply.retry_after
        advice = f"No action needed: it is asked again after {seconds:g} s. To raise the limit, log in ({SETTING})."
        return RateLimitedError(self.http.unexpected(reply, expected, advice).problem, seconds)

    def _ask(
        self, path: str, what: str, headers: Mapping[str, str], query: Mapping[str, str], access: _Access | None
    ) -> HttpReply:
        # Blobs may be stored elsewhere: the client follows redirects, and drops the token when the host changes.
        return self.http.get(
            f"{self.base}/v2/{path}/{what}",
            params={**query, **self.params} or None,
            headers={**headers, "Authorization": access.authorization} if access else headers,
            cap=_CAP,
            follow_redirects=True,
        )


def _is_local(host: str | None) -> bool:
    return re.fullmatch(r"localhost|127(\.\d+){3}", host or "") is not None


def _said(reply: Reply) -> set[str]:
    """Return the codes and messages of an error, in the form of the specification's codes."""
    document = reply.document
    errors = document.get("errors") if isinstance(document, dict) else None
    each = errors if isinstance(errors, list) else [document]
    texts = (str(error.get(key)) for error in each if isinstance(error, dict) for key in ("code", "message"))
    return {re.sub(r"[\s-]+", "_", text.strip().upper()) for text in texts}

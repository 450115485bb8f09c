"""How Prometheus, or a server with its HTTP API, lets us in: logins, headers, TLS, and parameters of each query."""

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from orchestration.adapters.importing import importing
from orchestration.adapters.paths import path_of
from orchestration.adapters.secret_files import read_secret
from orchestration.adapters.tls_files import TlsFile, TlsFiles
from orchestration.promotion.http_headers import UNSENDABLE
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem

if TYPE_CHECKING:
    from botocore.credentials import Credentials

LOGINS = "PROMETHEUS_TOKEN_FILE, PROMETHEUS_USERNAME with PROMETHEUS_PASSWORD_FILE, or PROMETHEUS_SIGV4_REGION"
_SIGV4_SERVICE = "aps"
"""What Amazon Managed Service for Prometheus is called in a signature."""
_OWN_PARAMETERS = ("query", "time", "nocache")
"""The last keeps VictoriaMetrics from answering with old evidence."""
_LOGIN_HEADERS = frozenset(("authorization", "cookie", "proxy-authorization"))
_OWN_HEADERS = UNSENDABLE | {"accept-encoding"}
_LEAST = 8
"""Characters of a header or a parameter that may be a secret; shorter ones, such as `true`, are words of any text."""


@dataclass(frozen=True)
class Access:
    """How to ask. Made by `parse_access`."""

    token_file: Path | None = None
    username: str = ""
    password_file: Path | None = None
    sigv4_region: str = ""
    """The AWS region to sign requests for; the keys are those that AWS's own tools would take."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What is sent besides, such as the tenant in `X-Scope-OrgID`."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """What is sent with each query, such as Thanos's `partial_response=false`."""
    tls: TlsFiles | None = None
    """None for the authorities that this machine trusts."""

    def headers_for(self, url: str, body: bytes) -> Mapping[str, str]:
        """Return the headers of one request; secrets are read each time, because they are rotated.

        Raises:
            DependencyError: a file cannot be read, or is empty; or AWS's keys cannot be had.
        """
        headers = {"Content-Type": "application/x-www-form-urlencoded", **self.headers}
        if self.token_file is not None:
            return {**headers, "Authorization": f"Bearer {_token(self.token_file)}"}
        if self.password_file is not None:
            return {**headers, "Authorization": f"Basic {_pair(self.username, _password(self.password_file))}"}
        if self.sigv4_region:
            return sign(self._aws_keys(), self.sigv4_region, url, body, headers)
        return headers

    def secrets(self) -> tuple[str, ...]:
        """Return the texts that no error may show; those of files only while these can be read."""
        sent = (*self.headers.values(), *self.parameters.values())
        return (*self._login_secrets(), *(value for value in sent if len(value) >= _LEAST))

    def _login_secrets(self) -> tuple[str, ...]:
        try:
            if self.token_file is not None:
                return (_token(self.token_file),)
            if self.password_file is not None:
                password = _password(self.password_file)
                return _pair(self.username, password), password
            if self.sigv4_region:
                keys = self._aws_keys().get_frozen_credentials()
                return tuple(filter(None, (keys.secret_key, keys.token)))
        except DependencyError:
            pass
        return ()

    def _aws_keys(self) -> "Credentials":
        with importing:
            from botocore.exceptions import BotoCoreError

        try:
            if (keys := self._aws_chain) is None:
                raise _no_aws_keys("no keys")
            keys.get_frozen_credentials()  # those of a role are renewed here
        except BotoCoreError as error:
            raise _no_aws_keys(f"{type(error).__name__}: {error}") from None
        return keys

    @cached_property
    def _aws_chain(self) -> "Credentials | None":
        with importing:
            from botocore.session import Session

        return Session().get_credentials()


ANYONE = Access()
"""For a server that asks for nothing."""


def sign(keys: "Credentials", region: str, url: str, body: bytes, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with AWS's signature (version 4) of a POST to Amazon's Prometheus."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    request = AWSRequest("POST", url, dict(headers), body)
    SigV4Auth(keys, _SIGV4_SERVICE, region).add_auth(request)
    return dict(request.headers.items())


def parse_access(
    *,
    token_file: str = "",
    username: str = "",
    password_file: str = "",
    sigv4_region: str = "",
    headers: str = "",
    parameters: str = "",
    ca_file: str = "",
    client_cert_file: str = "",
    client_key_file: str = "",
) -> Access:
    """Read the settings, which are called `PROMETHEUS_` and the name of the argument; none of them need be set.

    Args:
        token_file: a file with a bearer token.
        username: a user, and
        password_file: a file with the user's password.
        sigv4_region: the AWS region to sign requests for.
        headers: such as `X-Scope-OrgID=team-a,X-Other=b`.
        parameters: PROMETHEUS_QUERY_PARAMETERS, such as `partial_response=false,dedup=true`.
        ca_file: the authorities that may have signed the server's certificate.
        client_cert_file: our own certificate, and
        client_key_file: its key, where that is not in the same file.

    Raises:
        InvalidInputError: they contradict each other, or cannot be used.
    """
    logins = {
        "PROMETHEUS_TOKEN_FILE": token_file,
        "PROMETHEUS_USERNAME or PROMETHEUS_PASSWORD_FILE": username or password_file,
        "PROMETHEUS_SIGV4_REGION": sigv4_region,
    }
    set_ones = [name for name, value in logins.items() if value]
    if len(set_ones) > 1:
        found = f"both {' and '.join(set_ones)}"
        raise _refused("the login of Prometheus", "one way to log in", found, "Unset one of them.")
    if bool(username) != bool(password_file):
        found = "only one of PROMETHEUS_USERNAME and PROMETHEUS_PASSWORD_FILE"
        raise _refused("the login of Prometheus", "a user and a password", found, "Set both.")
    if ":" in username or not username.isprintable():
        found = "a colon or a control character, which no login can have"
        raise _refused("setting PROMETHEUS_USERNAME", "the name of a user", found, "Correct it.")
    if sigv4_region and not re.fullmatch(r"[a-z0-9-]+", sigv4_region):
        expected = "an AWS region such as eu-central-1"
        raise _refused("setting PROMETHEUS_SIGV4_REGION", expected, repr(sigv4_region), "Correct it.")
    if client_key_file and not client_cert_file:
        found = "PROMETHEUS_CLIENT_KEY_FILE alone"
        raise _refused("the certificate for Prometheus", "a certificate and its key", found, "Set both.")
    if sigv4_region:
        _require_botocore()
    tls = TlsFiles(
        _tls_file(ca_file, "PROMETHEUS_CA_FILE"),
        _tls_file(client_cert_file, "PROMETHEUS_CLIENT_CERT_FILE"),
        _tls_file(client_key_file, "PROMETHEUS_CLIENT_KEY_FILE"),
    )
    return Access(
        _path(token_file, "PROMETHEUS_TOKEN_FILE"),
        username,
        _path(password_file, "PROMETHEUS_PASSWORD_FILE"),
        sigv4_region,
        _once("PROMETHEUS_HEADERS", map(_header, _entries(headers)), str.lower),
        _once("PROMETHEUS_QUERY_PARAMETERS", map(_parameter, _entries(parameters)), str),
        tls if tls != TlsFiles() else None,
    )


def _path(text: str, setting: str) -> Path | None:
    return path_of(text, setting) if text else None


def _tls_file(text: str, setting: str) -> TlsFile | None:
    return TlsFile(path_of(text, setting), setting) if text else None


def _entries(text: str) -> list[str]:
    return [entry for piece in text.split(",") if (entry := piece.strip())]


def _header(entry: str) -> tuple[str, str]:
    name, value = (side.strip() for side in entry.partition("=")[::2])
    usable = re.fullmatch(r"[A-Za-z0-9_-]+", name) and value and value.isprintable()
    next_step = "Correct that entry."
    if name.lower() in _LOGIN_HEADERS:
        next_step = f"Remove it: {LOGINS} are for logins, and a proxy's login is part of HTTPS_PROXY."
    elif name.lower() == "host":
        next_step = "Remove it, and write that name into PROMETHEUS_URL."
    elif name.lower() in _OWN_HEADERS:
        next_step = "Remove it: the client writes it itself."
    elif usable and value.isascii():
        return name, value
    found = f"the entry for {name!r}"  # not its value, which may be a secret
    raise _refused("setting PROMETHEUS_HEADERS", "NAME=VALUE,NAME=VALUE, without a login", found, next_step)


def _parameter(entry: str) -> tuple[str, str]:
    name, equals, value = entry.partition("=")
    if re.fullmatch(r"[A-Za-z0-9_.\[\]-]+", name) and equals and value.isprintable() and name not in _OWN_PARAMETERS:
        return name, value
    expected = f"NAME=VALUE,NAME=VALUE, without {', '.join(_OWN_PARAMETERS)}"
    raise _refused("setting PROMETHEUS_QUERY_PARAMETERS", expected, f"the entry for {name!r}", "Correct that entry.")


def _once(name: str, entries: Iterable[tuple[str, str]], as_key: Callable[[str], str]) -> dict[str, str]:
    """Return the entries of a list by their names, of which none may be there twice: one of them would be left out."""
    found: dict[str, str] = {}
    known: set[str] = set()
    for entry, value in entries:
        if as_key(entry) in known:
            raise _refused(f"setting {name}", "each name once", f"two entries for {entry!r}", "Leave one of them.")
        known.add(as_key(entry))
        found[entry] = value
    return found


def _token(file: Path) -> str:
    return read_secret(file, "the token of Prometheus", "PROMETHEUS_TOKEN_FILE")


def _password(file: Path) -> str:
    return read_secret(file, "the password of Prometheus", "PROMETHEUS_PASSWORD_FILE", "utf-8")


def _pair(username: str, password: str) -> str:
    """Return user and password as basic authentication has them."""
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def _require_botocore() -> None:
    try:
        import botocore  # noqa: F401 - only whether it is there
    except ImportError:
        raise _refused(
            "setting PROMETHEUS_SIGV4_REGION",
            "botocore, which signs the requests",
            "no such package",
            "Install it: pip install 'incumbent[aws]'.",
        ) from None


def _no_aws_keys(found: str) -> DependencyError:
    return DependencyError(
        Problem(
            "the keys for Amazon's Prometheus",
            "keys of an AWS account, because PROMETHEUS_SIGV4_REGION is set",
            found,
            "Set AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or let the pod have a role.",
        )
    )


def _refused(subject: str, expected: str, found: str, next_step: str) -> InvalidInputError:
    return InvalidInputError(Problem(subject, expected, found, next_step))

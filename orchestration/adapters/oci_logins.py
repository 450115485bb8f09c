"""Logins for image registries, as Docker, Podman and the kubelet keep them: files, and programs that know more."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from orchestration.adapters.paths import at_home, path_of
from orchestration.promotion.images import registry_host
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.redact import redact

SETTING = "INCUMBENT_OCI_LOGIN_FILE"
_HELPER_SECONDS = 20.0
"""A helper may have to ask a cloud for a new password."""
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DOCKER_HUB = "docker.io"
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
"""What Docker calls its own registry in files, and when it asks a helper."""
_NOT_FOUND = "credentials not found in native keychain"  # as docker-credential-helpers says it
_TOKEN_USER = "<token>"  # noqa: S105 - with this name, a helper's secret is an identity token
_PARTS = {"auths": dict, "credHelpers": dict, "credsStore": str}
"""Where a file may have logins, and in which form; null is as good as absent."""
_OF_AN_ENTRY = frozenset(("auth", "username", "password", "email", "identitytoken", "registrytoken"))
"""Of which an entry says something, unless it is empty because a store has its password."""
_REGISTRY = re.compile(r"(https?://)?(localhost|[^/]*[.:*][^/]*)(/.*)?")
_MANIFEST = re.compile(rb"(?:^|[{,])\s*\"?kind\"?\s*:\s*\"?Secret\b", re.MULTILINE)
_KUBECTL = (
    "Write what is in it to the file: kubectl get secret NAME -o jsonpath='{.data.\\.dockerconfigjson}' | base64 -d, "
    "or mount it and name its file .dockerconfigjson"
)


@dataclass(frozen=True)
class Login:
    """User and password for a registry, or a token in their place."""

    user: str
    password: str = field(repr=False)
    identity_token: str = field(default="", repr=False)
    """For which the registry's token server gives a token."""
    registry_token: str = field(default="", repr=False)
    """Which the registry takes as it is."""

    @property
    def owner(self) -> str:
        """Whose login it is, in words."""
        if self.registry_token or self.identity_token:
            return f"the account of the {'registry' if self.registry_token else 'identity'} token"
        return f"user {self.user}"

    @property
    def basic(self) -> str:
        """The value of the header `Authorization` with user and password."""
        pair = f"{self.user}:{self.password}".encode("utf-8", "surrogateescape")
        return f"Basic {base64.b64encode(pair).decode()}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no error may show."""
        return tuple(filter(None, (self.password, self.identity_token, self.registry_token)))


class Logins:
    """The logins of this machine, read again at each question: a mounted Secret changes, and passwords expire."""

    def __init__(self, file: Path | None = None) -> None:
        """Read the files once, so that an unusable one is noticed at the start.

        Args:
            file: the only file to read; None reads those that Docker and Podman read (docs/registries.md).

        Raises:
            InvalidInputError: a file is not in the form that Docker writes, or one that a setting names is missing.
        """
        self._file = file
        for _ in self._contents():
            pass

    def find(self, name: str) -> Login | None:
        """Return the login for a repository, `host/path`; None when nothing has one.

        Raises:
            InvalidInputError: a file cannot be read.
            DependencyError: the entry for this repository is broken, or its helper fails.
        """
        name = _canonical(name)
        return next(filter(None, (_login_of(path, content, name) for path, content in self._contents())), None)

    def _contents(self) -> Iterator[tuple[Path, Mapping[str, Any]]]:
        named = self._file or _path_in("REGISTRY_AUTH_FILE")
        for path in [named] if named else _usual_files():
            content = _read(path, must_exist=named is not None)
            if content is not None:
                yield path, content


def _usual_files() -> Iterator[Path]:
    """Yield the files that Docker and Podman read: one that is named in DOCKER_CONFIG comes first."""
    home = _home()
    docker = _path_in("DOCKER_CONFIG")
    if docker is not None:
        yield docker / "config.json"
    runtime = _path_in("XDG_RUNTIME_DIR")
    yield runtime / "containers/auth.json" if runtime else Path(f"/run/containers/{os.getuid()}/auth.json")
    own = _path_in("XDG_CONFIG_HOME") or (home and home / ".config")
    if own is not None:
        yield own / "containers/auth.json"
    if home is not None and docker is None:
        yield home / ".docker/config.json"
    if home is not None:
        yield home / ".dockercfg"


def _home() -> Path | None:
    """Return the home folder; None for an account without one, as a container may run under any number."""
    try:
        return at_home("~")
    except OSError:
        return None


def _path_in(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return path_of(value, variable) if value else None


def _read(path: Path, *, must_exist: bool) -> Mapping[str, Any] | None:
    """Return what a file says, in today's form; None for a file that may be missing and is."""

    def refuse(found: str, next_step: str) -> InvalidInputError:
        expected = "a JSON file as `docker login` or `podman login` writes it"
        return InvalidInputError(Problem(f"registry logins {path}", expected, found, next_step))

    other = f"or name another file in {SETTING}."
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if must_exist:
            raise refuse("no such file", f"Correct {SETTING} (or REGISTRY_AUTH_FILE), or write the file.") from None
        return None
    except OSError as error:
        found = f"a file that cannot be read ({error.strerror or type(error).__name__})"
        raise refuse(found, f"Correct the file, {other}") from None
    if _MANIFEST.search(content):
        raise refuse("a manifest of a Kubernetes Secret", f"{_KUBECTL}, {other}")
    try:
        document = json.loads(content) if content.strip() else {}  # Docker takes an empty file for one without logins
    except (ValueError, RecursionError):
        found = "base64 of a file" if _is_encoded(content) else "something else than JSON"
        raise refuse(found, f"{'Decode it: base64 -d' if _is_encoded(content) else 'Log in again'}, {other}") from None
    found = _other_form(document, must_say_where=must_exist)
    if found:
        raise refuse(found, f"Log in again: docker login HOST, {other}")
    return {"auths": document} if _is_dockercfg(document) else document


def _is_encoded(content: bytes) -> bool:
    """Whether a text is the value of a Secret's `.dockerconfigjson`, which is base64 of the file."""
    try:
        return base64.b64decode(b"".join(content.split()), validate=True).lstrip().startswith(b"{")
    except ValueError:
        return False


def _other_form(document: Any, *, must_say_where: bool) -> str:
    """Say in which other form a document is; empty for one in today's form or in that of `.dockercfg`.

    Args:
        document: The file's content.
        must_say_where: Whether it must have a place for logins. Docker's own file has none where nobody has logged in.
    """
    if not isinstance(document, dict):
        return f"JSON that is no object ({type(document).__name__})"
    for part, form in _PARTS.items():
        if document.get(part) is not None and not isinstance(document[part], form):
            return f"{part} that is no {'object' if form is dict else 'text'}"
    if not all(isinstance(helper, str) for helper in (document.get("credHelpers") or {}).values()):
        return "credHelpers of which one names no helper"
    if must_say_where and document and not _PARTS.keys() & document.keys() and not _is_dockercfg(document):
        return f"an object with none of {', '.join(_PARTS)}"
    return ""


def _is_dockercfg(document: Mapping[str, Any]) -> bool:
    """Whether a file is in the form of `.dockercfg`: the entries of `auths` alone, as in `kubernetes.io/dockercfg`."""
    return bool(document) and all(
        _REGISTRY.fullmatch(key) and isinstance(entry, dict) and (not entry or _OF_AN_ENTRY & entry.keys())
        for key, entry in document.items()
    )


def _login_of(path: Path, content: Mapping[str, Any], name: str) -> Login | None:
    """Find a repository's login in one file: by the helper of its host, by the longest entry, by the file's store."""
    host = name.partition("/")[0]
    asked = _DOCKER_HUB_KEY if host == _DOCKER_HUB else host
    for key, helper in (content.get("credHelpers") or {}).items():
        if _canonical(key) == host and (login := _ask_helper(path, helper, asked)):
            return login
    for key, entry in sorted((content.get("auths") or {}).items(), key=lambda item: _rank(item[0], name), reverse=True):
        if _rank(key, name) == 0:
            break
        login = _entry_login(path, key, entry)
        if login is not None:
            return login
    if content.get("credsStore"):
        return _ask_helper(path, content["credsStore"], asked)
    return None


def _canonical(key: str) -> str:
    """Return a file's key as a repository's name or the beginning of one; Docker Hub has several names."""
    host, slash, path = re.sub(r"^https?://", "", key).rstrip("/").partition("/")
    host = registry_host(host)
    return host if path in ("", "v1", "v2") else f"{host}{slash}{path}"


def _rank(key: str, name: str) -> int:
    """Return how closely a file's key fits a repository's name; 0 when it does not.

    The longest path wins, as in containers-auth.json(5); after it the host itself, a host with wildcards as the kubelet
    takes it, and last an address with any path, of which Docker takes the host alone.
    """
    own = _canonical(key)
    host, slash, path = own.partition("/")
    wanted = name.partition("/")[0]
    if slash and (name == own or name.startswith(f"{own}/")):
        return 3 + own.count("/")
    if host == wanted:
        return 3 if not slash else 1 if key.startswith(("http://", "https://")) else 0
    return 2 if not path and "*" in host and _fits_wildcards(host, wanted) else 0


def _fits_wildcards(pattern: str, host: str) -> bool:
    """Whether a host fits a pattern such as `*.dkr.ecr.*.amazonaws.com`; a wildcard stands for one part at most."""
    patterns, parts = pattern.split("."), host.split(".")
    return len(patterns) == len(parts) and all(map(fnmatchcase, parts, patterns))


def _entry_login(path: Path, key: str, entry: object) -> Login | None:
    """Read one entry of `auths`; None for an empty one, whose password is in a store."""
    if not isinstance(entry, dict):
        raise _broken_entry(path, key, "another value")
    tokens = str(entry.get("identitytoken") or ""), str(entry.get("registrytoken") or "")
    encoded = "".join(str(entry.get("auth") or "").split())
    if not encoded:
        user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
        return Login(user, password, *tokens) if (user and password) or any(tokens) else None
    try:
        pair = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        raise _broken_entry(path, key, "an auth that is not base64") from None
    user, colon, password = pair.decode("utf-8", "surrogateescape").partition(":")
    if not colon:
        raise _broken_entry(path, key, "an auth without a colon")
    return Login(user, password.strip("\0"), *tokens)


def _broken_entry(path: Path, key: str, found: str) -> DependencyError:
    expected = "its auth to be base64 of USER:PASSWORD, or username and password"
    return DependencyError(Problem(f"entry {key} of {path}", expected, found, f"Log in again: docker login {key}."))


def _ask_helper(path: Path, helper: object, server: str) -> Login | None:
    """Ask a credential helper by its protocol: the server's name on its input, JSON or an error on its output.

    None when it has no login, which it may also say by an empty user and an empty secret.
    """
    program = f"docker-credential-{helper}"

    def failure(found: str, next_step: str) -> DependencyError:
        subject = f"credential helper {program}, which {path} names"
        return DependencyError(Problem(subject, f"a login for {server}", redact(found), next_step))

    other = f"or name a file without it in {SETTING}."
    found = shutil.which(program) if isinstance(helper, str) and _HELPER_NAME.fullmatch(helper) else None
    if found is None:
        raise failure("no such program on PATH", f"Install it where the pipeline runs, {other}")
    try:
        status, output, error = _run_helper([found, "get"], server)
    except OSError as refused:
        said = refused.strerror or type(refused).__name__
        raise failure(f"a program that cannot be run ({said})", f"Install it anew, {other}") from None
    said = output.decode("utf-8", "replace").strip()
    if status is None:
        raise failure(
            f"no answer within {_HELPER_SECONDS:g} s", f"Run `echo {server} | {program} get` to see why, {other}"
        )
    if status != 0:
        if said == _NOT_FOUND:
            return None
        shown = " ".join(f"{said} {error.decode('utf-8', 'replace')}".split())[:300]
        raise failure(f"exit code {status}: {shown}", f"Log in with that helper's own program, {other}")
    try:
        answer = json.loads(output)
        user, secret = (str(answer[part] or "") for part in ("Username", "Secret"))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise failure("an answer without Username and Secret", f"Correct the helper, {other}") from None
    if not secret and user in ("", _TOKEN_USER):
        return None
    return Login("", "", secret) if user == _TOKEN_USER else Login(user, secret)


def _run_helper(command: list[str], question: str) -> tuple[int | None, bytes, bytes]:
    """Run a helper in a session of its own, all of which ends with its time: a wrapper's child may keep the pipes."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(  # noqa: S603 - a program of PATH, which the person's own file names
        command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
    )
    try:
        output, error = process.communicate(question.encode(), timeout=_HELPER_SECONDS)
        return process.returncode, output, error
    except subprocess.TimeoutExpired:
        return None, b"", b""
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

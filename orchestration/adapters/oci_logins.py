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

from orchestration.promotion.images import DOCKER_HUB_HOSTS
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


@dataclass(frozen=True)
class Login:
    """User and password for a registry, or an identity token, for which its token server gives a token."""

    user: str
    password: str = field(repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of the header `Authorization` with user and password."""
        pair = f"{self.user}:{self.password}".encode("utf-8", "surrogateescape")
        return f"Basic {base64.b64encode(pair).decode()}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no error may show."""
        return tuple(filter(None, (self.password, self.identity_token)))


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
    home = Path.home()
    docker = _path_in("DOCKER_CONFIG")
    if docker is not None:
        yield docker / "config.json"
    runtime = _path_in("XDG_RUNTIME_DIR")
    yield runtime / "containers/auth.json" if runtime else Path(f"/run/containers/{os.getuid()}/auth.json")
    yield (_path_in("XDG_CONFIG_HOME") or home / ".config") / "containers/auth.json"
    if docker is None:
        yield home / ".docker/config.json"


def _path_in(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None


def _read(path: Path, *, must_exist: bool) -> Mapping[str, Any] | None:
    def refuse(found: str, next_step: str) -> InvalidInputError:
        expected = "a JSON file as `docker login` or `podman login` writes it"
        return InvalidInputError(Problem(f"registry logins {path}", expected, found, next_step))

    try:
        content = path.read_bytes()
        document = json.loads(content) if content.strip() else {}  # Docker takes an empty file for one without logins
        if not isinstance(document, dict) or not isinstance(document.get("auths") or {}, dict):
            raise ValueError("another document")
        return document
    except (FileNotFoundError, NotADirectoryError):
        if must_exist:
            raise refuse("no such file", f"Correct {SETTING} (or REGISTRY_AUTH_FILE), or write the file.") from None
        return None
    except (OSError, ValueError, RecursionError) as error:
        next_step = f"Correct the file, or name another one in {SETTING}."
        raise refuse(f"a file that cannot be read ({type(error).__name__})", next_step) from None


def _login_of(path: Path, content: Mapping[str, Any], name: str) -> Login | None:
    """Find a repository's login in one file: by the helper of its host, by the longest entry, by the file's store."""
    host = name.partition("/")[0]
    helpers = content.get("credHelpers")
    for key, helper in helpers.items() if isinstance(helpers, dict) else ():
        if _canonical(key) == host:
            return _ask_helper(path, helper, _DOCKER_HUB_KEY if host == _DOCKER_HUB else host)
    for key, entry in sorted((content.get("auths") or {}).items(), key=lambda item: _rank(item[0], name), reverse=True):
        if _rank(key, name) == 0:
            break
        login = _entry_login(path, key, entry)
        if login is not None:
            return login
    if content.get("credsStore"):
        return _ask_helper(path, content["credsStore"], _DOCKER_HUB_KEY if host == _DOCKER_HUB else host)
    return None


def _canonical(key: str) -> str:
    """Return a file's key as a repository's name or the beginning of one; Docker Hub has several names."""
    host, slash, path = re.sub(r"^https?://", "", key).rstrip("/").partition("/")
    host = _DOCKER_HUB if host in DOCKER_HUB_HOSTS else host
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
    token = str(entry.get("identitytoken") or "")
    encoded = "".join(str(entry.get("auth") or "").split())
    if not encoded:
        user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
        return Login(user, password, token) if (user and password) or token else None
    try:
        pair = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        raise _broken_entry(path, key, "an auth that is not base64") from None
    user, colon, password = pair.decode("utf-8", "surrogateescape").partition(":")
    if not colon:
        raise _broken_entry(path, key, "an auth without a colon")
    return Login(user, password.strip("\0"), token)


def _broken_entry(path: Path, key: str, found: str) -> DependencyError:
    expected = "its auth to be base64 of USER:PASSWORD, or username and password"
    return DependencyError(Problem(f"entry {key} of {path}", expected, found, f"Log in again: docker login {key}."))


def _ask_helper(path: Path, helper: object, server: str) -> Login | None:
    """Ask a credential helper by its protocol: the server's name on its input, JSON or an error on its output."""
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
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise failure("an answer without Username and Secret", f"Correct the helper, {other}") from None
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

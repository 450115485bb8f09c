"""Signing tags and commits as Git does with `-s` and `-S`, with an OpenSSH key or a key of GnuPG."""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestration.adapters.paths import at_home
from orchestration.promotion.ports import Sign
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem, ProblemError

PACKAGES = {"ssh-keygen": "OpenSSH's client", "gpg": "GnuPG", "gpgconf": "GnuPG"}
"""What to install where one of these programs is missing."""
_EXPECTED = "a signature made with it"
_SECONDS = 60.0
_PGP = b"-----BEGIN PGP PRIVATE KEY BLOCK-----"


@dataclass(frozen=True)
class _Owner:
    """Whose keys are used, and so whether anybody can be asked for a passphrase."""

    next_step: str
    error: type[ProblemError]
    variables: Mapping[str, str]
    timeout: float | None


_PERSON = _Owner(
    "Give the file of an OpenSSH private key, or the id of a secret key that gpg has.", InvalidInputError, {}, None
)
_PIPELINE = _Owner(
    "Name in INCUMBENT_GIT_SIGNING_KEY a file with an OpenSSH or PGP private key without a passphrase, which only this "
    "account may read, or the id of a secret key that gpg has.",
    DependencyError,
    {"SSH_ASKPASS_REQUIRE": "never", "DISPLAY": ""},
    _SECONDS,
)


def signing_with(key: str) -> Sign:
    """Return what signs with a person's key; ssh-keygen and gpg may ask for its passphrase.

    Args:
        key: The file of an OpenSSH private key, or of a public key whose private half an ssh-agent has; otherwise the
            id of a secret key of GnuPG.
    """

    def sign(content: bytes) -> bytes:
        file = _file(key, _PERSON)
        return _signed(key, _ssh(file) if file is not None else _gpg("--local-user", key), content, _PERSON)

    return sign


def signing_unattended(key: str) -> Sign:
    """Return what signs with the pipeline's own key, which must not need a passphrase: nobody is there to be asked.

    What it returns raises `DependencyError` when it cannot sign.

    Args:
        key: A file with an OpenSSH or an armored PGP private key, which is read each time; otherwise the id of a secret
            key of GnuPG.
    """

    def sign(content: bytes) -> bytes:
        file = _file(key, _PIPELINE)
        if file is None:
            return _signed(key, _gpg("--batch", "--pinentry-mode", "error", "--local-user", key), content, _PIPELINE)
        try:
            is_pgp = _PGP in file.read_bytes()
        except OSError as error:
            raise _cannot(key, f"a file that cannot be read ({error.strerror})", _PIPELINE) from error
        return _signed_with_pgp_file(key, file, content) if is_pgp else _signed(key, _ssh(file), content, _PIPELINE)

    return sign


def _file(key: str, owner: _Owner) -> Path | None:
    """Return the file that a key is in; None for the id of a key, which no file has for a name.

    Raises:
        ProblemError: it is the path of something else than a file, or of nothing.
    """
    try:
        file = at_home(key)
        if file.is_file():
            return file
        found = "something else than a file" if file.exists() else "no such file"
    except OSError as error:
        found = f"a file that cannot be read ({error.strerror or type(error).__name__})"
    if "/" in key:  # ids of keys have none
        raise _cannot(key, found, owner)
    return None


def _ssh(file: Path) -> list[str]:
    return ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", str(file)]


def _gpg(*options: str) -> list[str]:
    return ["gpg", *options, "--armor", "--detach-sign", "--output", "-"]


def _signed_with_pgp_file(key: str, file: Path, content: bytes) -> bytes:
    """Sign by way of a keyring that has no other key and lasts only as long as this."""
    with tempfile.TemporaryDirectory(prefix="incumbent-") as home:
        options = ("--homedir", home, "--batch", "--pinentry-mode", "error")
        try:
            _run(key, ["gpg", *options, "--quiet", "--import", str(file)], b"", _PIPELINE)
            return _signed(key, _gpg(*options), content, _PIPELINE)
        finally:
            _run(key, ["gpgconf", "--homedir", home, "--kill", "all"], b"", _PIPELINE)  # the agent that gpg started


def _signed(key: str, command: list[str], content: bytes, owner: _Owner) -> bytes:
    output = _run(key, command, content, owner)
    if not output.startswith(b"-----BEGIN "):
        raise _cannot(key, f"no signature from {command[0]}", owner)
    return output


def _run(key: str, command: list[str], content: bytes, owner: _Owner) -> bytes:
    try:
        done = subprocess.run(  # noqa: S603 - the owner's key, with the programs of PATH
            command,
            input=content,
            capture_output=True,
            check=False,
            env={**os.environ, **owner.variables},
            start_new_session=owner is _PIPELINE,  # has no terminal, on which ssh-keygen would ask for a passphrase
            timeout=owner.timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise _cannot(key, f"no end of {command[0]} within {_SECONDS:.0f} s", owner) from error
    except OSError as error:
        found, next_step = (
            f"no program {command[0]} that can run ({error.strerror})",
            f"Install {PACKAGES[command[0]]}.",
        )
        raise owner.error(Problem(f"key {key}", "a signature made with it", found, next_step)) from error
    if done.returncode != 0:
        said = " ".join(done.stderr.decode(errors="replace").split())[:300]
        raise _cannot(key, said or f"{command[0]} ended with status {done.returncode}", owner)
    return done.stdout


def _cannot(key: str, found: str, owner: _Owner) -> ProblemError:
    return owner.error(Problem(f"key {key}", _EXPECTED, found, owner.next_step))

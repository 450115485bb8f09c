"""Signing a tag as `git tag -s` does, with an OpenSSH key or a key of GnuPG; both programs may ask for a passphrase."""

import subprocess
from pathlib import Path

from orchestration.promotion.ports import Sign
from orchestration.promotion.problems import InvalidInputError, Problem


def signing_with(key: str) -> Sign:
    """Return what signs with a key.

    Args:
        key: The file of an OpenSSH private key, or of a public key whose private half an ssh-agent has; otherwise the
            id of a secret key of GnuPG.
    """
    file = Path(key).expanduser()
    if file.is_file():
        command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", str(file)]
    else:
        command = ["gpg", "--armor", "--detach-sign", "--local-user", key, "--output", "-"]

    def sign(content: bytes) -> bytes:
        try:
            done = subprocess.run(command, input=content, capture_output=True, check=False)  # noqa: S603 - the user's own
        except OSError as error:
            raise _cannot(key, f"no program {command[0]} that can run ({error.strerror})") from error
        if done.returncode != 0 or not done.stdout.startswith(b"-----BEGIN "):
            said = " ".join(done.stderr.decode(errors="replace").split())[:300]
            raise _cannot(key, said or f"{command[0]} ended with status {done.returncode}")
        return done.stdout

    return sign


def _cannot(key: str, found: str) -> InvalidInputError:
    next_step = "Give the file of an OpenSSH private key, or the id of a secret key that gpg has."
    return InvalidInputError(Problem(f"key {key}", "a signature made with it", found, next_step))

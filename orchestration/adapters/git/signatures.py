"""Whose key signed a tag: Git, ssh-keygen and gpg check it, with the given keys and none that this machine trusts."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestration.adapters.git.mirror import Mirror
from orchestration.adapters.git.objects import is_object_id
from orchestration.adapters.signing import PACKAGES
from orchestration.promotion.ports import TagRecord
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.public_keys import is_pgp, ssh_key

_GPG_SECONDS = 60.0


@dataclass(frozen=True)
class _Trusted:
    """How Git is told to trust one key alone; a signature of any other form has no program that could accept it."""

    settings: tuple[str, ...]
    variables: Mapping[str, str]


def signers(mirror: Mirror, tags: Sequence[TagRecord], keys: Mapping[str, str]) -> dict[str, str]:
    """Return by whose key each tag is signed: the key's name in `keys`, by the tag's name.

    Raises:
        DependencyError: ssh-keygen or gpg is missing or does not work.
        InvalidInputError: gpg cannot read a PGP key.
    """
    signed: dict[str, str] = {}
    own = [tag for tag in tags if _is_named(mirror, tag)]
    for name, key in keys.items() if own else ():
        with _trusting(name, key) as trusted:
            for tag in own:
                arguments = (*trusted.settings, "verify-tag", tag.object_id)
                if mirror.local(*arguments, variables=trusted.variables, allowed=(0, 1, 128)).status == 0:
                    signed.setdefault(tag.name, name)
    return signed


def _is_named(mirror: Mirror, tag: TagRecord) -> bool:
    """Whether a tag object was made for this name: a ref of any name can be put on someone's signed object."""
    if not is_object_id(tag.object_id):
        return False
    result = mirror.local("cat-file", "tag", tag.object_id, allowed=(0, 128))
    lines = result.output.partition(b"\n\n")[0].split(b"\n")
    return result.status == 0 and len(lines) == 4 and lines[2] == f"tag {tag.name}".encode()


@contextmanager
def _trusting(name: str, key: str) -> Iterator[_Trusted]:
    with tempfile.TemporaryDirectory(prefix="incumbent-") as folder:
        home = Path(folder)  # for gpg, with no other key in it; mode 700
        allowed = home / "allowed_signers"
        programs = {"gpg.ssh.program": "false", "gpg.openpgp.program": "false", "gpg.x509.program": "false"}
        if is_pgp(key):
            programs["gpg.openpgp.program"] = _program("gpg")
            _import(home, name, key)
        else:
            programs["gpg.ssh.program"] = _program("ssh-keygen")
            allowed.write_text(f'approver namespaces="git" {ssh_key(key)}\n')
        settings = {"gpg.ssh.allowedSignersFile": str(allowed), "gpg.ssh.revocationFile": "", **programs}
        pairs = tuple(part for setting, value in settings.items() for part in ("-c", f"{setting}={value}"))
        yield _Trusted(pairs, {"GNUPGHOME": folder})


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        next_step = f"Install {PACKAGES[name]} where the pipeline runs."
        problem = Problem(f"program {name}", "it on PATH, to check signatures with", "no such program", next_step)
        raise DependencyError(problem)
    return found


def _import(home: Path, name: str, key: str) -> None:
    """Put a PGP key into an otherwise empty keyring."""
    (home / "common.conf").write_text("# A file here keeps gpg from starting its key daemon.\n")
    command = [_program("gpg"), "--homedir", str(home), "--batch", "--quiet", "--no-autostart", "--import"]
    try:
        done = subprocess.run(  # noqa: S603 - the program of PATH; the key is its input
            command, input=key.encode(), capture_output=True, timeout=_GPG_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = Problem("program gpg", "it to read a public key", type(error).__name__, "Check its installation.")
        raise DependencyError(problem) from error
    if done.returncode != 0:
        said = " ".join(done.stderr.decode(errors="replace").split())[:300]
        problem = Problem(f"the key of approver {name}", "a PGP public key", said or "another text", "Export it again.")
        raise InvalidInputError(problem)

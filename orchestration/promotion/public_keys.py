"""Public keys as policies name them: a line of OpenSSH, or an armored PGP public key."""

import base64
import re

PGP_BEGIN = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
_PGP_END = "-----END PGP PUBLIC KEY BLOCK-----"
_SSH = re.compile(
    r"(?P<type>ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)|sk-ssh-ed25519@openssh\.com"
    r"|sk-ecdsa-sha2-nistp256@openssh\.com) (?P<key>[A-Za-z0-9+/]{40,20000}={0,3})(?: [^\n]*)?"
)


def key_fault(text: str) -> str | None:
    """Say why a text is not a public key; None when it has the form of one."""
    if is_pgp(text):
        return None if text.strip().endswith(_PGP_END) else f"expected a PGP public key that ends with {_PGP_END}"
    if "PRIVATE KEY" in text:
        return "expected a public key, found a private one: make a new pair, because this one is in a file of the team"
    match = _SSH.fullmatch(text)
    if match is None or not _names_its_type(match["key"], match["type"]):
        return "expected a public key such as 'ssh-ed25519 AAAA...' (one line of a file *.pub) or an armored PGP one"
    return None


def is_pgp(key: str) -> bool:
    """Return whether a key is a PGP key; any other is one of OpenSSH."""
    return key.lstrip().startswith(PGP_BEGIN)


def ssh_key(key: str) -> str:
    """Return type and key of a line of OpenSSH, without its comment."""
    return " ".join(key.split()[:2])


def same_key(one: str, other: str) -> bool:
    """Return whether two keys are the same; of PGP keys, only the very same text is recognised."""
    if is_pgp(one) or is_pgp(other):
        return "".join(one.split()) == "".join(other.split())
    return ssh_key(one) == ssh_key(other)


def _names_its_type(key: str, kind: str) -> bool:
    """Return whether the key itself begins with its type, as OpenSSH writes it; a cut or mixed-up line does not."""
    try:
        content = base64.b64decode(key, validate=True)
    except ValueError:
        return False
    return content[:4] == len(kind).to_bytes(4, "big") and content[4:].startswith(kind.encode())

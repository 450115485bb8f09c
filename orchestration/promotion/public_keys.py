"""Public keys as policies name them: of OpenSSH and PGP for approvals, in a file or in PEM for images."""

import base64
import re

PGP_BEGIN = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
_PGP_END = "-----END PGP PUBLIC KEY BLOCK-----"
_PRIVATE = "expected a public key, found a private one: make a new pair, because this one is in a file of the team"
_SSH = re.compile(
    r"(?P<type>ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)|sk-ssh-ed25519@openssh\.com"
    r"|sk-ecdsa-sha2-nistp256@openssh\.com) (?P<key>[A-Za-z0-9+/]{40,20000}={0,3})(?: [^\n]*)?"
)


def key_fault(text: str) -> str | None:
    """Say why a text is not a public key; None when it has the form of one."""
    if is_pgp(text):
        return None if text.strip().endswith(_PGP_END) else f"expected a PGP public key that ends with {_PGP_END}"
    if "PRIVATE KEY" in text:
        return _PRIVATE
    match = _SSH.fullmatch(text)
    if match is None or not _names_its_type(match["key"], match["type"]):
        return "expected a public key such as 'ssh-ed25519 AAAA...' (one line of a file *.pub) or an armored PGP one"
    return None


def image_key_fault(text: str) -> str | None:
    """Say why a text neither is a public key in PEM nor names a file with one; None when it may."""
    if "PRIVATE KEY" in text:
        return _PRIVATE
    if is_pem(text):
        return None
    if "://" in text:
        shown = "one with credentials" if "@" in text else repr(text)
        return (
            f"expected a file with the public key, or the key itself in PEM, found the address {shown}: write its "
            "public key to a file (cosign public-key --key ADDRESS > cosign.pub) and name that"
        )
    return padding_fault(text)


def padding_fault(text: str) -> str | None:
    """Say that a text is blank or has white space around it, with which it would be equal to nothing."""
    return None if text and text == text.strip() else f"expected a text without white space around it, found {text!r}"


def is_pem(key: str) -> bool:
    """Return whether a key is written in PEM; any other text names a file."""
    return key.lstrip().startswith("-----BEGIN ")


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

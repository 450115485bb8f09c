"""Whether two addresses name one Git repository, however each of them is written."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_SCP_LIKE = re.compile(r"(?:[^@/]+@)?(?P<host>[^:/]+):(?P<path>[^/].*)")
_WEB_PORTS = {"http": 80, "https": 443}
_PORTS = {**_WEB_PORTS, "ssh": 22}
_SSH_ALONE = {"ssh.github.com": "github.com", "altssh.gitlab.com": "gitlab.com"}
"""Hosts that take ssh on port 443, and where their web addresses are."""


@dataclass(frozen=True)
class _Address:
    scheme: str
    host: str
    """In lower case; empty for what names none."""
    port: int | None
    """The scheme's own one unless the address names another."""
    path: str


def is_same_repository(one: str, other: str) -> bool:
    """Compare host and path; scheme, user, `.git`, a trailing slash and the host's case make no difference.

    Ports are compared between web addresses only: an ssh port says nothing about a web server's.
    """
    (host, path, port), (other_host, other_path, other_port) = _parts(one), _parts(other)
    return (host, path) == (other_host, other_path) and (port is None or other_port is None or port == other_port)


def host_and_path(address: str) -> tuple[str, str]:
    """Return a repository's host, and its path without `.git`: `github.com` and `acme/gitops`."""
    host, path, _ = _parts(address)
    return host, path


def is_same_origin(one: str, other: str) -> bool:
    """Whether two repositories are at one scheme, host and port: then a secret of the one may be sent to the other."""
    left, right = _read(one), _read(other)
    if left is None or right is None or not left.host:
        return False
    return (left.scheme, left.host, left.port) == (right.scheme, right.host, right.port)


def web_address(address: str) -> str:
    """Return the address of the web server beside a repository: its own for http and https, else https at its host."""
    read = _read(address)
    host = read.host if read is not None else ""
    if read is None or read.scheme not in _WEB_PORTS:
        return f"https://{_SSH_ALONE.get(host, host)}"
    shown = f"[{host}]" if ":" in host else host
    return f"{read.scheme}://{shown}{'' if read.port == _WEB_PORTS[read.scheme] else f':{read.port}'}"


def _parts(address: str) -> tuple[str, str, int | None]:
    """Return host, path and a web server's port; an address that cannot be read is like no other."""
    read = _read(address)
    if read is None:
        return "", address, None
    port = read.port if read.scheme in _WEB_PORTS else None
    # The two default ports are the same place to a person who writes http where the other wrote https.
    return read.host, read.path, 443 if port == 80 else port


def _read(address: str) -> _Address | None:
    """Return the parts of an address; None when it cannot be read."""
    match = _SCP_LIKE.fullmatch(address) if "://" not in address else None
    if match is not None:
        return _Address("ssh", match["host"].lower(), _PORTS["ssh"], _plain(match["path"]))
    try:
        parts = urlsplit(address)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    return _Address(parts.scheme, (parts.hostname or "").lower(), port, _plain(parts.path))


def _plain(path: str) -> str:
    return path.strip("/").removesuffix(".git")

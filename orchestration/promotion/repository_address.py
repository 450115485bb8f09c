"""Whether two addresses name one Git repository, however each of them is written."""

import re
from urllib.parse import urlsplit

_SCP_LIKE = re.compile(r"(?:[^@/]+@)?(?P<host>[^:/]+):(?P<path>[^/].*)")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SSH_ALONE = {"ssh.github.com": "github.com", "altssh.gitlab.com": "gitlab.com"}
"""Hosts that take ssh on port 443, and where their web addresses are."""


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
    origin = _origin(one)
    return origin is not None and origin == _origin(other)


def web_address(address: str) -> str:
    """Return the address of the web server beside a repository: its own for http and https, else https at its host."""
    parts = urlsplit(address)
    if parts.scheme in _DEFAULT_PORTS:
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}"
    host, _ = host_and_path(address)
    return f"https://{_SSH_ALONE.get(host, host)}"


def _origin(address: str) -> tuple[str, str, int | None] | None:
    """Return scheme, host and port; None for what names no host."""
    match = _SCP_LIKE.fullmatch(address) if "://" not in address else None
    if match is not None:
        return "ssh", match["host"].lower(), 22
    try:
        parts = urlsplit(address)
        port = parts.port or {**_DEFAULT_PORTS, "ssh": 22}.get(parts.scheme)
    except ValueError:
        return None
    return (parts.scheme, parts.hostname.lower(), port) if parts.hostname else None


def _parts(address: str) -> tuple[str, str, int | None]:
    match = _SCP_LIKE.fullmatch(address) if "://" not in address else None
    if match is not None:
        return match["host"].lower(), _plain(match["path"]), None
    try:
        parts = urlsplit(address)
        default = _DEFAULT_PORTS.get(parts.scheme)
        port = (parts.port or default) if default is not None else None
    except ValueError:
        return "", address, None
    # The two default ports are the same place to a person who writes http where the other wrote https.
    return (parts.hostname or "").lower(), _plain(parts.path), 443 if port == 80 else port


def _plain(path: str) -> str:
    return path.strip("/").removesuffix(".git")

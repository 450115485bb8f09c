"""Whether two addresses name one Git repository, however each of them is written."""

import re
from urllib.parse import urlsplit

_SCP_LIKE = re.compile(r"(?:[^@/]+@)?(?P<host>[^:/]+):(?P<path>[^/].*)")
_DEFAULT_PORTS = {"http": 80, "https": 443}


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

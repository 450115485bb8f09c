"""Where a repository is now that was renamed or moved: hosts answer its old address with a redirect.

Git does not follow it, because the token would go to whatever host the answer names; it is only told.
"""

from urllib.parse import urljoin, urlsplit

from orchestration.adapters.git.remote import Remote
from orchestration.adapters.http import HttpClient
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.redact import redact

_REFS = "/info/refs"


def moved_to(remote: Remote) -> DependencyError | None:
    """Return the error that names a repository's new address; None when its host does not redirect to one."""
    url = f"{remote.url.removesuffix('/')}{_REFS}?service=git-upload-pack"
    client = HttpClient(str(remote), "Check that the server can be reached.", remote.login.secrets)
    try:
        token = remote.login.token()
        reply = client.get(url, auth=(remote.username, token) if token else None)
    except DependencyError:
        return None  # the first error says enough
    location = urljoin(url, reply.headers.get("location", ""))
    new, refs, _ = location.partition(_REFS)
    if reply.status not in (301, 302, 307, 308) or not refs or not urlsplit(new).hostname:
        return None
    shown = redact(new, remote.login.secrets())
    found = f"HTTP {reply.status}: it has moved to {shown}, to which redirects are not followed"
    next_step = f"Set {remote.named.url} to {shown}, if that is the repository you mean."
    return DependencyError(Problem(str(remote), "the repository at this address", found, next_step))

"""The Git server's side: its address and token, what its errors mean, and a commit's web page."""

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from orchestration.adapters.git.login import Login
from orchestration.promotion.git_names import BRANCH_NAME, is_branch_name
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.redact import redact

NO_ANSWER = "no answer within "
"""How the error of a command begins that the server did not answer in time."""
_SCHEMES = ("https", "http", "ssh", "file")
_SCP_LIKE = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:[^:\s][^\s]*")  # git@github.com:owner/name.git
_REF_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class Named:
    """Where a person wrote what this repository is, for errors."""

    url: str
    branch: str


SETTINGS = Named("INCUMBENT_GIT_URL", "INCUMBENT_GIT_BRANCH")


@dataclass(frozen=True)
class _Meaning:
    """What some words of Git or of a server mean, and what a person does then.

    It is used only to word a problem, and to see at once that repeating is useless; nothing else depends on prose.
    """

    words: str
    """A regular expression."""
    found: str
    next_step: str
    """With the fields `{url}`, `{login}` and `{access}`: what a person does about the address, or the login."""


_REDIRECT = r"returned error: 30[1278]|unable to update url base from redirection"
_SHALLOW = r"shallow roots are not allowed|\bshallow [0-9a-f]{40}|says only: shallow"
_CREDENTIALS = r"Authentication failed|could not read (Username|Password)|returned error: 401"
_MEANINGS = (
    _Meaning(
        _CREDENTIALS,
        "the credentials were refused",
        "{login}",
    ),
    _Meaning(
        r"Permission denied \(",
        "the ssh key was refused",
        "Let the key read and write this repository, and name its file, without a passphrase, in "
        "INCUMBENT_GIT_SSH_KEY_FILE.",
    ),
    _Meaning(
        r"Host key verification failed|No \S+ host key is known",
        "the server's host key is not a known one",
        "Compare the key that `ssh-keyscan HOST` prints with the one that the host publishes, and put it into the file "
        "that INCUMBENT_GIT_KNOWN_HOSTS_FILE names.",
    ),
    _Meaning(
        r"returned error: 403|Write access to repository not granted",
        "the server forbids this",
        "{access}",
    ),
    _Meaning(
        r"does not support --atomic push",
        "the server takes no atomic pushes",
        "Use a Git server that does (docs/git-hosts.md names some): without them a commit cannot be fenced by its "
        "lease.",
    ),
    _Meaning(
        r"hidden ref",
        "the server hides refs outside its branches and tags",
        "Let it take refs/incumbent/* (receive.hideRefs, transfer.hideRefs), which hold the leases, or use a Git "
        "server that does (docs/git-hosts.md names some).",
    ),
    _Meaning(
        _SHALLOW,
        "a shallow repository, which has only the newest part of its history",
        "Name the repository that has all of it: former promotions are looked up there.",
    ),
    _Meaning(
        rf"repository .*not found|returned error: 404|does not appear to be a git repository|{_REDIRECT}",
        "no such repository",
        "Correct {url} (redirects are not followed), or give the login access to that repository.",
    ),
)


@dataclass(frozen=True)
class Remote:
    """Where the GitOps repository is. Made by `parse_remote`, which checks it."""

    url: str
    branch: str
    login: Login = field(default_factory=Login)
    named: Named = SETTINGS

    def __str__(self) -> str:
        return f"Git repository {redact(self.url)}"

    @property
    def is_ssh(self) -> bool:
        """Whether Git reaches it by ssh."""
        return self.url.startswith("ssh://") or _SCP_LIKE.fullmatch(self.url) is not None

    @property
    def host(self) -> str:
        """The server's name; empty where the address has none."""
        return urlsplit(self.url).hostname or ""

    @property
    def username(self) -> str:
        """The user name that goes with the token."""
        return self.login.username_for(self.host)

    def failure(self, action: str, error: str) -> DependencyError:
        """Return the error for a command that the server did not answer as it should; the caller raises it.

        Args:
            action: completes "the server to let us ...".
            error: the command's standard error, already redacted.
        """
        next_step = "Check that the server can be reached and is healthy."
        found = error
        if not error.startswith(NO_ANSWER):
            meaning = _meaning(error)
            found = f"{meaning.found if meaning is not None else 'no usable answer'} ({_one_line(error)})"
            if meaning is not None:
                login, access = self.login.when_refused(self.host), self.login.when_forbidden
                next_step = meaning.next_step.format(url=self.named.url, login=login, access=access)
        return DependencyError(Problem(str(self), f"the server to let us {action}", found, next_step))

    def commit_url(self, commit: str) -> str | None:
        """Return a commit's web page, for addresses in the form of GitHub, GitLab, Gitea or Bitbucket; else None."""
        parts = urlsplit(self.url)
        path = parts.path.removesuffix("/").removesuffix(".git")
        if parts.scheme != "https" or path.count("/") < 2:
            return None
        host = parts.hostname or ""
        page = "commit"
        if "gitlab" in host:
            page = "-/commit"
        elif host == "bitbucket.org":
            page = "commits"
        return f"https://{parts.netloc}{path}/{page}/{commit}"


def is_useless_to_repeat(error: str) -> bool:
    """Whether a server's answer will stay the same until a person changes something."""
    return _meaning(error) is not None


def is_redirect(error: str) -> bool:
    """Whether a server answered a request with another address."""
    return re.search(_REDIRECT, error) is not None


def is_shallow(error: str) -> bool:
    """Whether a server has only the newest part of the history."""
    return re.search(_SHALLOW, error) is not None


def is_refused_login(error: str) -> bool:
    """Whether a server did not take the login."""
    return re.search(_CREDENTIALS, error) is not None


def _meaning(error: str) -> _Meaning | None:
    return next((meaning for meaning in _MEANINGS if re.search(meaning.words, error)), None)


def _one_line(text: str) -> str:
    return " ".join(text.split()) or "without a message"


def parse_remote(url: str, branch: str, login: Login, named: Named = SETTINGS) -> Remote:
    """Check the settings of the repository.

    Raises:
        InvalidInputError: the address is not of a form that is safe to use, or the branch cannot have that name.
    """

    def refuse(found: str, next_step: str) -> InvalidInputError:
        expected = "an address such as https://github.com/owner/name.git"
        return InvalidInputError(Problem(named.url, expected, found, next_step))

    if not is_branch_name(branch):
        next_step = "Name the branch that Argo CD follows."
        raise InvalidInputError(Problem(named.branch, BRANCH_NAME, repr(branch), next_step))
    # A folder's name may hold spaces.
    if not url.isprintable() or (" " in url and not url.startswith("file://")):
        raise refuse("an address with white space or control characters in it", "Write the address alone.")
    if _SCP_LIKE.fullmatch(url):
        return Remote(url, branch, login, named)
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for one that is not a number
    except ValueError as error:
        raise refuse("an address that cannot be read", "Copy it from the Git server's page.") from error
    if parts.scheme not in _SCHEMES:
        raise refuse(f"an address with scheme {parts.scheme!r}", f"Use one of {', '.join(_SCHEMES)}.")
    if _has_secret(parts):
        raise refuse(
            "an address with a user or password in it",
            f"Remove them from the address, and put the token into the file that {login.named.token} names, and a "
            f"user name that the server needs into {login.named.username}.",
        )
    if parts.query or parts.fragment or (parts.scheme != "file" and not parts.hostname):
        raise refuse("an address without a host, or with a query or fragment", "Copy it from the Git server's page.")
    return Remote(url, branch, login, named)


def _has_secret(parts: SplitResult) -> bool:
    """Whether the address holds a credential: an ssh address may name its user, any other may not."""
    return ":" in parts.netloc.rpartition("@")[0] or (parts.scheme != "ssh" and "@" in parts.netloc)


def is_ref_name(name: str) -> bool:
    """Whether a name of ours can be part of a ref; stricter than `git check-ref-format`, and never a pattern."""
    return all(
        _REF_PART.fullmatch(part) and ".." not in part and not part.endswith((".", ".lock")) for part in name.split("/")
    )

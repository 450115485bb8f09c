"""The Git server's side: its address and token, what its errors mean, and a commit's web page."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.redact import redact

_SCHEMES = ("https", "http", "ssh", "file")
_SCP_LIKE = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:[^:\s][^\s]*")  # git@github.com:owner/name.git
_REF_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
# Used only to word a problem's next step, and to see at once that repeating is useless; nothing else depends on prose.
_MEANINGS: tuple[tuple[str, str, str], ...] = (
    (
        r"Authentication failed|could not read (Username|Password)|returned error: 401|Permission denied \(publickey",
        "the credentials were refused",
        "Put a token that may read and write this repository into the file that INCUMBENT_GIT_TOKEN_FILE names.",
    ),
    (
        r"returned error: 403|Write access to repository not granted",
        "the server forbids this",
        "Give the token write access to this repository (its contents, not its administration).",
    ),
    (
        r"does not support --atomic push",
        "the server takes no atomic pushes",
        "Use a Git server that does: without them a commit cannot be fenced by its lease.",
    ),
    (
        r"repository .*not found|returned error: (404|30[1278])|does not appear to be a git repository"
        r"|unable to update url base from redirection",
        "no such repository",
        "Correct INCUMBENT_GIT_URL (redirects are not followed), or give the token access to that repository.",
    ),
)


@dataclass(frozen=True)
class Remote:
    """Where the GitOps repository is. Made by `parse_remote`, which checks it."""

    url: str
    branch: str
    token_file: Path | None

    def __str__(self) -> str:
        return f"Git repository {redact(self.url)}"

    def token(self) -> str:
        """Read the token, each time anew because it may be rotated; empty without a token file.

        Raises:
            DependencyError: the file cannot be read, or is empty.
        """
        if self.token_file is None:
            return ""
        try:
            token = self.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise self._no_token(f"a file that cannot be read ({type(error).__name__})") from error
        if not token:
            raise self._no_token("an empty file")
        return token

    def _no_token(self, found: str) -> DependencyError:
        return DependencyError(
            Problem(
                f"token file {self.token_file}",
                "a readable file that holds the token of the Git server",
                found,
                "Write the token into that file, or correct INCUMBENT_GIT_TOKEN_FILE.",
            )
        )

    def secrets(self) -> tuple[str, ...]:
        """Return the texts that nothing may show; none while the token cannot be read."""
        try:
            return (self.token(),) if self.token_file else ()
        except DependencyError:
            return ()

    def failure(self, action: str, error: str) -> DependencyError:
        """Return the error for a command that the server did not answer as it should; the caller raises it.

        Args:
            action: completes "the server to let us ...".
            error: the command's standard error, already redacted.
        """
        meaning, next_step = _meaning(error) or (
            "no usable answer",
            "Check that the server can be reached and is healthy.",
        )
        return DependencyError(
            Problem(str(self), f"the server to let us {action}", f"{meaning} ({_one_line(error)})", next_step)
        )

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


def _meaning(error: str) -> tuple[str, str] | None:
    for pattern, meaning, next_step in _MEANINGS:
        if re.search(pattern, error):
            return meaning, next_step
    return None


def _one_line(text: str) -> str:
    return " ".join(text.split()) or "without a message"


def parse_remote(url: str, branch: str, token_file: Path | None) -> Remote:
    """Check the settings of the repository.

    Raises:
        InvalidInputError: the address is not of a form that is safe to use, or the branch cannot have that name.
    """

    def refuse(found: str, next_step: str) -> InvalidInputError:
        expected = "an address such as https://github.com/owner/name.git"
        return InvalidInputError(Problem("INCUMBENT_GIT_URL", expected, found, next_step))

    if not branch or not is_ref_name(branch):
        raise InvalidInputError(
            Problem("INCUMBENT_GIT_BRANCH", "a branch's name", repr(branch), "Name the branch that Argo CD follows.")
        )
    # A folder's name may hold spaces.
    if not url.isprintable() or (" " in url and not url.startswith("file://")):
        raise refuse("an address with white space or control characters in it", "Write the address alone.")
    if _SCP_LIKE.fullmatch(url):
        return Remote(url, branch, token_file)
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise refuse("an address that cannot be read", "Copy it from the Git server's page.") from error
    if parts.scheme not in _SCHEMES:
        raise refuse(f"an address with scheme {parts.scheme!r}", f"Use one of {', '.join(_SCHEMES)}.")
    if _has_secret(parts):
        raise refuse(
            "an address with a user or password in it",
            "Remove them from the address, and put the token into the file that INCUMBENT_GIT_TOKEN_FILE names.",
        )
    if parts.query or parts.fragment or (parts.scheme != "file" and not parts.hostname):
        raise refuse("an address without a host, or with a query or fragment", "Copy it from the Git server's page.")
    return Remote(url, branch, token_file)


def _has_secret(parts: SplitResult) -> bool:
    """Whether the address holds a credential: an ssh address may name its user, any other may not."""
    return ":" in parts.netloc.rpartition("@")[0] or (parts.scheme != "ssh" and "@" in parts.netloc)


def is_ref_name(name: str) -> bool:
    """Whether a name can be part of a ref; stricter than `git check-ref-format`, and never true for a pattern."""
    return all(
        _REF_PART.fullmatch(part) and ".." not in part and not part.endswith((".", ".lock")) for part in name.split("/")
    )

"""How the Git server is told who we are: a token with its user name, a GitHub App, or an ssh key.

Each file is read anew whenever it is used, because secrets are rotated. What each host asks for, with the source, is in
docs/git-hosts.md.
"""

import os
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

from orchestration.adapters.github import GITHUB, AppKey
from orchestration.adapters.paths import at_home
from orchestration.adapters.secret_files import read_secret
from orchestration.promotion.problems import DependencyError, Problem

_USER_NAMES = (("bitbucket.org", "x-token-auth"), ("gitlab", "oauth2"))
"""By a part of the host's name. GitLab takes any name with most tokens, and oauth2 alone with those of OAuth 2."""
_ANY_USER_NAME = "x-access-token"
"""What GitHub documents. Gitea, Forgejo and Azure DevOps take any name."""
_NO_QUOTING = ('"', "\\", "\n", "${")
"""What neither ssh's options nor its files' names can hold without being taken for something else."""
_ALIVE = ("ServerAliveInterval=5", "ServerAliveCountMax=3")


@dataclass(frozen=True)
class AppLogin:
    """A GitHub App: its key signs requests for tokens of its installation, each valid for an hour."""

    api_url: str
    key: AppKey
    named_by: str = "INCUMBENT_GIT_URL"
    """What the API's address is derived from, for errors."""

    @property
    def when_refused(self) -> str:
        """What a person does when Git's server refuses the App's token, or lets it do less than is asked."""
        return f"{self.key.when_refused} It needs the permission Contents (read and write)."

    def token(self) -> str:
        """Return the installation's token, a new one shortly before the last one ends.

        Raises:
            DependencyError: the key cannot be used, or GitHub gave no token.
        """
        client = GITHUB.client(self.api_url, self.named_by, lambda: tuple(filter(None, (self.key.current,))))
        return self.key.token(client, self.api_url)


@dataclass(frozen=True)
class LoginNames:
    """Where a person wrote the login of a repository, for errors."""

    token: str = "INCUMBENT_GIT_TOKEN_FILE"  # noqa: S105 - a setting's name
    username: str = "INCUMBENT_GIT_USERNAME"


@dataclass(frozen=True)
class Login:
    """What the server is given: a token or an App's over HTTPS, a key over ssh; without any of them, nothing."""

    token_file: Path | None = None
    username: str = ""
    """The user name beside the token; empty for the one that the host is known to take."""
    app: AppLogin | None = None
    ssh_key_file: Path | None = None
    known_hosts_file: Path | None = None
    named: LoginNames = LoginNames()

    def token(self) -> str:
        """Return the token to use now; empty where there is none.

        Raises:
            DependencyError: the file cannot be read or is empty, or GitHub gave the App no token.
        """
        if self.app is not None:
            return self.app.token()
        if self.token_file is None:
            return ""
        return read_secret(self.token_file, "the token of the Git server", self.named.token, "utf-8")

    def secrets(self) -> tuple[str, ...]:
        """Return the texts that nothing may show; none while the token cannot be read."""
        if self.app is not None:
            return tuple(filter(None, (self.app.key.current,)))
        try:
            return tuple(filter(None, (self.token(),)))
        except DependencyError:
            return ()

    def refused(self) -> None:
        """Take note that the server refused the token: an App's next one is fetched anew."""
        if self.app is not None:
            self.app.key.refused()

    def username_for(self, host: str) -> str:
        """Return the user name that goes with the token."""
        known = (name for part, name in _USER_NAMES if part in host.lower())
        return self.username or next(known, _ANY_USER_NAME)

    def when_refused(self, host: str) -> str:
        """Return what a person does when the server at a host does not take the login."""
        if self.app is not None:
            return self.app.when_refused
        return (
            f"Put a token that may read and write this repository into the file that {self.named.token} names, and the "
            f"user name that the server wants beside it into {self.named.username} (now {self.username_for(host)})."
        )

    @property
    def when_forbidden(self) -> str:
        """What a person does when the login may do less than is asked."""
        if self.app is not None:
            return self.app.when_refused
        return (
            f"Give the token in the file that {self.named.token} names write access to this repository (its contents, "
            "not its administration)."
        )


def ssh_command(login: Login, silent: int) -> str:
    """Return the command by which Git runs ssh: it asks nobody, and believes no host whose key it does not know.

    Args:
        login: whose key and known hosts to use; those of ssh's own configuration where it names none.
        silent: how many seconds the server may take to accept a connection.

    Raises:
        DependencyError: a file is missing, or ssh would not use it.
    """
    options = [f"ConnectTimeout={silent}", *_ALIVE, "BatchMode=yes", "StrictHostKeyChecking=yes"]
    if login.known_hosts_file is not None:
        setting = "INCUMBENT_GIT_KNOWN_HOSTS_FILE"
        path = _usable(login.known_hosts_file, "the server's host keys, as ssh-keyscan prints them", setting)
        options += [f'UserKnownHostsFile="{path}"', "GlobalKnownHostsFile=/dev/null"]
    if login.ssh_key_file is not None:
        setting = "INCUMBENT_GIT_SSH_KEY_FILE"
        path = _usable(login.ssh_key_file, "an OpenSSH private key without a passphrase", setting)
        _require_private(login.ssh_key_file, setting)
        options += [f'IdentityFile="{path}"', "IdentitiesOnly=yes"]
    return shlex.join(["ssh", *(part for option in options for part in ("-o", option))])


def _usable(path: Path, what: str, setting: str) -> str:
    """Return a file's absolute name as ssh's options have it, in which % begins a token."""
    found = ""
    try:
        name = str(at_home(path).absolute())
    except OSError as error:
        name, found = str(path), f"a file that cannot be read ({error.strerror})"
    if any(part in name for part in _NO_QUOTING):
        found = "a name with a quote, a backslash or ${ in it, which ssh would read otherwise"
    elif not found and (not os.access(name, os.R_OK) or not Path(name).is_file()):
        found = "no file that can be read"
    if found:
        raise DependencyError(Problem(f"file {name}", what, found, f"Put it there, or correct {setting}."))
    return name.replace("%", "%%")


def _require_private(path: Path, setting: str) -> None:
    """Refuse what ssh refuses: a key of this user's own that others may read."""
    status = path.expanduser().stat()
    if status.st_uid == os.geteuid() and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = stat.S_IMODE(status.st_mode)
        next_step = f"chmod 600 {path}, which {setting} names; in a Kubernetes Secret's volume, defaultMode: 0400."
        expected = "a key that only this account may read: ssh refuses any other"
        raise DependencyError(Problem(f"file {path}", expected, f"mode {mode:o}", next_step))

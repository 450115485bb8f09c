"""A real Gitea with SQLite on the loopback, and what people do there: its own command line and API, nothing of ours."""

import base64
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx2

from testbeds.common.processes import wait_until
from testbeds.common.services import free_ports
from testbeds.homelab.offline.go_build import gitea_sources
from tests.adapters.conftest import serving
from tests.platform import programs

BOT, PERSON = "incumbent", "ana"
SCOPES = "write:repository,write:issue"
"""What docs/pull-requests.md asks for."""
_START_SECONDS = 120.0
_CHECK_SECONDS = 60.0
_SETTINGS = """\
APP_NAME = tests
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {port}
ROOT_URL = http://127.0.0.1:{port}/
STATIC_ROOT_PATH = {sources}
OFFLINE_MODE = true
DISABLE_SSH = true
[database]
DB_TYPE = sqlite3
PATH = {folder}/gitea.db
[security]
INSTALL_LOCK = true
SECRET_KEY = of-this-test
PASSWORD_HASH_ALGO = pbkdf2$1$50
[service]
DISABLE_REGISTRATION = true
[repository]
DEFAULT_BRANCH = main
[indexer]
ISSUE_INDEXER_TYPE = db
[actions]
ENABLED = false
[log]
LEVEL = Warn
[cron.update_checker]
ENABLED = false
"""


@dataclass
class Gitea:
    """A server with two accounts: the pipeline's, and that of an administrator, who owns the repositories."""

    url: str
    folder: Path
    numbers: Iterator[int]

    def run(self, *arguments: str) -> str:
        """Run Gitea's command line, and return what it prints."""
        command = [str(programs.gitea()), "--config", str(self.folder / "app.ini"), *arguments]
        done = subprocess.run(command, env=_environment(self.folder), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def token(self, account: str, scopes: str = SCOPES) -> Path:
        """Return a file with a new token."""
        name = f"token-{next(self.numbers)}"
        made = self.run(
            *("admin", "user", "generate-access-token", "--raw"),
            *("--username", account, "--token-name", name, "--scopes", scopes),
        )
        (self.folder / name).write_text(made.splitlines()[-1])  # as root, a warning is above it
        return self.folder / name

    def repository(self, files: dict[str, bytes]) -> "Repository":
        """Return a new repository of the person's, whose branch `main` the pipeline may not push to."""
        name = f"gitops-{next(self.numbers)}"
        made = Repository(self, name, self.token(PERSON, "all"))
        made.owner("POST", f"{self.url}/api/v1/user/repos", {"name": name, "private": True, "default_branch": "main"})
        made.owner("PUT", f"/collaborators/{BOT}", {"permission": "write"})
        made.commit("Begin", files)
        wait_until(lambda: not made.owner("GET", "", {})["empty"], _CHECK_SECONDS, f"{name} is known not to be empty")
        made.protect()
        return made


@dataclass
class Repository:
    """A repository as its owner sees it."""

    gitea: Gitea
    name: str
    owners_token: Path

    @property
    def url(self) -> str:
        """What `INCUMBENT_GIT_URL` has."""
        return f"{self.gitea.url}/{PERSON}/{self.name}.git"

    def protect(self, **rules: object) -> None:
        """Let nobody but the owner push to `main`, and merge only what these further rules allow."""
        self.owner("DELETE", "/branch_protections/main", {}, allowed=(204, 404))
        content = {"rule_name": "main", "enable_push": True, "enable_push_whitelist": True}
        self.owner("POST", "/branch_protections", {**content, "push_whitelist_usernames": [PERSON], **rules})

    def owner(self, method: str, path: str, content: dict[str, Any], allowed: tuple[int, ...] = ()) -> Any:
        """Ask the API as the owner; a path is below the repository."""
        address = path if path.startswith("http") else f"{self.gitea.url}/api/v1/repos/{PERSON}/{self.name}{path}"
        headers = {"Authorization": f"token {self.owners_token.read_text()}"}
        answer = httpx2.request(method, address, headers=headers, json=content, timeout=60.0)
        assert answer.is_success or answer.status_code in allowed, (
            f"{method} {path}: {answer.status_code} {answer.text}"
        )
        return answer.json() if answer.content else None

    def commit(self, message: str, files: dict[str, bytes]) -> None:
        """Commit to `main` and push it, as the owner."""
        place = self.gitea.folder / f"clone-{next(self.gitea.numbers)}"
        self.git("init", "--quiet", "--initial-branch=main", str(place))
        head = self.git("ls-remote", self.authorized, "refs/heads/main")
        if head:
            self.git("-C", str(place), "pull", "--quiet", self.authorized, "main")
        for path, content in files.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_bytes(content)
        self.git("-C", str(place), "add", ".")
        self.git("-C", str(place), "commit", "--quiet", "-m", message)
        self.git("-C", str(place), "push", "--quiet", self.authorized, "HEAD:main")

    @property
    def authorized(self) -> str:
        """The address with the owner's token, as people paste it."""
        return self.url.replace("http://", f"http://{PERSON}:{self.owners_token.read_text()}@")

    def git(self, *arguments: str) -> str:
        """Run Git as the owner, and return what it prints."""
        names = {
            f"GIT_{who}_{what}": "ana@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, env={**quiet, **names}, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def refs(self) -> list[str]:
        """Return the names of all refs that the server lists."""
        return [line.split()[1] for line in self.git("ls-remote", self.authorized).splitlines()]

    def pull(self, number: int) -> Any:
        """Return a request."""
        return self.owner("GET", f"/pulls/{number}", {})

    def merge(self, number: int, style: str = "merge", message: str = "") -> str:
        """Merge a request once it is checked, as the owner, and return what it became."""
        wait_until(lambda: self.pull(number)["mergeable"], _CHECK_SECONDS, f"request {number} can be merged")
        content = {"Do": style, "MergeMessageField": message, "delete_branch_after_merge": True}
        self.owner("POST", f"/pulls/{number}/merge", content)
        return str(self.pull(number)["merge_commit_sha"])

    def close(self, number: int) -> None:
        """Close a request without a merge, as the owner."""
        self.owner("PATCH", f"/pulls/{number}", {"state": "closed"})

    def reopen(self, number: int) -> None:
        """Open a closed request again, as the owner."""
        self.owner("PATCH", f"/pulls/{number}", {"state": "open"})

    def edit(self, branch: str, path: str, content: bytes) -> None:
        """Commit a file to a branch on its page, as the owner."""
        known = self.owner("GET", f"/contents/{path}?ref={branch}", {})
        text = base64.b64encode(content).decode()
        changed = {"branch": branch, "sha": known["sha"], "content": text, "message": "Edit"}
        self.owner("PUT", f"/contents/{path}", changed)

    def approve(self, number: int) -> None:
        """Approve a request, as the owner."""
        self.owner("POST", f"/pulls/{number}/reviews", {"event": "APPROVED", "body": "Good."})


@contextmanager
def running_gitea(folder: Path) -> Iterator[Gitea]:
    """Run a Gitea with its two accounts until the block ends."""
    (port,) = free_ports(1)
    settings = _SETTINGS.format(port=port, folder=folder, sources=gitea_sources())
    (folder / "app.ini").write_text(settings)
    gitea = Gitea(f"http://127.0.0.1:{port}", folder, count(1))
    gitea.run("migrate")
    for account, rights in ((PERSON, ["--admin"]), (BOT, [])):
        gitea.run(
            *("admin", "user", "create", "--username", account, "--password", "of-this-test", *rights),
            *("--email", f"{account}@example.com", "--must-change-password=false"),
        )
    command = [str(programs.gitea()), "--config", str(folder / "app.ini"), "web"]
    with serving(command, f"{gitea.url}/api/healthz", folder, _environment(folder), _START_SECONDS):
        yield gitea


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "GITEA_WORK_DIR": str(folder), "HOME": str(folder)}

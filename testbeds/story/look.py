"""Reads what a story left behind: from its own clone, MLflow, the serving processes and the client's log."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

from testbeds.story.environment import Environment
from testbeds.story.seen import Change, Commit, Request, Seen, Tag, Version
from testbeds.story.stories import registry

_GIT_SECONDS = 60
# These separate commits and their fields, since no text that a person wrote contains such characters.
_FIELD, _RECORD = "\x1f", "\x1e"
_ASKPASS = '#!/bin/sh\ncase "$1" in\n  Username*) echo incumbent ;;\n  *) cat "$VERIFIER_TOKEN_FILE" ;;\nesac\n'


def look(environment: Environment, since: float = 0.0) -> Seen:
    """Read everything as it is now.

    Args:
        environment: the testbed on which the story played.
        since: seconds since the epoch; requests that the client sent before then are left out.
    """
    client = registry(environment)
    with tempfile.TemporaryDirectory(prefix="verifier ") as folder:
        git = Git(environment, Path(folder))
        commits, tags = tuple(git.commits()), tuple(git.tags())
        versions = {version.number: version for version in _versions(environment, client, Path(folder))}
    return Seen(
        commits=commits,
        tags=tags,
        versions=versions,
        champion=_champion(environment, client),
        serving=environment.serving(),
        requests=tuple(request for request in read_log(environment.client_log) if request.at >= since),
        at=time.time(),
    )


def branch(environment: Environment) -> tuple[Commit, ...]:
    """Return the branch's commits, oldest first, from the Git server alone."""
    with tempfile.TemporaryDirectory(prefix="verifier ") as folder:
        return tuple(Git(environment, Path(folder)).commits())


class Place(Protocol):
    """A branch of a repository, and the token by which it is cloned and pushed to."""

    @property
    def git_url(self) -> str: ...
    @property
    def git_branch(self) -> str: ...
    @property
    def git_token_file(self) -> Path: ...


class Git:
    """A clone of the GitOps repository in a scratch folder."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.folder, self.branch = folder / "clone", place.git_branch
        askpass = folder / "askpass"
        askpass.write_text(_ASKPASS, encoding="utf-8")
        askpass.chmod(0o700)
        login = {"GIT_ASKPASS": str(askpass), "VERIFIER_TOKEN_FILE": str(place.git_token_file)}
        isolation = {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
        self.environment = {**os.environ, **isolation, **login, "LC_ALL": "C"}
        self.run("clone", "--quiet", "--branch", self.branch, place.git_url, str(self.folder), cwd=folder)

    def run(self, *arguments: str, cwd: Path | None = None) -> str:
        process = subprocess.run(
            ["git", *arguments],
            cwd=cwd or self.folder,
            env=self.environment,
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
        if process.returncode != 0:
            raise RuntimeError(f"git {arguments[0]} ended with {process.returncode}: {process.stderr.decode()}")
        return process.stdout.decode("utf-8", "surrogateescape")

    def commits(self) -> Iterator[Commit]:
        """Yield the branch's commits, oldest first."""
        fields = ("%H", "%P", "%ct", "%s", "%(trailers:only,unfold)")
        log = self.run("log", "--reverse", f"--format={_RECORD}{_FIELD.join(fields)}", "HEAD")
        for record in log.split(_RECORD)[1:]:
            commit, parents, at, subject, trailers = record.split(_FIELD)
            parent = parents.split(" ")[0]
            pairs = (line.partition(": ") for line in trailers.splitlines() if ": " in line)
            changes = tuple(self._changes(commit)) if parent else ()
            yield Commit(commit, parent, float(at), subject, {key: value for key, _, value in pairs}, changes)

    def _changes(self, commit: str) -> Iterator[Change]:
        shown = self.run("show", "--format=", "--unified=0", "--no-renames", "--no-ext-diff", "--no-color", commit)
        for file in shown.split("diff --git ")[1:]:
            header, *hunks = file.split("\n@@ ")
            names = [line[6:] for line in header.splitlines() if line.startswith(("--- a/", "+++ b/"))]
            for hunk in hunks:
                lines = hunk.split("\n")[1:]
                removed = [line[1:] for line in lines if line.startswith("-")]
                added = [line[1:] for line in lines if line.startswith("+")]
                yield from (Change(names[-1], before, after) for before, after in zip_longest(removed, added))
            if not hunks:
                yield Change(names[-1] if names else header.splitlines()[0], None, None)  # a mode, or a binary file

    def tags(self) -> Iterator[Tag]:
        fields = ("%(refname:strip=2)", "%(objecttype)", "%(objectname)", "%(*objectname)", "%(contents)")
        listed = self.run("for-each-ref", f"--format={_RECORD}{_FIELD.join(fields)}", "refs/tags")
        for record in listed.split(_RECORD)[1:]:
            name, kind, object_id, commit, message = record.split(_FIELD)
            yield Tag(name, kind == "tag", commit or object_id, message)


def _champion(environment: Environment, client: Any) -> int | None:
    aliases = client.get_registered_model(environment.model).aliases
    version = aliases.get(environment.champion_alias)
    return int(version) if version is not None else None


def _versions(environment: Environment, client: Any, folder: Path) -> Iterator[Version]:
    for listed_version in client.search_model_versions(f"name = '{environment.model}'"):
        version = client.get_model_version(environment.model, listed_version.version)
        path = f"incumbent/{environment.policy}"
        evidence = {}
        for listed in client.list_artifacts(version.run_id, path):
            local = client.download_artifacts(version.run_id, listed.path, str(folder))
            evidence[listed.path] = Path(local).read_bytes()
        yield Version(int(version.version), version.run_id, dict(version.tags), evidence)


def read_log(path: Path, last_bytes: int | None = None) -> Iterator[Request]:
    """Read the client's log in the order in which the requests were sent, without an incomplete line at either end.

    Args:
        path: the log; it may be missing.
        last_bytes: read at most this many bytes from its end, since an hour's log has a hundred thousand lines.
    """
    lines = [json.loads(line) for line in _whole_lines(path, last_bytes)]
    for line in sorted(lines, key=lambda line: float(line["at"])):
        yield Request(
            line["at"], line["seconds"], line["status"], line["version"], line["ok"], line["error"], line["pod"]
        )


def _whole_lines(path: Path, last_bytes: int | None) -> Iterator[str]:
    if not path.exists():
        return
    with path.open("rb") as log:
        begin = max(0, path.stat().st_size - last_bytes) if last_bytes is not None else 0
        log.seek(max(0, begin - 1))
        if begin:
            log.readline()  # skip to the beginning of a line
        for line in log:
            if line.endswith(b"\n"):
                yield line.decode()

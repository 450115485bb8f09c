"""The repository as Argo CD's repo server reads it: a bare clone of its own, a revision, a folder's plain manifests."""

import asyncio
import os
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from testbeds.sandbox.cluster.objects import Json

_TARGET = "refs/sandbox/target"
_SECONDS = 60
# The token is read from its file when Git asks, so that no argument list and no environment has it.
_ASKPASS = '#!/bin/sh\ncase "$1" in\n  Username*) echo sandbox ;;\n  *) exec cat "$SANDBOX_TOKEN_FILE" ;;\nesac\n'


class SourceError(Exception):
    """The repository cannot be read or its manifests cannot be used; the text is Argo CD's ComparisonError."""


class GitSource:
    def __init__(self, url: str, token_file: Path | None, state: Path, branch: str) -> None:
        self._url, self._branch = url, branch
        self._clone = state / "repository.git"
        askpass = state / "askpass"
        askpass.write_text(_ASKPASS)
        askpass.chmod(0o700)
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self._env = keep | {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
        self._env |= {"GIT_ASKPASS": str(askpass), "LC_ALL": "C", "SANDBOX_TOKEN_FILE": str(token_file or os.devnull)}
        self._fetching = asyncio.Lock()

    async def resolve(self, target: str) -> str:
        """Fetch what `targetRevision` names, and return its commit.

        Raises:
            SourceError: the server does not answer or has no such revision.
        """
        name = self._branch if target in ("", "HEAD") else target
        if not re.fullmatch(r"[A-Za-z0-9][\w./-]*", name):
            raise SourceError(f"unable to resolve {target!r} to a commit SHA")
        async with self._fetching:
            if not self._clone.exists():
                await self._git("init", "--quiet", "--bare", str(self._clone), inside=False)
            await self._git("fetch", "--quiet", "--no-tags", "--end-of-options", self._url, f"+{name}:{_TARGET}")
            return (await self._git("rev-parse", "--verify", f"{_TARGET}^{{commit}}")).strip()

    async def file(self, revision: str, path: str) -> str:
        return await self._git("cat-file", "blob", f"{revision}:{path}")

    async def manifests(self, revision: str, source: Json) -> list[Json]:
        """Read the objects of the YAML files in `source.path`, as Argo CD does for directories.

        Raises:
            SourceError: the path is missing, a file holds no Kubernetes objects, or it is not a plain folder.
        """
        folder = source.get("path", "").strip("/")
        recurse = ["-r"] if source.get("directory", {}).get("recurse") else []
        listing = await self._git("ls-tree", "-z", "--name-only", *recurse, f"{revision}:{folder}")
        names = [name for name in listing.split("\0") if name]
        tools = {"kustomization.yaml", "kustomization.yml", "Kustomization", "Chart.yaml"} & set(names)
        if tools:
            raise SourceError(f"{folder}: the sandbox plays plain manifests, and no {tools.pop()}")
        objects: list[Json] = []
        for name in names:
            if name.endswith((".yaml", ".yml", ".json")):
                text = await self.file(revision, f"{folder}/{name}")
                try:
                    objects += parse_manifests(f"{folder}/{name}", text)
                except SourceError:
                    # Argo CD silently ignores a file without these words.
                    if all(word in text for word in ("apiVersion:", "kind:", "metadata:")):
                        raise
        return objects

    async def _git(self, *arguments: str, inside: bool = True) -> str:
        place = [f"--git-dir={self._clone}"] if inside else []
        process = await asyncio.create_subprocess_exec(
            *["git", *place, *arguments],
            env=self._env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            output, errors = await asyncio.wait_for(process.communicate(), _SECONDS)
        except TimeoutError as error:
            process.kill()
            await process.wait()
            raise SourceError(f"`git {arguments[0]}` timed out after {_SECONDS}s") from error
        if process.returncode != 0:
            finding = " ".join(errors.decode(errors="replace").split())
            raise SourceError(f"`git {arguments[0]}` failed exit status {process.returncode}: {finding}")
        return output.decode(errors="replace")


def parse_manifests(path: str, text: str) -> list[Json]:
    """Parse the objects of a YAML stream; a `List` counts as its items.

    Raises:
        SourceError: it is not YAML, or a document is not an object with apiVersion, kind and name.
    """
    try:
        documents: list[Any] = list(YAML(typ="safe", pure=True).load_all(text))
    except (YAMLError, ValueError) as error:
        raise SourceError(f'Failed to unmarshal "{path}": {" ".join(str(error).split())}') from error
    objects: list[Json] = []
    for document in documents:
        if document is None:
            continue
        items = (
            document.get("items", []) if isinstance(document, dict) and document.get("kind") == "List" else [document]
        )
        for item in items:
            named = isinstance(item, dict) and isinstance(item.get("metadata"), dict) and item["metadata"].get("name")
            if not named or not item.get("kind") or not item.get("apiVersion"):
                raise SourceError(f'Failed to unmarshal "{path}": an object needs apiVersion, kind and metadata.name')
            objects.append(item)
    return objects

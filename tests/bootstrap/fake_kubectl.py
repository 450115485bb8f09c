"""A kubectl whose cluster is a file: it creates, applies and reads objects, and fills token Secrets as clusters do."""

import json
import shlex
import stat
import sys
from pathlib import Path
from typing import Any

from bootstrap.kubectl import Kubectl

_PROGRAM = """
import json, pathlib, sys
store = pathlib.Path({store!r})
objects = json.loads(store.read_text())
words = [word for word in sys.argv[1:] if not word.startswith("--")]
options = dict(word[2:].partition("=")[::2] for word in sys.argv[1:] if word.startswith("--"))
if words[:2] == ["config", "view"]:
    print({server!r}, end="")
elif words[0] == "get":
    content = objects.get("/".join((words[1].capitalize(), options["namespace"], words[2])))
    if content is not None:
        print(json.dumps(content))
else:
    import base64, yaml  # only here, because most calls read
    for document in yaml.load_all(sys.stdin.read(), yaml.CSafeLoader):
        name = "/".join((document["kind"], document["metadata"].get("namespace", ""), document["metadata"]["name"]))
        if words[0] == "create" and name in objects:
            sys.exit(f"Error from server (AlreadyExists): {{name}} already exists")
        if document.get("type") == "kubernetes.io/service-account-token":
            document["data"] = {{key: base64.b64encode(key.encode()).decode() for key in ("token", "ca.crt")}}
        objects[name] = document
    store.write_text(json.dumps(objects))
"""


class FakeCluster:
    """A cluster and the `kubectl` that programs use to reach it."""

    def __init__(self, folder: Path, context: str, server: str = "https://100.64.0.7:6550") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._store = folder / f"{context}.json"
        self._store.write_text("{}")
        self.program = folder / f"kubectl-{context}"
        source = folder / f"kubectl-{context}.py"
        source.write_text(_PROGRAM.format(store=str(self._store), server=server))
        # A wrapper instead of a shebang in the source, because the path in a shebang cannot contain a space.
        self.program.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, str(source)])} "$@"\n')
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)
        self.kubectl = Kubectl(self.program, None, context)

    def objects(self) -> dict[str, dict[str, Any]]:
        """Return all objects, by `Kind/namespace/name`."""
        objects: dict[str, dict[str, Any]] = json.loads(self._store.read_text())
        return objects

    def delete(self, name: str) -> None:
        self._store.write_text(json.dumps({key: content for key, content in self.objects().items() if key != name}))

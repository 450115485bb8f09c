"""Stands in for Grafana, whose image cannot be made of packages: it starts with what Grafana needs, and shows nothing.

It reads the files that Grafana reads at its start and ends like it when one is missing or useless; it is healthy at the
same addresses. What a page looks like, and what the real one takes of memory, it cannot tell.
"""

import argparse
import configparser
import json
import os
import re
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT = 3000
_ANSWERS = {"/api/health": json.dumps({"database": "ok", "version": "a stand-in of the testbed"}), "/healthz": "Ok"}
_FROM_FILE = re.compile(r"\$__file\{(.+)\}")


class UnusableError(Exception):
    """Grafana would not start, or would show nothing."""


def read_all(home: Path, data: Path) -> int:
    """Read the settings, the Secret's values, the data source and the dashboards, and return how many there are.

    Raises:
        UnusableError: what is missing or useless.
    """
    settings = configparser.RawConfigParser()
    settings.read_string(_text(home / "grafana.ini"))
    for name in ("admin_password", "secret_key"):
        from_file = _FROM_FILE.fullmatch(settings.get("security", name, fallback=""))
        if from_file is None:
            raise UnusableError(f"{name} is not read from a file: it has Grafana's default or stands in Git")
        if not _text(Path(from_file[1])).strip():
            raise UnusableError(f"{from_file[1]} is empty")
    _value(home / "provisioning/datasources/prometheus.yml", "url")
    folder = Path(_value(home / "provisioning/dashboards/incumbent.yml", "path"))
    titles = [json.loads(_text(path))["title"] for path in sorted(folder.glob("*.json"))]
    if not titles:
        raise UnusableError(f"no dashboard in {folder}")
    if not os.access(data, os.W_OK):
        raise UnusableError(f"{data} cannot be written")
    return len(titles)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UnusableError(f"{path}: {error.strerror}") from error


def _value(path: Path, name: str) -> str:
    """One field of a file in YAML, for which the image has no library; Grafana's own files have it on a line."""
    found = re.search(rf"^ *{name}: (\S+)", _text(path), re.MULTILINE)
    if found is None:
        raise UnusableError(f"{path} has no {name}")
    return found[1]


class Answer(BaseHTTPRequestHandler):
    """Healthy, and nothing else."""

    def do_GET(self) -> None:
        answer = _ANSWERS.get(self.path)
        self.send_response(HTTPStatus.NOT_FOUND if answer is None else HTTPStatus.OK)
        self.end_headers()
        self.wfile.write((answer or "").encode())

    def log_message(self, *_: object) -> None:
        """The probes of a day are no news."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path("/etc/grafana"), help="where its settings are")
    parser.add_argument("--data", type=Path, default=Path("/var/lib/grafana"), help="where it may write")
    parser.add_argument("--port", type=int, default=PORT)
    options = parser.parse_args()
    try:
        print(f"a stand-in for Grafana, with {read_all(options.home, options.data)} dashboards", flush=True)
    except (UnusableError, configparser.Error, ValueError, KeyError) as error:
        sys.exit(f"not to be started: {error}")
    ThreadingHTTPServer(("", options.port), Answer).serve_forever()


if __name__ == "__main__":
    main()

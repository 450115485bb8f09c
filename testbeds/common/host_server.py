"""What the servers that answer as GitLab and as Gitea do have in common: JSON over HTTP, one request at a time."""

import json
import threading
import time
from collections import deque
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from testbeds.common.github_server import Json


class HostServer(ThreadingHTTPServer):
    """A server on loopback."""

    daemon_threads = True

    def __init__(self, handler: type["HostHandler"]) -> None:
        self.faults: deque[tuple[int, dict[str, str]]] = deque()
        """A status and headers for each of the next requests."""
        self.lock = threading.RLock()
        super().__init__(("127.0.0.1", 0), handler)


class HostHandler(BaseHTTPRequestHandler):
    """Answers with what `carried_out` returns."""

    server: HostServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def carried_out(self) -> tuple[int, object]:
        """Carry a request out, and return the status and the answer; refusals are answers, too."""
        raise NotImplementedError

    def content(self) -> Json:
        """Return what was sent."""
        content = json.loads(self._body or b"{}")
        assert isinstance(content, dict)
        return content

    def _answer(self) -> None:
        length = self.headers.get("Content-Length", "0")
        self._body = self.rfile.read(int(length)) if length.isdecimal() else b""
        with self.server.lock:
            headers: dict[str, str] = {}
            if self.server.faults:
                status, headers = self.server.faults.popleft()
                answer: object = {"message": "ordered by a test"}
            else:
                status, answer = self.carried_out()
        body = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = _answer  # noqa: N815 - the names that http.server calls

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def now() -> str:
    """Return the time as hosts write it."""
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

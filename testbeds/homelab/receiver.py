"""A receiver for Alertmanager's webhook: keeps each notification that comes with the token as a line of a file.

It imports only the standard library, because it runs in a container where the project is not installed.

    python3 receiver.py --host HOST --port PORT --token-file FILE --log FILE
"""

import argparse
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PATH = "/alerts"
HEALTH_PATH = "/healthz"
_MOST_BYTES = 1024 * 1024
_PATIENCE_SECONDS = 10.0


class Receiver(ThreadingHTTPServer):
    """Takes notifications from clients that have the token; port 0 takes a free port."""

    daemon_threads = True

    def __init__(self, host: str, port: int, token: str, log: Path) -> None:
        if not token:
            raise ValueError("a receiver without a token would believe every process of this machine")
        self.authorization, self.log = f"Bearer {token}", log
        self.writing = threading.Lock()
        super().__init__((host, port), _Handler)

    def keep(self, notification: object) -> None:
        """Write a notification to the log, with the time."""
        line = json.dumps({"at": time.time(), "notification": notification})
        with self.writing, self.log.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    timeout = _PATIENCE_SECONDS

    def do_GET(self) -> None:
        self._answer(200 if self.path == HEALTH_PATH else 404)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != PATH:
            self._answer(404)
        elif not hmac.compare_digest(
            self.headers.get("Authorization", "").encode(), self.server.authorization.encode()
        ):
            self._answer(401)
        elif not length.isdecimal() or int(length) > _MOST_BYTES:
            self._answer(413)
        else:
            try:
                notification = json.loads(self.rfile.read(int(length)))
            except ValueError:
                self._answer(400)
                return
            self.server.keep(notification)
            self._answer(200)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")  # the rest of a refused body is not a next request
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing: accepted notifications are in the file."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    options = parser.parse_args()
    token = options.token_file.read_text(encoding="utf-8").strip()
    Receiver(options.host, options.port, token, options.log).serve_forever()


if __name__ == "__main__":
    main()

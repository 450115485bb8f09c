"""What pods run in the tests of clusters: a small server that behaves as its image's environment variables say.

It is a single file and needs only the standard library, so it also runs in a real container.
"""

import os
import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        unready = self.path == "/health" and os.environ.get("NEVER_READY")
        self.answer(503 if unready else 200, f"{os.environ['VERSION']} {self.path} {os.environ['POD_NAME']}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path == "/slow":
            time.sleep(3)
        if self.path == "/hang-up":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if self.path.startswith("/seen"):
            body = f"{self.path} {self.headers['Host']} {self.headers.get('Authorization', '-')}"
        code = int(self.path.removeprefix("/status/")) if self.path.startswith("/status/") else 200
        self.answer(code, f"{os.environ['VERSION']} {body} {self.headers.get('X-Incumbent-Replay', '-')}")

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Log nothing for a request."""


class Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 64


def main() -> None:
    print(f"version {os.environ['VERSION']} starts", flush=True)
    if "CRASH" in os.environ:
        raise SystemExit(int(os.environ["CRASH"]))
    hoard = bytearray(int(os.environ.get("EAT_MEGABYTES", "0")) << 20)
    hoard[:: os.sysconf("SC_PAGE_SIZE")] = bytes(len(hoard[:: os.sysconf("SC_PAGE_SIZE")]))
    while hoard:
        time.sleep(1)
    server = Server((os.environ["HOST"], int(os.environ["PORT"])), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(0.05)
    server.server_close()


if __name__ == "__main__":
    main()

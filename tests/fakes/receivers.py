"""Destinations of notifications on the loopback: a webhook and a mail server, which can be down, slow or broken."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LONGEST_WAIT = 280.0
"""Seconds after which a condition that never comes true fails the test."""
PATIENT = f"rto={LONGEST_WAIT}&cto={LONGEST_WAIT}"
"""In an address: however busy the machine is, a receiver that is up is not given up."""


class Webhook:
    """Takes JSON by POST; `status` is its answer, and while it `holds`, no request is answered."""

    def __init__(self) -> None:
        self.status = 200
        self.received: list[dict[str, Any]] = []
        """What was taken, in order."""
        self.asked = 0
        """How many requests came, taken or not."""
        self.held = 0
        """How many requests wait for their answer now."""
        self._changed = threading.Condition()
        self._holds = False
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    def up(self) -> None:
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = webhook._take(json.loads(body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class has it
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def down(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def hold(self) -> None:
        self._holds = True

    def let_go(self) -> None:
        with self._changed:
            self._holds = False
            self._changed.notify_all()

    def wait_until_held(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.held > 0, LONGEST_WAIT)

    @property
    def titles(self) -> list[str]:
        return [str(message["title"]) for message in self.received]

    def _take(self, message: dict[str, Any]) -> int:
        with self._changed:
            self.asked += 1
            self.held += 1
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: not self._holds, LONGEST_WAIT)
            self.held -= 1
            if self.status == 200:
                self.received.append(message)
            return self.status


class _MailSession(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self._say("220 loopback")
        while line := self.rfile.readline().strip().upper():
            if line == b"DATA":
                self._say("354 go on")
                content = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.server.mails.append(message_from_bytes(content, policy=policy.default))  # type: ignore[attr-defined]
            self._say("221 bye" if line == b"QUIT" else "250 ok")
            if line == b"QUIT":
                return

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


class MailServer(socketserver.ThreadingTCPServer):
    """Takes every mail."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _MailSession)
        self.mails: list[EmailMessage] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])


@contextmanager
def running_webhook() -> Iterator[Webhook]:
    webhook = Webhook()
    webhook.up()
    try:
        yield webhook
    finally:
        webhook.let_go()
        webhook.down()


@contextmanager
def running_mail_server() -> Iterator[MailServer]:
    with MailServer() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()

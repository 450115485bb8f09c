"""A Git server with smart HTTP and a token: Python's HTTP server around Git's own `git http-backend`.

To a client it speaks as GitHub does: protocol version 2, partial clones, atomic pushes, chunked and gzip bodies. Tokens
may be bound to some refs, which a hook enforces as hosts protect branches. It has no users and no TLS, and it listens
on the loopback unless it is told otherwise. It imports only the standard library, so that this file can run where the
project is not installed.

    python -m testbeds.common.git_server --root DIR --token-file FILE [--bounded-file FILE] [--host 127.0.0.1]
        [--port 0] [--port-file FILE]
"""

import argparse
import base64
import binascii
import contextlib
import hmac
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, cast
from urllib.parse import unquote

_BLOCK = 64 * 1024
# For every repository under the root. A push that would bring a broken object is refused as a whole.
_SETTINGS = {
    "http.receivepack": "true",
    "uploadpack.allowFilter": "true",
    "uploadpack.allowAnySHA1InWant": "true",
    "receive.advertiseAtomic": "true",
    "receive.fsckObjects": "true",
    "receive.autogc": "false",
    "safe.directory": "*",
}
_ANY_REF = "*"
# Hosts say the same in their own hooks, before any ref is changed.
_HOOK = """\
#!/bin/sh
set -f
while read -r old new ref; do
    allowed=
    for pattern in $MAY_PUSH; do
        case $ref in $pattern) allowed=1 ;; esac
    done
    if [ -z "$allowed" ]; then
        echo "protected: this login may not push to $ref" >&2
        exit 1
    fi
done
"""


class GitServer(ThreadingHTTPServer):
    """Serves every bare repository under a folder to clients that have a token; port 0 takes a free port."""

    daemon_threads = True

    def __init__(
        self,
        root: Path,
        token: str,
        port: int = 0,
        handler: "type[GitHandler] | None" = None,
        host: str = "127.0.0.1",
        bounded: Mapping[str, str] | None = None,
    ) -> None:
        """Open the port.

        Args:
            root: the folder with the repositories.
            token: may read and push everything.
            port: the port; 0 takes a free one.
            handler: the handler's class, if not the usual one.
            host: the address to listen on.
            bounded: further tokens, each with the patterns of refs that it may push to, with spaces between them; a
                token without any may only read. Repositories keep to that once `protect` was called for them.
        """
        if not token or not all(bounded or ()):
            raise ValueError("a Git server without a token would be open to every process of this machine")
        self.root = root.resolve()
        self.may_push = {token: _ANY_REF, **(bounded or {})}
        super().__init__((host, port), handler or GitHandler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def url(self, repository: str) -> str:
        """Return the address of a repository, such as `gitops.git`."""
        return f"http://127.0.0.1:{self.port}/{repository}"

    @contextlib.contextmanager
    def running(self) -> "Iterator[GitServer]":
        """Serve from a thread of this process until the block ends."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


class GitHandler(BaseHTTPRequestHandler):
    """One connection: checks the token, then lets `git http-backend` answer."""

    protocol_version = "HTTP/1.1"
    server_version = "git"
    timeout = 120
    disable_nagle_algorithm = True

    @property
    def git_server(self) -> GitServer:
        return cast(GitServer, self.server)

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        if self.path == "/healthz":
            self.refuse(200, "ok\n")
        elif self._may_push() is None:
            self.refuse(401, "a token is needed\n", {"WWW-Authenticate": 'Basic realm="git"'})
        elif ".." in self._path_info().split("/"):
            self.refuse(404, "no such repository\n")
        else:
            self.serve_git()

    def _may_push(self) -> str | None:
        """Return the patterns of the refs that the request's login may push to; None without a known login."""
        scheme, _, encoded = self.headers.get("Authorization", "").partition(" ")
        try:
            _, _, password = base64.b64decode(encoded, validate=True).partition(b":")
        except binascii.Error:
            return None
        known = self.git_server.may_push.items() if scheme.lower() == "basic" else ()
        return next((refs for token, refs in known if hmac.compare_digest(password, token.encode())), None)

    def refuse(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        """Send a short answer without Git, and close the connection, because the request's body was not read."""
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain", "Connection": "close", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def serve_git(self) -> None:
        """Run `git http-backend` (CGI) for this request, and pass its answer on as it comes."""
        backend = subprocess.Popen(
            ["git", "http-backend"], env=self._environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert backend.stdin is not None
        assert backend.stdout is not None
        # Both directions at once: a backend may answer before it has read everything.
        feeder = threading.Thread(target=self._feed, args=(backend.stdin,), daemon=True)
        feeder.start()
        try:
            self._relay(cast(io.BufferedReader, backend.stdout))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client left; its push succeeds or fails without it
        finally:
            # Reading to the end lets a push finish whose client has left, as a real server does.
            while backend.stdout.read(_BLOCK):
                pass
            backend.stdout.close()
            backend.wait()
            feeder.join()

    def _path_info(self) -> str:
        return unquote(self.path.partition("?")[0])

    def _environment(self) -> dict[str, str]:
        query = self.path.partition("?")[2]
        variables = {
            "PATH": os.environ.get("PATH", os.defpath),
            "GIT_PROJECT_ROOT": str(self.git_server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_COUNT": str(len(_SETTINGS)),
            "PATH_INFO": self._path_info(),
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "REMOTE_USER": "git",
            "REMOTE_ADDR": str(self.client_address[0]),
            "MAY_PUSH": self._may_push() or "",
            "SERVER_PROTOCOL": self.request_version,
        }
        for number, (key, value) in enumerate(_SETTINGS.items()):
            variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        passed_on = {
            "CONTENT_TYPE": "Content-Type",
            "CONTENT_LENGTH": "Content-Length",
            "HTTP_CONTENT_ENCODING": "Content-Encoding",
            "GIT_PROTOCOL": "Git-Protocol",
        }
        return variables | {name: self.headers[header] for name, header in passed_on.items() if header in self.headers}

    def _feed(self, backend: IO[bytes]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ValueError, TimeoutError):
            for block in self._body():
                backend.write(block)
        with contextlib.suppress(BrokenPipeError):
            backend.close()

    def _body(self) -> Iterator[bytes]:
        """Yield the request's body in blocks; a body that ends early ends the connection too."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while size := int(self.rfile.readline(64).split(b";")[0].strip(), 16):
                yield from self._read(size)
                self.rfile.readline(3)
            while self.rfile.readline(_BLOCK).strip():
                pass  # trailers, which Git does not use
        else:
            yield from self._read(int(self.headers.get("Content-Length", "0")))

    def _read(self, size: int) -> Iterator[bytes]:
        while size:
            block = self.rfile.read(min(size, _BLOCK))
            if not block:
                self.close_connection = True
                return
            size -= len(block)
            yield block

    def _relay(self, backend: io.BufferedReader) -> None:
        status, headers = 200, []
        while line := backend.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            if name.lower() == "status":
                status = int(value.split()[0])
            else:
                headers.append((name, value.strip()))
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while block := backend.read1(_BLOCK):
            self.send_block(block)
        self.wfile.write(b"0\r\n\r\n")

    def send_block(self, block: bytes) -> None:
        """Send one chunk of an answer's body."""
        self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own name
        """Write one line per request to standard error, without its headers, and so without the token."""
        sys.stderr.write(f"{self.log_date_time_string()} {format % args}\n")


def create_repository(root: Path, name: str, content: Path, branch: str = "main") -> Path:
    """Make the bare repository `root/name` with one commit of the regular files under `content`.

    Raises:
        FileExistsError: a repository of that name exists.
    """
    repository, content = root.resolve() / name, content.resolve()
    repository.mkdir(parents=True)

    def git(*arguments: str) -> None:
        _git(repository, "-c", "core.hooksPath=/dev/null", *arguments, cwd=content)

    git("init", "--bare", "--quiet", "--template=", f"--initial-branch={branch}")
    git("-c", "core.bare=false", "--work-tree=.", "add", "--all", "--force", ".")
    git("-c", "core.bare=false", "--work-tree=.", "commit", "--quiet", "--message", "Start with what is deployed")
    (repository / "index").unlink()
    return repository


def begin_branch(repository: Path, branch: str, folder: str) -> None:
    """Let a bare repository have a branch that descends from its first one, and holds only that folder's files."""
    in_a_tree = ("-c", "core.bare=false", "--work-tree=.")  # which stays as it is
    _git(repository, *in_a_tree, "read-tree", f"--prefix={folder}/", f"HEAD:{folder}", cwd=repository)
    tree = _git(repository, "write-tree")
    commit = _git(repository, "commit-tree", "-p", "HEAD", "-m", "Hold the models alone", tree)
    _git(repository, "update-ref", f"refs/heads/{branch}", commit)
    (repository / "index").unlink()


def protect(repository: Path) -> None:
    """Let a bare repository refuse what a login's token may not push to."""
    hook = repository / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(_HOOK)
    hook.chmod(0o755)


def _git(repository: Path, *arguments: str, cwd: Path | None = None) -> str:
    """Run Git in a bare repository as its operator, and return what it prints."""
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_DIR": str(repository),
        "GIT_AUTHOR_NAME": "operator",
        "GIT_AUTHOR_EMAIL": "operator@localhost",
        "GIT_COMMITTER_NAME": "operator",
        "GIT_COMMITTER_EMAIL": "operator@localhost",
    }
    done = subprocess.run(["git", *arguments], check=True, cwd=cwd, env=env, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="git_server", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="folder that holds the bare repositories")
    parser.add_argument("--token-file", type=Path, required=True, help="file that holds the token that may do anything")
    parser.add_argument(
        "--bounded-file", type=Path, help="file of further tokens, one a line, each with the refs that it may push to"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--port-file", type=Path, help="file to write the port to, once it is open")
    options = parser.parse_args(arguments)
    lines = options.bounded_file.read_text().splitlines() if options.bounded_file else []
    bounded = {token: refs for token, _, refs in (line.partition(" ") for line in lines)}
    token = options.token_file.read_text().strip()
    server = GitServer(options.root, token, options.port, host=options.host, bounded=bounded)
    for number in (signal.SIGTERM, signal.SIGINT):
        # shutdown() waits for the loop, which this very thread runs.
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown, daemon=True).start())
    if options.port_file:
        draft = options.port_file.with_name(options.port_file.name + ".new")
        draft.write_text(f"{server.port}\n")
        draft.replace(options.port_file)
    print(server.port, flush=True)
    with server:
        server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()

"""The mirror: a bare repository on this machine between the pipeline and the Git server, and how Git is run in it.

It is a cache: when it is lost or broken, it is remade. Nothing that this machine's users, its environment or the
server provide is run or obeyed: no hooks, no system or global configuration, no inherited `GIT_*` variables, no
redirects.
"""

import contextlib
import fcntl
import hashlib
import os
import shlex
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestration.adapters.git.remote import Remote
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.redact import redact

LOCAL_SECONDS = 60.0
NETWORK_SECONDS = 120.0
_ERROR_CHARACTERS = 1000
# With these a person chooses certificates and ssh for Git; every other inherited GIT_* variable is removed.
_INHERITED = {"GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_SSH", "GIT_SSH_COMMAND"}
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.logAllRefUpdates=false",
    "credential.helper=",
    "gc.auto=0",  # only `tidy` runs it: a detached gc would outlive the lock
    "gc.autoDetach=false",
    "maintenance.auto=false",
    "http.followRedirects=false",  # the token goes to the host that a person named, and nowhere else
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=30",  # so that a Git whose parent was killed ends too
    "protocol.version=2",
    "push.gpgSign=false",
    "push.followTags=false",
)
# A partial clone, if the server supports it. These options are given only to commands that may fetch left-out content
# and to those that must know that it is left out. They are never in the mirror's own configuration, so for all other
# commands left-out content is simply missing. If those were merely cut off from the network, Git would still try to
# fetch it, and sometimes die of SIGPIPE.
_PARTIAL = ("-c", "remote.origin.promisor=true", "-c", "remote.origin.partialCloneFilter=blob:none")


class MirrorBrokenError(Exception):
    """A local command failed that cannot fail in an intact mirror; the code that catches this remakes the mirror."""


@dataclass(frozen=True)
class GitResult:
    """How a Git command ended."""

    status: int
    output: bytes
    error: str
    """Its standard error, redacted and cut."""
    timed_out: bool = False

    @property
    def text(self) -> str:
        """The output as text, without white space around it."""
        return self.output.decode("utf-8", errors="replace").strip()


class Mirror:
    """A mirror of one remote's branch, at `state/git/<hash of url and branch>`; several processes may share it."""

    def __init__(self, remote: Remote, state: Path) -> None:
        self.remote = remote
        name = hashlib.sha256(f"{remote.url}\n{remote.branch}".encode()).hexdigest()[:16]
        self.folder = state.absolute() / "git" / name
        self.path = self.folder / "mirror"
        self._held = threading.local()

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the mirror's lock; the same thread may enter again inside. Yields the lock's file descriptor.

        Every Git process inherits the descriptor, and the kernel releases the lock when the last process that has it
        is gone. So the holder of the lock knows that no Git runs here, not even an orphan of a killed process, and that
        every lock file that remains belongs to a dead process (argo-cd#7898). Waiting for the lock has no deadline:
        each command under the lock has its own.
        """
        if (held := getattr(self._held, "descriptor", None)) is not None:
            yield held
            return
        with self._usable_folder():
            descriptor = self._lock()
            self._held.descriptor = descriptor
            try:
                self._make_usable()
                yield descriptor
            finally:
                self._held.descriptor = None
                os.close(descriptor)

    @contextlib.contextmanager
    def _usable_folder(self) -> Iterator[None]:
        """Turn a full disk, or a folder that may not be written, into a `DependencyError`."""
        try:
            yield
        except OSError as error:
            raise self._unusable(f"{type(error).__name__}: {error.strerror}") from error

    def _lock(self) -> int:
        while True:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = self.folder / "lock"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                # The state may have been removed meanwhile, and a lock on a file without a name excludes nobody.
                if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _make_usable(self) -> None:
        if not (self.path / "HEAD").is_file():
            self._create()
            return
        for stale in (
            *self.path.glob("*.lock"),
            *self.path.glob("refs/**/*.lock"),
            *self.path.glob("objects/*/*.lock"),
        ):
            stale.unlink(missing_ok=True)
        (self.path / "gc.pid").unlink(missing_ok=True)

    def _create(self) -> None:
        draft = self.folder / "mirror.new"
        for old in (draft, self.path):
            if old.exists():
                shutil.rmtree(old)
        result = self._run(("init", "--bare", "--quiet", "--template=", str(draft)), {}, b"", LOCAL_SECONDS)
        if result.status != 0:
            raise self._unusable(result.error or f"git init ended with status {result.status}")
        draft.rename(self.path)

    def _unusable(self, found: str) -> DependencyError:
        expected = "a folder in which a bare repository can be made"
        next_step = "Free space, or fix the permissions of the folder that INCUMBENT_STATE names."
        return DependencyError(Problem(f"Git mirror {self.path}", expected, found, next_step))

    def remake(self) -> None:
        """Delete the mirror and create an empty one."""
        with self.locked():
            self._create()

    def tidy(self) -> None:
        """Let Git pack what has accumulated, if Git finds it worthwhile."""
        with self.locked():
            self.local(*_PARTIAL, "-c", "gc.auto=6700", "gc", "--auto", "--quiet", seconds=NETWORK_SECONDS)

    def local(
        self,
        *arguments: str,
        stdin: bytes = b"",
        allowed: tuple[int, ...] = (0,),
        variables: Mapping[str, str] | None = None,
        seconds: float = LOCAL_SECONDS,
    ) -> GitResult:
        """Run a command that never uses the network, not even to fetch an object that the partial clone left out.

        Args:
            arguments: what follows `git` on the command line.
            stdin: the command's standard input.
            allowed: exit statuses that are not failures.
            variables: environment variables for the command.
            seconds: how long the command may take.

        Raises:
            MirrorBrokenError: the command ended with a status that is not allowed.
        """
        result = self._run(arguments, {**(variables or {}), "GIT_ALLOW_PROTOCOL": "none"}, stdin, seconds)
        if result.status not in allowed:
            command = next(word for word in arguments if not word.startswith("-") and "=" not in word)
            raise MirrorBrokenError(f"git {command} ended with status {result.status}: {result.error}")
        return result

    def network(self, *arguments: str, stdin: bytes = b"") -> GitResult:
        """Run a command in the mirror that may talk to the server; the caller judges how it ended."""
        with self.locked():
            return self._run((*_PARTIAL, *arguments), self._credentials(), stdin, NETWORK_SECONDS)

    def ask_server(self, *arguments: str) -> GitResult:
        """Run a command that talks to the server and needs neither the mirror nor its lock."""
        nowhere = {"GIT_DIR": str(self.folder / "nowhere")}
        with self._usable_folder():
            return self._execute(arguments, {**self._credentials(), **nowhere}, b"", NETWORK_SECONDS)

    def _run(self, arguments: tuple[str, ...], variables: Mapping[str, str], stdin: bytes, seconds: float) -> GitResult:
        with self.locked() as descriptor:
            return self._execute(arguments, {"GIT_DIR": str(self.path), **variables}, stdin, seconds, (descriptor,))

    def _execute(
        self,
        arguments: tuple[str, ...],
        variables: Mapping[str, str],
        stdin: bytes,
        seconds: float,
        descriptors: tuple[int, ...] = (),
    ) -> GitResult:
        try:
            from git.cmd import Git
            from git.exc import GitCommandNotFound
        except ImportError as missing:  # GitPython cannot be imported without Git
            raise _no_git() from missing
        environment = {**_ENVIRONMENT, **variables}
        # `env -u` removes inherited variables, which GitPython cannot.
        unwanted = [name for name in os.environ if name.startswith("GIT_") and name not in {*_INHERITED, *environment}]
        unset = [part for name in unwanted for part in ("-u", name)]
        settings = [
            part for setting in (*_SETTINGS, f"remote.origin.url={self.remote.url}") for part in ("-c", setting)
        ]
        secrets = self.remote.secrets()
        with tempfile.TemporaryFile() as istream:
            istream.write(stdin)
            istream.seek(0)
            try:
                status, output, error = Git().execute(
                    ["env", *unset, Git.GIT_PYTHON_GIT_EXECUTABLE or "git", *settings, *arguments],
                    istream=istream,
                    with_extended_output=True,
                    with_exceptions=False,
                    stdout_as_string=False,
                    strip_newline_in_stdout=False,
                    kill_after_timeout=seconds,
                    shell=False,
                    env=environment,
                    pass_fds=descriptors,
                )
            except GitCommandNotFound as missing:
                raise _no_git() from missing
        if status == 127:
            raise _no_git()
        # GitPython's own message for a command that it killed.
        timed_out = status < 0 and error.startswith("Timeout: the command")
        # The token may be replaced while Git runs, so both are removed.
        message = f"no answer within {seconds:g} s" if timed_out else redact(error, (*secrets, *self.remote.secrets()))
        return GitResult(int(status), output, message[-_ERROR_CHARACTERS:].strip(), timed_out)

    def _credentials(self) -> dict[str, str]:
        """Variables that make Git ask a small program for the token; none of them holds the token itself.

        Raises:
            DependencyError: the token's file cannot be read.
        """
        if self.remote.token_file is None:
            return {"GIT_ASKPASS": "", "SSH_ASKPASS": ""}
        self.remote.token()
        program = self.folder / "askpass"
        token_file = shlex.quote(str(self.remote.token_file.absolute()))
        text = f'#!/bin/sh\ncase "$1" in Username*) echo x-access-token ;; *) exec cat {token_file} ;; esac\n'
        if not program.is_file() or program.read_text() != text:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, draft = tempfile.mkstemp(dir=self.folder, prefix="askpass.")
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
            Path(draft).chmod(0o700)
            Path(draft).rename(program)
        return {"GIT_ASKPASS": str(program)}


_ENVIRONMENT = {
    "LC_ALL": "C",
    "LANGUAGE": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_ALLOW_PROTOCOL": "https:http:ssh:file",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_ASKPASS": "",
}


def _no_git() -> DependencyError:
    return DependencyError(Problem("Git", "the program git on PATH", "no such program", "Install Git 2.32 or newer."))

"""The mirror: a bare repository on this machine between the pipeline and the Git server, and how Git is run in it.

It is a cache: when it is lost or broken, it is remade. Nothing that this machine's users, its environment or the
server provide is run or obeyed: no hooks, no system or global configuration, no inherited `GIT_*` variables, no
redirects.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from orchestration.adapters.git.login import ssh_command
from orchestration.adapters.git.remote import NO_ANSWER, Remote, is_refused_login
from orchestration.adapters.importing import importing
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.redact import redact

LOCAL_SECONDS = 60.0
_TIDY_SECONDS = 120.0
_ERROR_CHARACTERS = 1000
_TOKEN = "INCUMBENT_TOKEN_DESCRIPTOR"  # noqa: S105 - a variable's name
"""The variable that says where the program reads the token that Git asks for."""
_ASKPASS = """\
#!/bin/sh
case "$1" in
    Username*) printf '%s\\n' {username} ;;
    *) exec cat "/dev/fd/${token}" ;;
esac
"""
_INHERITED_SSH = {"GIT_SSH", "GIT_SSH_COMMAND"}
# With these a person chooses certificates and ssh for Git; every other inherited GIT_* variable is removed.
_INHERITED = {"GIT_SSL_CAINFO", "GIT_SSL_CAPATH", *_INHERITED_SSH}
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.logAllRefUpdates=false",
    "credential.helper=",
    "gc.auto=0",  # only `tidy` runs it: a detached gc would outlive the lock
    "gc.autoDetach=false",
    "maintenance.auto=false",
    "http.followRedirects=false",  # the token goes to the host that a person named, and nowhere else
    "http.lowSpeedLimit=1",
    "protocol.version=2",
    "push.gpgSign=false",
    "push.followTags=false",
)
# A partial clone, if the server supports it. These options are given only to commands that may fetch left-out content
# and to those that must know that it is left out. They are never in the mirror's own configuration, so for all other
# commands left-out content is simply missing. If those were merely cut off from the network, Git would still try to
# fetch it, and sometimes die of SIGPIPE.
_PARTIAL = ("-c", "remote.origin.promisor=true", "-c", "remote.origin.partialCloneFilter=blob:none")


_NO_SSH = re.compile(rb"^(.*: ssh: (command )?not found|error: cannot run ssh: No such file)", re.MULTILINE)
_NOTHING_CAME = re.compile(r"Operation too slow|Connection timed out|Timeout, server \S+ not responding")


@dataclass(frozen=True)
class Patience:
    """How long the server may send nothing, and how long a command may take in all; in seconds.

    Only over HTTP does Git notice the first by itself, and only once it is connected.
    """

    silent: int
    in_all: float


@dataclass(frozen=True)
class Limits:
    """How long the server is waited for. One that accepts connections and never answers must not hold up a tick."""

    first_try: Patience = Patience(10, 15.0)
    """Of a fetch; one that takes longer is repeated, once the server has answered a small question."""
    answer: Patience = Patience(15, 15.0)
    """Of that small question, which refs there are."""
    transfer: Patience = Patience(30, 120.0)
    """Of anything else. Git's packets that keep a connection alive while a hook computes are too small to count."""
    unasked: float = 30.0
    """How many seconds a server that did not answer the small question is not asked again, whoever would."""


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

    def __init__(self, remote: Remote, state: Path, limits: Limits | None = None) -> None:
        self.remote, self.limits = remote, limits or Limits()
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
            self.local(*_PARTIAL, "-c", "gc.auto=6700", "gc", "--auto", "--quiet", seconds=_TIDY_SECONDS)

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

    def network(self, *arguments: str, stdin: bytes = b"", patience: Patience | None = None) -> GitResult:
        """Run a command in the mirror that may talk to the server; the caller judges how it ended."""
        with self.locked() as descriptor:
            variables = {"GIT_DIR": str(self.path)}
            patience = patience or self.limits.transfer
            return self._ask((*_PARTIAL, *arguments), variables, stdin, patience, (descriptor,))

    def ask_server(self, *arguments: str, variables: Mapping[str, str] | None = None) -> GitResult:
        """Ask the server a small question, which needs neither the mirror nor its lock.

        A server that does not answer it is not asked anything again for a while, by no process on this machine.
        """
        everything = {**(variables or {}), "GIT_DIR": str(self.folder / "nowhere")}
        with self._usable_folder():
            result = self._ask(arguments, everything, b"", self.limits.answer)
            if result.timed_out and not self.is_silent:
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._silent.touch()
            return result

    @property
    def _silent(self) -> Path:
        """The file whose time says when the server did not answer."""
        return self.folder / "silent"

    @property
    def is_silent(self) -> bool:
        """Whether the server did not answer just now."""
        try:
            return 0.0 <= time.time() - self._silent.stat().st_mtime < self.limits.unasked
        except FileNotFoundError:
            return False

    def _ask(
        self,
        arguments: tuple[str, ...],
        variables: Mapping[str, str],
        stdin: bytes,
        patience: Patience,
        descriptors: tuple[int, ...] = (),
    ) -> GitResult:
        """Run a command that talks to the server, unless that did not answer just now."""
        no_answer = GitResult(1, b"", f"{NO_ANSWER}{self.limits.answer.in_all:g} s", timed_out=True)
        if self.is_silent:
            return no_answer
        silence = ["-c", f"http.lowSpeedTime={patience.silent}"]
        if self._chooses_ssh:
            silence += ["-c", f"core.sshCommand={ssh_command(self.remote.login, patience.silent)}"]
        with self._credentials() as (credentials, descriptor):
            everything = {**variables, **credentials}
            result = self._execute(
                (*silence, *arguments), everything, stdin, patience.in_all, (*descriptors, *descriptor)
            )
        if is_refused_login(result.error):
            self.remote.login.refused()
        return result

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
            with importing:
                from git.cmd import Git
                from git.exc import GitCommandNotFound
        except ImportError as missing:  # GitPython cannot be imported without Git
            raise _missing("git", "Git 2.32 or newer") from missing
        environment = {**_ENVIRONMENT, **variables}
        # `env -u` removes inherited variables, which GitPython cannot.
        kept = {*(_INHERITED - _INHERITED_SSH if self._chooses_ssh else _INHERITED), *environment}
        unwanted = [name for name in os.environ if name.startswith("GIT_") and name not in kept]
        unset = [part for name in unwanted for part in ("-u", name)]
        settings = [
            part for setting in (*_SETTINGS, f"remote.origin.url={self.remote.url}") for part in ("-c", setting)
        ]
        secrets, began = self.remote.login.secrets(), time.monotonic()
        with tempfile.TemporaryFile() as istream:
            istream.write(stdin)
            istream.seek(0)
            try:
                running = Git().execute(
                    ["env", *unset, Git.GIT_PYTHON_GIT_EXECUTABLE or "git", *settings, *arguments],
                    istream=istream,
                    as_process=True,
                    shell=False,
                    env=environment,
                    pass_fds=descriptors,
                    start_new_session=True,
                )
            except GitCommandNotFound as missing:
                raise _missing("git", "Git 2.32 or newer") from missing
            status, output, error, killed = _finish(cast("subprocess.Popen[bytes]", running.proc), seconds)
        if status == 127:
            raise _missing("git", "Git 2.32 or newer")
        if self.remote.is_ssh and _NO_SSH.search(error):
            raise _missing("ssh", "an OpenSSH client")
        waited = time.monotonic() - began
        # The token may be replaced while Git runs, so both are removed.
        message = redact(error.decode("utf-8", errors="replace"), (*secrets, *self.remote.login.secrets()))
        timed_out = killed or _NOTHING_CAME.search(message) is not None
        if timed_out:
            message = f"{NO_ANSWER}{min(waited, seconds):.0f} s"
        return GitResult(status, output, message[-_ERROR_CHARACTERS:].strip(), timed_out)

    @property
    def _chooses_ssh(self) -> bool:
        """Whether our own ssh command is used, and not one that a person gave Git in the environment."""
        login = self.remote.login
        is_told = login.ssh_key_file is not None or login.known_hosts_file is not None
        return self.remote.is_ssh and (is_told or not _INHERITED_SSH & os.environ.keys())

    @contextlib.contextmanager
    def _credentials(self) -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
        """Make Git ask a small program for the token, which reads it from memory that has no name.

        Yields variables, none of which holds the token itself, and the file descriptors that Git must inherit.

        Raises:
            DependencyError: the token's file cannot be read, or GitHub gave no token.
        """
        token = "" if self.remote.is_ssh else self.remote.login.token()
        if not token:
            yield {"GIT_ASKPASS": "", "SSH_ASKPASS": ""}, ()
            return
        program = self.folder / "askpass"
        text = _ASKPASS.format(username=shlex.quote(self.remote.username), token=_TOKEN)
        if not program.is_file() or program.read_text() != text:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, draft = tempfile.mkstemp(dir=self.folder, prefix="askpass.")
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
            Path(draft).chmod(0o700)
            Path(draft).rename(program)
        with os.fdopen(os.memfd_create("token"), "w", encoding="utf-8") as memory:
            memory.write(token)
            memory.flush()
            number = memory.fileno()
            yield {"GIT_ASKPASS": str(program), _TOKEN: str(number)}, (number,)


def _finish(process: subprocess.Popen[bytes], seconds: float) -> tuple[int, bytes, bytes, bool]:
    """Wait for a process that leads its own session; return its status, output and errors, and whether it was killed.

    All of its session is killed: Git's helper for HTTPS, or ssh, would otherwise keep the pipes open for as long as the
    server is silent. GitPython's own `kill_after_timeout` finds these only with pgrep or ps, which slim images lack.
    """
    try:
        output, error = process.communicate(timeout=seconds)
        return process.returncode, output, error, False
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL, b"", b"", True
    finally:
        if process.returncode is None:  # also when this process is interrupted
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


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


def _missing(program: str, package: str) -> DependencyError:
    return DependencyError(Problem("Git", f"the program {program} on PATH", "no such program", f"Install {package}."))

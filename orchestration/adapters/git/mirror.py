"""The bare repository on this machine that stands between the pipeline and the Git server, and how Git is run in it.

It is a cache: lost or broken it is made again. Nothing that this machine's users, its environment or the server put
somewhere is run or obeyed: no hooks, no system or global configuration, no inherited `GIT_*` variables, no redirects.
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
# How a person tells Git which certificates and which ssh to use; every other inherited GIT_* variable is taken away.
_INHERITED = {"GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_SSH", "GIT_SSH_COMMAND"}
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.logAllRefUpdates=false",
    "credential.helper=",
    "gc.auto=0",  # run by `tidy` alone: a detached gc would outlive the lock
    "gc.autoDetach=false",
    "maintenance.auto=false",
    "http.followRedirects=false",  # the token goes to the host that a person named, and to no other
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=30",  # a Git whose parent was killed ends by itself too
    "protocol.version=2",
    "push.gpgSign=false",
    "push.followTags=false",
)
# A partial clone, where the server can. Given to the commands that may bring left-out content here, and to those that
# must know that it is left out. It never stands in the mirror's own configuration, so all other commands take what is
# not here for missing: kept from the network alone, Git would try to fetch all the same, and sometimes die of SIGPIPE.
_PARTIAL = ("-c", "remote.origin.promisor=true", "-c", "remote.origin.partialCloneFilter=blob:none")


class MirrorBrokenError(Exception):
    """A local command failed that cannot fail in a whole mirror; whoever catches this makes the mirror again."""


@dataclass(frozen=True)
class Ran:
    """How a Git command ended. `error` is its standard error, redacted and cut."""

    status: int
    output: bytes
    error: str
    timed_out: bool = False

    @property
    def text(self) -> str:
        return self.output.decode("utf-8", errors="replace").strip()


class Mirror:
    """One remote's branch, at `state/git/<hash of url and branch>`; safe for several processes and threads."""

    def __init__(self, remote: Remote, state: Path) -> None:
        self.remote = remote
        name = hashlib.sha256(f"{remote.url}\n{remote.branch}".encode()).hexdigest()[:16]
        self.folder = state.absolute() / "git" / name
        self.path = self.folder / "mirror"
        self._held = threading.local()

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the mirror; inside it may be entered again by the same thread. Yields the lock's file descriptor.

        Every Git process inherits the descriptor, and the kernel gives the lock back when the last process that has it
        is gone. So who holds the lock knows that no Git runs here, not even an orphan of a killed process, and that
        every lock file that lies about is a dead one's (argo-cd#7898). There is no deadline of our own: each command
        under the lock has one.
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
        """A full disk, a folder that may not be written: our side's fault, told as such."""
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
                # The state may have been removed meanwhile; a lock on a file that has no name excludes nobody.
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
        made = self._run(("init", "--bare", "--quiet", "--template=", str(draft)), {}, b"", LOCAL_SECONDS)
        if made.status != 0:
            raise self._unusable(made.error or f"git init ended with status {made.status}")
        draft.rename(self.path)

    def _unusable(self, found: str) -> DependencyError:
        expected = "a folder in which a bare repository can be made"
        next_step = "Free space or mend the permissions of the folder that INCUMBENT_STATE names."
        return DependencyError(Problem(f"Git mirror {self.path}", expected, found, next_step))

    def remake(self) -> None:
        """Throw the mirror away; the next command finds an empty one."""
        with self.locked():
            self._create()

    def tidy(self) -> None:
        """Let Git pack what has piled up, when it finds that worth while."""
        with self.locked():
            self.local(*_PARTIAL, "-c", "gc.auto=6700", "gc", "--auto", "--quiet", seconds=NETWORK_SECONDS)

    def local(
        self,
        *arguments: str,
        stdin: bytes = b"",
        allowed: tuple[int, ...] = (0,),
        variables: Mapping[str, str] | None = None,
        seconds: float = LOCAL_SECONDS,
    ) -> Ran:
        """Run a command that never uses the network: not even to bring an object that a partial clone left out.

        Raises:
            MirrorBrokenError: it ended with another status than the allowed ones.
        """
        ran = self._run(arguments, {**(variables or {}), "GIT_ALLOW_PROTOCOL": "none"}, stdin, seconds)
        if ran.status not in allowed:
            command = next(one for one in arguments if not one.startswith("-") and "=" not in one)
            raise MirrorBrokenError(f"git {command} ended with status {ran.status}: {ran.error}")
        return ran

    def network(self, *arguments: str, stdin: bytes = b"") -> Ran:
        """Run a command in the mirror that may talk to the server; its end is for the caller to judge."""
        with self.locked():
            return self._run((*_PARTIAL, *arguments), self._credentials(), stdin, NETWORK_SECONDS)

    def ask_server(self, *arguments: str) -> Ran:
        """Run a command that talks to the server and needs nothing of the mirror, nor its lock."""
        nowhere = {"GIT_DIR": str(self.folder / "nowhere")}
        with self._usable_folder():
            return self._execute(arguments, {**self._credentials(), **nowhere}, b"", NETWORK_SECONDS)

    def _run(self, arguments: tuple[str, ...], variables: Mapping[str, str], stdin: bytes, seconds: float) -> Ran:
        with self.locked() as descriptor:
            return self._execute(arguments, {"GIT_DIR": str(self.path), **variables}, stdin, seconds, (descriptor,))

    def _execute(
        self,
        arguments: tuple[str, ...],
        variables: Mapping[str, str],
        stdin: bytes,
        seconds: float,
        descriptors: tuple[int, ...] = (),
    ) -> Ran:
        try:
            from git.cmd import Git
            from git.exc import GitCommandNotFound
        except ImportError as missing:  # GitPython cannot be imported where there is no git
            raise _no_git() from missing
        ours = {**_ENVIRONMENT, **variables}
        # `env -u` takes inherited variables away, which GitPython cannot.
        foreign = [name for name in os.environ if name.startswith("GIT_") and name not in {*_INHERITED, *ours}]
        unset = [part for name in foreign for part in ("-u", name)]
        settings = [part for one in (*_SETTINGS, f"remote.origin.url={self.remote.url}") for part in ("-c", one)]
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
                    env=ours,
                    pass_fds=descriptors,
                )
            except GitCommandNotFound as missing:
                raise _no_git() from missing
        if status == 127:
            raise _no_git()
        # GitPython's own words for a command that it killed.
        timed_out = status < 0 and error.startswith("Timeout: the command")
        said = f"no answer within {seconds:g} s" if timed_out else redact(error, self.remote.secrets())
        return Ran(int(status), output, said[-_ERROR_CHARACTERS:].strip(), timed_out)

    def _credentials(self) -> dict[str, str]:
        """The variables by which Git asks a small program for the token; the token itself is in none of them.

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
    return DependencyError(Problem("Git", "the program git on PATH", "none", "Install Git 2.32 or newer."))

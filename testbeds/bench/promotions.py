"""Promotions in the sandbox, each beside an empty commit that plain Git pushes to the same server."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbeds.bench.processes import processor_seconds, resident_bytes
from testbeds.bench.rows import Goal, Row
from testbeds.common.processes import wait_until
from testbeds.common.services import BRANCH, REPOSITORY
from testbeds.sandbox.environment import SandboxEnvironment
from testbeds.story.look import Git
from testbeds.story.pushing import AUTHOR
from testbeds.story.stories import END_SECONDS, registry, request_promotion, wait_for_end
from testbeds.story.versions import register_again

_IDLE_SECONDS = 60.0
_LOOK_SECONDS = 0.005
_BUSY = "while True: pass"
_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Idle:
    """What the pipeline takes while nothing is promoted."""

    share: float
    """Of one core."""
    resident: int
    """In bytes."""


def idle(environment: SandboxEnvironment, say: Callable[[str], None]) -> Idle:
    """Watch the pipeline for a minute in which nothing happens."""
    home = environment.dagster.home
    say(f"idle for {_IDLE_SECONDS:g} s")
    before, began = processor_seconds(home), time.monotonic()
    time.sleep(_IDLE_SECONDS)  # the minute itself is what is measured
    share = (processor_seconds(home) - before) / (time.monotonic() - began)
    return Idle(share, resident_bytes(home))


def idle_rows(seen: Idle) -> tuple[Row, Row]:
    """Return what an idle pipeline takes of a core, and of the memory."""
    return (
        Row("idle pipeline", "% of a core", (seen.share * 100,), Goal(3.0), _load()),
        Row("resident memory, each page once", "MB", (seen.resident / _MEGABYTE,), Goal(535.0), _load()),
    )


def alias_to_commit(
    environment: SandboxEnvironment, times: int, seen: Idle, say: Callable[[str], None]
) -> tuple[Row, Row]:
    """Return how long it is from an alias to its commit on the server, and the processor time of a promotion."""
    home, began = environment.dagster.home, time.monotonic()
    before = processor_seconds(home)
    commits, pushes = _promotions(environment, times, say)
    seconds = time.monotonic() - began
    of_one = (processor_seconds(home) - before - seen.share * seconds) / times
    goal = Goal(1.0, "more than the control")
    return (
        Row("alias set to commit on the server", "s", commits, goal, _load(), "git push of an empty commit", pushes),
        Row("processor time of a promotion, above idle", "CPU-s", (of_one,), Goal(1.5), _load()),
    )


def alias_to_commit_when_busy(environment: SandboxEnvironment, times: int, say: Callable[[str], None]) -> Row:
    """Return the same with two processes that never stop computing."""
    with _busy_loops(2):
        commits, pushes = _promotions(environment, times, say)
        load = _load()
    goal = Goal(4.0, "more than the control")
    return Row("the same with two busy loops", "s", commits, goal, load, "git push of an empty commit", pushes)


def promote(environment: SandboxEnvironment, say: Callable[[str], None]) -> float:
    """Promote a good version to its end, and return the seconds from its alias to its commit."""
    client = registry(environment)
    version = register_again(environment, of=2)
    before = _head(environment)
    requested_at, began = request_promotion(environment, client, version), time.monotonic()
    while _head(environment) == before:
        if time.monotonic() - began > END_SECONDS:
            raise RuntimeError(f"version {version} of {environment.model} is not committed after {END_SECONDS:g} s")
        time.sleep(_LOOK_SECONDS)
    seconds = time.monotonic() - began
    end = wait_for_end(environment, client, version, requested_at, lambda _: None)
    if end.state != "champion":
        raise RuntimeError(f"version {version} of {environment.model} ended as {end.state}: {end.reason}")
    say(f"version {version}: committed after {seconds:.2f} s")
    return seconds


def _promotions(
    environment: SandboxEnvironment, times: int, say: Callable[[str], None]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the seconds of promotions until their commits, and of the pushes between them."""
    commits, pushes = [], []
    with tempfile.TemporaryDirectory(prefix="bench ") as folder:
        git = Git(environment, Path(folder))
        for _ in range(times):
            pushes.append(_push_nothing(git))
            commits.append(promote(environment, say))
    return tuple(commits), tuple(pushes)


def _push_nothing(git: Git) -> float:
    """Commit nothing on top of the branch and push it; return the seconds of the commit and the push."""
    git.run("fetch", "--quiet", "origin", git.branch)
    git.run("reset", "--quiet", "--hard", "FETCH_HEAD")
    began = time.monotonic()
    git.run(*AUTHOR, "commit", "--quiet", "--allow-empty", "--message", "Nothing")
    git.run("push", "--quiet", "origin", f"HEAD:{git.branch}")
    return time.monotonic() - began


def _head(environment: SandboxEnvironment) -> str:
    """Return the branch's head as the server's disk has it: asking the server would take what is measured."""
    ref = environment.sandbox.state / "git" / REPOSITORY / "refs" / "heads" / BRANCH
    return ref.read_text(encoding="utf-8") if ref.exists() else ""


@contextmanager
def _busy_loops(count: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _load() -> float:
    return os.getloadavg()[0]


def requested_among(environment: SandboxEnvironment, count: int, times: int, say: Callable[[str], None]) -> Row:
    """Return how long it is from an alias to the tag that says that it was seen, with that many policies.

    Raises:
        ProblemError: an alias is not seen in time.
    """
    client = registry(environment)
    _more_policies(environment, client, count)
    seconds = tuple(_seen_after(environment, client, say) for _ in range(times))
    return Row(f"alias set to request, {count} policies", "s", seconds, Goal(2.0), _load())


def _seen_after(environment: SandboxEnvironment, client: Any, say: Callable[[str], None]) -> float:
    version = register_again(environment, of=4)  # it is refused, and so commits nothing
    requested_at, began = request_promotion(environment, client, version), time.monotonic()
    tag = f"incumbent.{environment.policy}.state"
    number = str(version)
    wait_until(
        lambda: tag in client.get_model_version(environment.model, number).tags,
        END_SECONDS,
        f"version {number} is seen",
    )
    seconds = time.monotonic() - began
    wait_for_end(environment, client, version, requested_at, lambda _: None)
    say(f"version {version}: seen after {seconds:.2f} s")
    return seconds


def _more_policies(environment: SandboxEnvironment, client: Any, count: int) -> None:
    """Add policies until there are that many, each for a registered model of its own."""
    folder = Path(environment.settings()["INCUMBENT_POLICIES"])
    text = (folder / f"{environment.policy}.yaml").read_text(encoding="utf-8")
    for number in range(len(list(folder.glob("*.yaml"))), count):
        name = f"bench-{number:04}"
        client.create_registered_model(name)
        (folder / f"{name}.yaml").write_text(text.replace(f"model: {environment.model}", f"model: {name}", 1), "utf-8")

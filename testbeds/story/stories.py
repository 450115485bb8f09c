"""The stories, told once for every environment: a person names a challenger in MLflow, and the rest happens by itself.

A story only sets aliases and waits for the ends that the pipeline writes on the versions. Whether these ends are true
is for the verifier to say.
"""

import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from testbeds.story.environment import Environment, Watch
from testbeds.story.expectation import End, Expected

END_SECONDS = 240.0
"""A promotion of the sandbox takes 15 to 40 s; one that takes longer than this, on whatever machine, is stuck."""
QUIET_SECONDS = 20.0
"""When the version's state has not changed for so long, the errors in the services' logs are worth a line."""
_ENDS = ("champion", "refused", "superseded", "rolled_back")
_POLL_SECONDS = 0.3

FIVE_VERSIONS = (
    End(1, "champion"),
    End(2, "champion"),
    End(3, "rolled_back", reason=r"success_ratio|p95_latency", back_to=2),
    End(4, "refused", reason=r"accuracy.*champion"),
    End(5, "refused", reason=r"no such image"),
)
"""Two good versions; a bad one that looks good until real requests come; a worse one; one that was never built."""

INTENTS = {
    1: "the first that is registered; nothing was ever verified here",
    2: "better than version 1 on the same data",
    3: "answers the recorded requests well, but is slow and fails every fifth of the others",
    4: "worse than the champion on the same data",
    5: "its image is never published",
}


@dataclass(frozen=True)
class Told:
    """One promotion as the person who asked for it saw it; times in seconds since the epoch."""

    version: int
    asked_at: float
    state: str
    reason: str
    ended_at: float


class StoryStuckError(Exception):
    """A version came to no end: its time was over, or a service that it needs has ended."""


def expected(environment: Environment, ends: tuple[End, ...], champion: int) -> Expected:
    """Return a story's ends as the verifier takes them for this environment."""
    return Expected(environment.policy, environment.manifest, ends, champion, environment.judge_within)


def tell(environment: Environment, versions: tuple[int, ...], say: Callable[[str], None]) -> tuple[Told, ...]:
    """Make each version the challenger, one after the other, and wait for its end.

    Raises:
        StoryStuckError: a version came to no end; the message says what the services' logs say.
    """
    client = registry(environment)
    return tuple(_ask_for(environment, client, version, say) for version in versions)


def registry(environment: Environment) -> Any:
    """Make MLflow's own client as a notebook would have it, whatever registry this process is set to."""
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    from mlflow import MlflowClient

    return MlflowClient(environment.mlflow_url, environment.mlflow_url)


def _ask_for(environment: Environment, client: Any, version: int, say: Callable[[str], None]) -> Told:
    say(f"version {version}: alias {environment.challenger_alias} set ({INTENTS.get(version, 'as asked')})")
    asked_at = ask_for(environment, client, version)
    return wait_for_end(environment, client, version, asked_at, say)


def ask_for(environment: Environment, client: Any, version: int) -> float:
    """Make a version the challenger, and return the time of that in seconds since the epoch."""
    asked_at = time.time()
    client.set_registered_model_alias(environment.model, environment.challenger_alias, str(version))
    return asked_at


def wait_for_end(
    environment: Environment, client: Any, version: int, asked_at: float, say: Callable[[str], None]
) -> Told:
    """Wait until the pipeline has written an end on the version; each new state is a line of progress.

    Raises:
        StoryStuckError: the version came to no end.
    """
    state, reason = wait_for_state(environment, client, version, _ENDS, asked_at, say)
    return Told(version, asked_at, state, reason, time.time())


def wait_for_state(
    environment: Environment,
    client: Any,
    version: int,
    states: Collection[str],
    asked_at: float,
    say: Callable[[str], None],
) -> tuple[str, str]:
    """Wait until the version is in one of these states, and return that state with its reason.

    Each new state is a line of progress. So is each error that the services log, once the state has not changed for
    `QUIET_SECONDS`.

    Raises:
        StoryStuckError: the version was in none of these states within `END_SECONDS`, or a service of the testbed has
            ended, without which it never will be; with what the services' logs say.
    """
    watch = environment.watch_services()
    state, reason, last = "", "", None
    began = changed_at = time.monotonic()
    while True:
        if watch.has_failed():
            raise _stuck(environment, version, " or ".join(states), state, reason, watch)
        tags = client.get_model_version(environment.model, str(version)).tags
        state, reason, commit = (tags.get(f"incumbent.{environment.policy}.{name}", "") for name in _READ)
        now = time.monotonic()
        if state != last:
            last, changed_at = state, now
            say(f"version {version}: {_in_words(state, reason, commit)} (after {time.time() - asked_at:.1f} s)")
        if state in states:
            return state, reason
        if now - began > END_SECONDS:
            raise _stuck(environment, version, f"{' or '.join(states)} within {END_SECONDS:g} s", state, reason, watch)
        if now - changed_at > QUIET_SECONDS:
            for error in watch.new_errors():
                say(f"version {version} does not move, and {error}")
        time.sleep(_POLL_SECONDS)


_READ = ("state", "reason", "commit")


def _stuck(
    environment: Environment, version: int, wanted: str, state: str, reason: str, watch: Watch
) -> StoryStuckError:
    shown = f"{state or 'no state'}{f' ({reason})' if reason else ''}"
    return StoryStuckError(
        f"version {version} of {environment.model}: expected {wanted}, found {shown}.\n"
        f"{watch.report()}\nAll logs are in {environment.logs}."
    )


def _in_words(state: str, reason: str, commit: str) -> str:
    match state:
        case "committed":
            return f"committed as {commit[:8]}; it is rolled out and judged now"
        case "champion":
            return "passed, and is the champion"
        case "rejected":
            return "failed; it is taken back now"
        case "rolled_back":
            return "rolled back, and the version before serves again"
        case "":
            return "not seen by the sensor yet"
        case _:
            return f"{state}{f': {reason}' if reason else ''}"

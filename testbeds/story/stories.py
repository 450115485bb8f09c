"""The stories, for every environment: a person names a challenger in MLflow, and the pipeline does the rest.

A story only sets aliases and waits for the final states that the pipeline writes on the versions. The verifier decides
whether these states are true.
"""

import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from testbeds.story.environment import Environment, Watch
from testbeds.story.expectation import End, Expected

END_SECONDS = 240.0
"""A promotion of the sandbox takes 15 to 40 s; one that takes longer than this, on any machine, is stuck."""
QUIET_SECONDS = 20.0
"""After a version's state has not changed for this long, the errors in the services' logs are shown as progress."""
_ENDS = ("champion", "refused", "superseded", "rolled_back")
_POLL_SECONDS = 1.0  # a question takes 15 ms of a processor, here and at MLflow

FIVE_VERSIONS = (
    End(1, "champion"),
    End(2, "champion"),
    End(3, "rolled_back", reason=r"success_ratio|p95_latency", back_to=2),
    End(4, "refused", reason=r"accuracy.*champion"),
    End(5, "refused", reason=r"no such image"),
)
"""Two good versions, a bad one that looks good until real requests come, a worse one, and one that was never built."""

INTENTS = {
    1: "the first that is registered; nothing was ever verified here",
    2: "better than version 1 on the same data",
    3: "answers the recorded requests well, but is slow and fails every fifth of the others",
    4: "worse than the champion on the same data",
    5: "its image is never published",
}


@dataclass(frozen=True)
class Outcome:
    """How one promotion ended, as the person who requested it saw it; times in seconds since the epoch."""

    version: int
    requested_at: float
    state: str
    reason: str
    ended_at: float


class StoryStuckError(Exception):
    """A promotion did not end: its time ran out, or a service that it needs has ended."""


def expected(environment: Environment, ends: tuple[End, ...], champion: int) -> Expected:
    """Return what the verifier expects of a story on this environment."""
    return Expected(environment.policy, environment.manifest, ends, champion, environment.judge_within)


def promote_in_turn(
    environment: Environment, versions: tuple[int, ...], say: Callable[[str], None]
) -> tuple[Outcome, ...]:
    """Make each version the challenger, one after the other, and wait until each promotion has ended.

    Raises:
        StoryStuckError: a promotion did not end; the message includes the errors in the services' logs.
    """
    client = registry(environment)
    return tuple(_promote(environment, client, version, say) for version in versions)


def registry(environment: Environment) -> Any:
    """Make MLflow's own client as a notebook would, for this environment's registry whatever the process is set to."""
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    from mlflow import MlflowClient

    return MlflowClient(environment.mlflow_url, environment.mlflow_url)


def _promote(environment: Environment, client: Any, version: int, say: Callable[[str], None]) -> Outcome:
    say(f"version {version}: alias {environment.challenger_alias} set ({INTENTS.get(version, 'as requested')})")
    requested_at = request_promotion(environment, client, version)
    return wait_for_end(environment, client, version, requested_at, say)


def request_promotion(environment: Environment, client: Any, version: int) -> float:
    """Make a version the challenger, and return when that happened, in seconds since the epoch."""
    requested_at = time.time()
    client.set_registered_model_alias(environment.model, environment.challenger_alias, str(version))
    return requested_at


def wait_for_end(
    environment: Environment, client: Any, version: int, requested_at: float, say: Callable[[str], None]
) -> Outcome:
    """Wait until the pipeline has written a final state on the version; each new state is a line of progress.

    Raises:
        StoryStuckError: the promotion did not end.
    """
    state, reason = wait_for_state(environment, client, version, _ENDS, requested_at, say)
    return Outcome(version, requested_at, state, reason, time.time())


def wait_for_state(
    environment: Environment,
    client: Any,
    version: int,
    states: Collection[str],
    requested_at: float,
    say: Callable[[str], None],
) -> tuple[str, str]:
    """Wait until the version is in one of these states, and return that state with its reason.

    Each new state is a line of progress. So is each error that the services log, once the state has not changed for
    `QUIET_SECONDS`.

    Raises:
        StoryStuckError: the version reached none of these states within `END_SECONDS`, or a service of the testbed has
            ended, so that it never will; the message includes the errors in the services' logs.
    """
    watch = environment.watch_services()
    state, reason, last = "", "", None
    began = changed_at = time.monotonic()
    while True:
        if watch.has_failed():
            raise _stuck(environment, version, " or ".join(states), state, reason, watch)
        tags = client.get_model_version(environment.model, str(version)).tags
        state, reason, commit = (tags.get(f"incumbent.{environment.policy}.{name}", "") for name in _TAGS)
        now = time.monotonic()
        if state != last:
            last, changed_at = state, now
            say(f"version {version}: {_in_words(state, reason, commit)} (after {time.time() - requested_at:.1f} s)")
        if state in states:
            return state, reason
        if now - began > END_SECONDS:
            raise _stuck(environment, version, f"{' or '.join(states)} within {END_SECONDS:g} s", state, reason, watch)
        if now - changed_at > QUIET_SECONDS:
            for error in watch.new_errors():
                say(f"version {version} makes no progress, and {error}")
        time.sleep(_POLL_SECONDS)


_TAGS = ("state", "reason", "commit")


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

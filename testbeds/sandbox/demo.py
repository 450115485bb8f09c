"""`make demo`: the whole story in the sandbox, with a line for each event, a table, and the verifier's verdict."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from testbeds.sandbox.environment import SandboxEnvironment
from testbeds.sandbox.sandbox import Sandbox
from testbeds.story.look import look
from testbeds.story.stages import stages_of
from testbeds.story.stories import FIVE_VERSIONS, Outcome, expected, promote_in_turn
from testbeds.story.table import client_summary, story_table, wrapped
from testbeds.story.verifier import Finding, verify


class Progress:
    """Lines of progress, each with the seconds since the start."""

    def __init__(self) -> None:
        self.began_at = time.time()
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        print(wrapped(text, f"{self.seconds:7.1f} s  ", " " * 11), flush=True)


def demo(state: Path) -> int:
    """Play the story of the five versions and judge it; return the exit code, 0 when the story came true.

    Raises:
        ProblemError: the sandbox does not come up.
        StoryStuckError: a promotion came to no end.
    """
    progress = Progress()
    progress.say("starting MLflow, Git, an OCI registry, Prometheus and the cluster; training ten models")
    with Sandbox(state) as sandbox:
        environment = SandboxEnvironment(sandbox)
        progress.say(f"the baseline serves at {sandbox.service_url}; its model is not registered")
        environment.start_client()
        progress.say("a client sends requests from now on; starting Dagster's daemon and pages")
        environment.start_dagster()
        progress.say("the registry sensor is on")
        outcomes = promote_in_turn(environment, tuple(end.version for end in FIVE_VERSIONS), progress.say)
        progress.say("the story has ended; reading what it left in Git, MLflow, the processes and the client's log")
        environment.stop_client()
        environment.dagster.await_runs()  # the last one has written its version's end, and not yet its own
        seen = look(environment)
        story = expected(environment, FIVE_VERSIONS, champion=2)
        findings = verify(seen, story)
        stages = {outcome.version: stages_of(environment, story, seen, outcome.version) for outcome in outcomes}
        print(f"\n{story_table(story, outcomes, seen, stages)}\n\n{client_summary(story, seen)}\n")
    return _conclude(sandbox, findings, outcomes, progress)


def _conclude(sandbox: Sandbox, findings: Sequence[Finding], outcomes: Sequence[Outcome], progress: Progress) -> int:
    false = [finding for finding in findings if not finding.holds]
    if false:
        print(_coloured(f"The story did not come true: {len(false)} of {len(findings)} claims are false.", 31))
        for finding in false:
            print(f"  {finding.claim}\n    found: {finding.evidence}")
        print(f"The logs are in {sandbox.state / 'logs'}.")
        return 1
    first = next(outcome for outcome in outcomes if outcome.state == "champion")
    print(_coloured(f"The story came true: all {len(findings)} claims of the verifier hold.", 32))
    seconds_to_first = first.ended_at - progress.began_at
    print(f"  first champion {seconds_to_first:.0f} s after the start, all of it in {progress.seconds:.0f} s")
    print(f"""
`make ui` opens this state again and leaves it running until Ctrl-C:
  Dagster  {sandbox.dagster.url}/assets   (one row per version; each end with its reason)
  MLflow   {sandbox.mlflow_url}/#/models/{sandbox.policy.model}
Try by hand, while it runs: in MLflow, give version 6 the alias challenger, and watch Dagster promote it.""")
    return 0


def _coloured(text: str, colour: int) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if sys.stdout.isatty() else text

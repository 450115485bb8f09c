"""The first week of docs/operate.md, on each testbed: people act, and Git, MLflow and what serves say what came of it.

All tests share one testbed after the story. Each leaves a champion that serves, and the next one registers a newer
version.
"""

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from testbeds.common.processes import wait_until
from testbeds.story.environment import Environment
from testbeds.story.expectation import End, promoting
from testbeds.story.look import branch, look
from testbeds.story.seen import Seen
from testbeds.story.stories import (
    END_SECONDS,
    expected,
    registry,
    request_promotion,
    wait_for_end,
    wait_for_state,
)
from testbeds.story.verifier import false_claims, verify
from testbeds.story.versions import register_again
from tests.scenarios.people import (
    decide,
    history_from_git,
    policy_with,
    put_image_back,
    refused,
    register_bad,
)

pytestmark = [pytest.mark.scenarios, pytest.mark.timeout(8 * END_SECONDS)]


@pytest.fixture(scope="module")
def week(after_the_story: Environment) -> Environment:
    """The testbed after the story, with a sensor that watches the registry whatever the tests before have left."""
    after_the_story.stop_dagster()
    after_the_story.start_dagster()
    return after_the_story


def test_a_return_by_hand_stands_and_is_adopted(week: Environment, tmp_path: Path) -> None:
    """After a person's return a failed version goes back to what that person chose, and Git alone knows it all."""
    client = registry(week)
    left = _champion(week)
    put_image_back(week, 1)
    _serves(week, 1)
    bad = register_bad(week)
    assert _promote(week, client, bad) == "rolled_back"
    seen = look(week)
    assert seen.champion == left, "the pipeline does not move the alias to what a person put into Git"
    assert _serving(seen) == {"1"}
    assert seen.commits[-1].image == promoting(seen.commits, week.policy, 1)[0].image

    assert "version 1" in decide(week, "adopt", week.policy, "1")
    adopted = look(week)
    assert (adopted.champion, adopted.commits) == (1, seen.commits)

    good, requested_at = register_again(week, of=2), time.time()
    assert _promote(week, client, good) == "champion"
    assert false_claims(verify(look(week, requested_at), expected(week, (End(good, "champion"),), good))) == {}

    history = history_from_git(week, tmp_path / "empty state")
    reigns = [(reign["version"], reign["began"]) for reign in history["reigns"]]
    assert reigns[:3] == [(good, "promotion"), (1, "adopted"), (1, "return by hand")]
    assert reigns[3][0] == left
    assert [reign["until"] is None for reign in history["reigns"]] == [True] + [False] * (len(reigns) - 1)
    ends = {attempt["version"]: attempt["end"] for attempt in history["attempts"]}
    assert (ends[good], ends[bad], ends[left]) == ("champion", "rolled back", "champion")


def test_a_held_policy_commits_nothing_until_it_is_resumed(week: Environment) -> None:
    """A challenger waits for a hold and says so; after `resume` it becomes champion with one commit, unasked."""
    client, before = registry(week), branch(week)
    decide(week, "hold", week.policy)
    version = register_again(week, of=2)
    requested_at = request_promotion(week, client, version)
    assert "a hold by ana@localhost" in _waits(week, client, version, requested_at)
    assert branch(week) == before
    decide(week, "resume", week.policy)
    _becomes_champion(week, client, version, requested_at)


def test_a_freeze_and_a_missing_approval_are_waited_for_one_by_one(week: Environment) -> None:
    """In a freeze nothing but a return is committed; later only the approval of someone listed lets the version in."""
    client, left = registry(week), _champion(week)
    asked = "approval: {by: [ana@localhost]}"
    version = register_again(week, of=2)
    with policy_with(week, f"{asked}\nfreeze: [{_frozen_now()}]"):
        requested_at = request_promotion(week, client, version)
        reason = _waits(week, client, version, requested_at)
        assert "a freeze until" in reason
        assert "stocktaking" in reason
        former = _former(week)
        decide(week, "rollback", week.policy)
        returned = look(week)
        assert (returned.champion, _serving(returned)) == (former, {str(former)})
        assert returned.commits[-1].trailers["Returns-From"] == str(left)
        assert promoting(returned.commits, week.policy, version) == []
    with policy_with(week, asked):
        wait_until(lambda: "a freeze" not in _reason(week, client, version), END_SECONDS, "the freeze is over")
        assert "expected approval by 1 of ana@localhost" in _reason(week, client, version)
        assert "expected one of ana@localhost" in refused(
            week, "approve", week.policy, str(version), by="mallory@localhost"
        )
        assert promoting(branch(week), week.policy, version) == []
        decide(week, "approve", week.policy, str(version))
        _becomes_champion(week, client, version, requested_at)


def test_a_run_that_is_cancelled_at_its_start_stays_cancelled(week: Environment) -> None:
    """A person cancels the run before it did anything: nothing is committed until `retry`, which makes a champion."""
    client, before = registry(week), branch(week)
    version = register_again(week, of=2)
    requested_at = request_promotion(week, client, version)
    partition = {"partition": f"{week.policy}@{version}"}

    def newest_run() -> str | None:
        runs = week.ask_dagster(_RUNS, partition)["runsOrError"]["results"]
        return str(runs[0]["runId"]) if runs else None

    run = wait_until(newest_run, END_SECONDS, "the sensor has requested a run")
    wait_until(lambda: _cancels(week, run), END_SECONDS, "Dagster cancels the run")
    reason = wait_for_state(week, client, version, ["held"], requested_at, print)[1]
    assert "A person cancelled the run" in reason
    assert branch(week) == before
    decide(week, "retry", week.policy, str(version))
    _becomes_champion(week, client, version, requested_at)


_RUNS = """
query($partition: String!) {
  runsOrError(filter: {tags: [{key: "dagster/partition", value: $partition}]}) { ... on Runs { results { runId } } }
}
"""
_CANCEL = "mutation($run: String!) { terminateRun(runId: $run) { __typename } }"


def _cancels(environment: Environment, run: str) -> bool:
    """Cancel a run as Dagster's page does; it cannot be cancelled at each moment of its start."""
    answer = environment.ask_dagster(_CANCEL, {"run": run})
    return bool(answer.get("terminateRun", {}).get("__typename") == "TerminateRunSuccess")


def test_another_dagster_goes_on_after_one_is_lost(week: Environment) -> None:
    """When Dagster is lost with all its storage after a commit, a new one makes a champion with that one commit."""
    client = registry(week)
    version = register_again(week, of=2)
    requested_at = request_promotion(week, client, version)
    wait_for_state(week, client, version, ["committed"], requested_at, print)
    runs = week.run_processes()
    for process in runs:
        os.kill(process, signal.SIGSTOP)  # so that it cannot end before everything is lost
    week.lose_dagster()
    assert len(runs) == 1
    assert not any(Path(f"/proc/{process}").exists() for process in runs)
    week.start_dagster()
    _becomes_champion(week, client, version, requested_at)


def _promote(environment: Environment, client: Any, version: int) -> str:
    requested_at = request_promotion(environment, client, version)
    return wait_for_end(environment, client, version, requested_at, print).state


def _becomes_champion(environment: Environment, client: Any, version: int, requested_at: float) -> None:
    """Wait for the end of a promotion, which must be a true one by all that the verifier knows."""
    assert wait_for_end(environment, client, version, requested_at, print).state == "champion"
    story = expected(environment, (End(version, "champion"),), version)
    assert false_claims(verify(look(environment, requested_at), story)) == {}


def _waits(environment: Environment, client: Any, version: int, requested_at: float) -> str:
    """Wait until a version waits, and return what for."""
    return wait_for_state(environment, client, version, ["waiting"], requested_at, print)[1]


def _reason(environment: Environment, client: Any, version: int) -> str:
    tags = client.get_model_version(environment.model, str(version)).tags
    return str(tags[f"incumbent.{environment.policy}.reason"])


def _champion(environment: Environment) -> int:
    champion = look(environment).champion
    assert champion is not None
    return champion


def _former(environment: Environment) -> int:
    """Return the version before the champion among those that Git's evidence tags name, the newest first."""
    seen = look(environment)
    tags = [tag.name for tag in seen.tags if tag.name.startswith(f"incumbent/{environment.policy}/")]
    verified = {int(name.rsplit("/", 1)[1].split("-")[0]) for name in tags if "/acts/" not in name}
    return max(version for version in verified if version != seen.champion)


def _serving(seen: Seen) -> set[str]:
    return {serving.version for serving in seen.serving}


def _serves(environment: Environment, version: int) -> None:
    """Wait until Argo CD, which is asked to look, has rolled out a version that a person put into Git."""

    def served_alone() -> bool:
        if {one.version for one in environment.serving()} == {str(version)}:
            return True
        environment.refresh()
        return False

    wait_until(served_alone, END_SECONDS, f"version {version} serves alone")


def _frozen_now() -> str:
    """Return a freeze window, as a policy has it, that began an hour ago and lasts for two."""
    began = datetime.now(UTC) - timedelta(hours=1)
    return f'{{cron: "{began.minute} {began.hour} * * *", for: 2h, reason: stocktaking}}'

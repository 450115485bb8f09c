"""The stories, on each testbed: with the daemon and its sensor, with CI, and with pipelines that lack a guard.

All tests share one testbed and run in this order: each leaves a champion, and the next one registers a newer version.
"""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from testbeds.common.processes import wait_until
from testbeds.story.environment import Environment
from testbeds.story.expectation import End, promotion_commits
from testbeds.story.look import look
from testbeds.story.seen import Seen
from testbeds.story.stories import (
    END_SECONDS,
    FIVE_VERSIONS,
    expected,
    registry,
    request_promotion,
    wait_for_end,
    wait_for_state,
)
from testbeds.story.verifier import false_claims, verify
from testbeds.story.versions import register_again
from tests.guards.guard import Mutant
from tests.scenarios import mutants
from tests.scenarios.people import Ci, decide, put_image_back, register_bad, write_state

# Whichever test comes first plays the story before it, up to its last end.
pytestmark = pytest.mark.timeout(8 * END_SECONDS)


def commits_of(environment: Environment, seen: Seen, version: int) -> int:
    return len(promotion_commits(seen, expected(environment, (), 0), version))


@pytest.fixture(scope="module")
def without_a_daemon(after_the_story: Environment) -> Environment:
    """The testbed after the story, when no sensor watches the registry any more."""
    after_the_story.stop_dagster()
    return after_the_story


def test_the_story_of_five_versions_comes_true(after_the_story: Environment) -> None:
    """The verifier, which does not trust the pipeline, finds two champions, one rollback and two refusals."""
    findings = verify(look(after_the_story), expected(after_the_story, FIVE_VERSIONS, champion=2))
    assert false_claims(findings) == {}


@pytest.mark.scenarios
def test_a_run_killed_after_its_commit_is_resumed(after_the_story: Environment) -> None:
    """When a run is killed after its commit, the sensor starts another, which makes a champion with that one commit."""
    environment, client = after_the_story, registry(after_the_story)
    version = register_again(environment, of=2)
    killed: set[int] = set()

    def kill_once_committed(line: str) -> None:
        print(line)
        if "committed" in line and not killed:
            killed.update(environment.run_processes())
            for process in killed:
                os.kill(process, signal.SIGKILL)

    requested_at = request_promotion(environment, client, version)
    wait_for_end(environment, client, version, requested_at, kill_once_committed)
    story = expected(environment, (End(version, "champion"),), version)
    assert len(killed) == 1
    assert false_claims(verify(look(environment, requested_at), story)) == {}


# Seconds since the previous step, and number of pods: out and in as the first pods start, and twice during their soak.
# An autoscaler removes pods too, at its next evaluation.
_SCALING = ((0, 4), (4, 2), (10, 3), (6, 2), (6, 4), (6, 2))


@pytest.mark.scenarios
def test_a_promotion_that_is_scaled_meanwhile_makes_a_champion(after_the_story: Environment) -> None:
    """Scaling pods in mid-rollout and mid-soak leads to one commit and a champion, and no request fails."""
    environment, client = after_the_story, registry(after_the_story)
    version = register_again(environment, of=2)
    stop, sizes = threading.Event(), list[int]()

    def scale_out_and_in() -> None:
        for seconds, replicas in _SCALING:
            if stop.wait(seconds):
                return
            environment.scale(replicas)
            sizes.append(replicas)

    scaling = threading.Thread(target=scale_out_and_in)

    def scale_once_committed(line: str) -> None:
        print(line)
        if "committed" in line and scaling.ident is None:
            scaling.start()

    requested_at = request_promotion(environment, client, version)
    try:
        wait_for_end(environment, client, version, requested_at, scale_once_committed)
    finally:
        stop.set()
        if scaling.ident is not None:
            scaling.join()
        environment.scale(2)
    story = expected(environment, (End(version, "champion"),), version)
    seen = look(environment, requested_at)
    assert false_claims(verify(seen, story)) == {}
    assert sizes[:3] == [4, 2, 3], "it was scaled in mid-rollout and in mid-soak"


@pytest.mark.scenarios
def test_people_go_back_and_end_a_promotion_in_mid_soak(after_the_story: Environment) -> None:
    """Rollback makes the champion before serve again, and abort takes a version back on which a run is at work."""
    environment, client = after_the_story, registry(after_the_story)
    first = look(environment).champion
    assert first is not None
    second = register_again(environment, of=2)
    requested_at = request_promotion(environment, client, second)
    assert wait_for_end(environment, client, second, requested_at, print).state == "champion"

    assert f"version {first} serves again" in decide(environment, "rollback", environment.policy)
    seen = look(environment)
    assert seen.champion == first
    assert {serving.version for serving in seen.serving} == {str(first)}
    assert seen.commits[-1].trailers["Returns-From"] == str(second)
    assert version_state(seen, environment, second) == "rolled_back"

    third = register_again(environment, of=2)
    requested_at = request_promotion(environment, client, third)
    wait_for_state(environment, client, third, ["committed"], requested_at, print)
    served = {str(third)}
    wait_until(lambda: {one.version for one in environment.serving()} == served, END_SECONDS, "version 3 serves")
    runs = environment.run_processes()
    for process in runs:
        os.kill(process, signal.SIGSTOP)  # however slowly the command starts, the soak does not end before
    assert f"version {third} of {environment.model} was aborted" in decide(environment, "abort", environment.policy)
    for process in runs:
        os.kill(process, signal.SIGCONT)
    seen = look(environment)
    assert seen.champion == first
    assert {serving.version for serving in seen.serving} == {str(first)}
    assert seen.commits[-1].trailers["Verdict"] == "Aborted"
    assert seen.commits[-1].trailers["By"] == "ana@localhost"
    assert version_state(seen, environment, third) == "rolled_back"
    assert len(runs) == 1
    wait_until(lambda: not environment.run_processes(), END_SECONDS, "its run ends")
    after = look(environment)
    assert (after.commits, after.tags, after.champion) == (seen.commits, seen.tags, first)


def version_state(seen: Seen, environment: Environment, version: int) -> str:
    return seen.versions[version].tags.get(f"incumbent.{environment.policy}.state", "")


@pytest.mark.scenarios
def test_ci_promotes_without_a_daemon_and_commits_once_when_run_again(
    without_a_daemon: Environment, tmp_path: Path
) -> None:
    """The README's two commands make a champion with an empty DAGSTER_HOME; with a second one they change nothing."""
    environment, requested_at = without_a_daemon, time.time()
    version = register_again(environment, of=2)
    assert Ci(environment, tmp_path / "first home").promote(version) == 0
    first = look(environment, requested_at)
    assert false_claims(verify(first, expected(environment, (End(version, "champion"),), version))) == {}
    assert Ci(environment, tmp_path / "second home").promote(version) == 0
    second = look(environment)
    assert (second.champion, second.commits, second.tags) == (version, first.commits, first.tags)


@pytest.mark.scenarios
def test_ci_fails_for_a_bad_version(without_a_daemon: Environment, tmp_path: Path) -> None:
    """For a version that is worse than the champion, CI fails, and there is no commit and no new champion."""
    environment = without_a_daemon
    before = look(environment)
    version = register_again(environment, of=4)
    assert Ci(environment, tmp_path / "home").promote(version) != 0
    after = look(environment)
    assert (after.champion, after.commits) == (before.champion, before.commits)


@pytest.mark.scenarios
def test_two_runs_at_once_commit_once(without_a_daemon: Environment, tmp_path: Path) -> None:
    """When two CI jobs on two Dagsters promote the same version, it gets one commit, and both end with a champion."""
    environment = without_a_daemon
    version = register_again(environment, of=2)
    jobs = [Ci(environment, tmp_path / name) for name in ("first home", "second home")]
    for job in jobs:
        assert job.register(version) == 0
    exit_codes = [run.wait() for run in [job.materialize(version) for job in jobs]]
    seen = look(environment)
    assert exit_codes == [0, 0]
    assert (seen.champion, commits_of(environment, seen, version)) == (version, 1)


def register_worse(environment: Environment) -> int:
    return register_again(environment, of=4)


def register_unpublished(environment: Environment) -> int:
    return register_again(environment, of=2, published=False)


@pytest.mark.scenarios
@pytest.mark.parametrize(
    ("mutant", "register", "end", "claim"),
    [
        pytest.param(
            mutants.NO_COMPARISON,
            register_worse,
            End(0, "refused"),
            "version {} was never committed",
            id="no comparison",
        ),
        pytest.param(
            mutants.NO_PUBLICATION_CHECK,
            register_unpublished,
            End(0, "refused"),
            "version {} was never committed",
            id="no publication check",
        ),
        pytest.param(
            mutants.NO_ROLLBACK,
            register_bad,
            End(0, "rolled_back"),
            "version {} has exactly one rollback commit",
            id="no rollback",
        ),
        pytest.param(
            mutants.NO_GATE, register_bad, End(0, "rolled_back"), "version {} ended as rolled_back", id="no gate"
        ),
    ],
)
def test_the_verifier_notices_a_missing_guard(
    without_a_daemon: Environment, tmp_path: Path, mutant: Mutant, register: object, end: End, claim: str
) -> None:
    """A pipeline that lacks a guard makes the claim false that describes what the guard prevents."""
    environment = without_a_daemon
    champion = look(environment).champion
    assert champion is not None
    assert callable(register)
    version = register(environment)
    ci = Ci(environment, tmp_path / "home", mutant.write(tmp_path / "mutant"))
    ci.promote(version)
    story = expected(environment, (End(version, end.state, back_to=champion),), champion)
    try:
        seen = look(environment)
        assert commits_of(environment, seen, version) == 1  # the mutant went on where its guard would have stopped it
        assert claim.format(version) in false_claims(verify(seen, story))
    finally:
        _restore(environment, champion, version)


def _restore(environment: Environment, champion: int, version: int) -> None:
    """Undo by hand what a mutant left behind, so that the next mutant starts from the same state."""
    put_image_back(environment, champion)
    write_state(environment, version, "rolled_back")
    client = registry(environment)
    client.set_registered_model_alias(environment.model, environment.champion_alias, str(champion))

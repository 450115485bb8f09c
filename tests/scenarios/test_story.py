"""The stories, on each testbed: told by the daemon and its sensor, by CI, and by pipelines with a guard taken out.

All share one testbed and stand in order: each leaves a champion, and the next version is newer.
"""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from testbeds.story.environment import Environment
from testbeds.story.expectation import End, promotion_commits
from testbeds.story.look import look
from testbeds.story.seen import Seen
from testbeds.story.stories import (
    END_SECONDS,
    FIVE_VERSIONS,
    expected,
    promote_in_turn,
    registry,
    request_promotion,
    wait_for_end,
)
from testbeds.story.verifier import false_claims, verify
from tests.scenarios import mutants
from tests.scenarios.mutants import Mutant
from tests.scenarios.people import Ci, put_image_back, register_again, write_state

_FAULTS = {"FAULT_FAIL_EVERY": "5", "FAULT_DELAY_SECONDS": "1.2"}


def commits_of(environment: Environment, seen: Seen, version: int) -> int:
    return len(promotion_commits(seen, expected(environment, (), 0), version))


@pytest.fixture(scope="module")
def after_the_story(environment: Environment) -> Environment:
    """The testbed when the five versions' story has been told."""
    promote_in_turn(environment, tuple(end.version for end in FIVE_VERSIONS), print)
    return environment


@pytest.fixture(scope="module")
def without_a_daemon(after_the_story: Environment) -> Environment:
    """The testbed when nobody watches the registry any more."""
    after_the_story.stop_dagster()
    return after_the_story


@pytest.mark.timeout(5 * END_SECONDS + 300)
def test_the_story_of_five_versions_comes_true(after_the_story: Environment) -> None:
    """Two champions, one rollback and two refusals, as the verifier finds them and not as the pipeline says."""
    findings = verify(look(after_the_story), expected(after_the_story, FIVE_VERSIONS, champion=2))
    assert false_claims(findings) == {}


@pytest.mark.scenarios
@pytest.mark.timeout(2 * END_SECONDS)
def test_a_run_killed_after_its_commit_is_resumed(after_the_story: Environment) -> None:
    """SIGKILL of a run that has committed: the sensor runs the promotion again, to a champion with still one commit."""
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


# Seconds since the step before, and pods: out and in while the first pods come up, and twice while they soak. An
# autoscaler takes pods back too, when it looks.
_SCALING = ((0, 4), (4, 2), (10, 3), (6, 2), (6, 4), (6, 2))


@pytest.mark.scenarios
def test_a_promotion_that_is_scaled_in_its_midst_makes_a_champion(after_the_story: Environment) -> None:
    """Pods come and go in mid-rollout and in mid-soak: one commit, a champion, and no request that fails."""
    environment, client = after_the_story, registry(after_the_story)
    version = register_again(environment, of=2)
    stop, scaled = threading.Event(), list[int]()

    def scale_about() -> None:
        for seconds, replicas in _SCALING:
            if stop.wait(seconds):
                return
            environment.scale(replicas)
            scaled.append(replicas)

    scaling = threading.Thread(target=scale_about)

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
    assert scaled[:3] == [4, 2, 3], "it was scaled in mid-rollout and in mid-soak"


@pytest.mark.scenarios
def test_ci_promotes_without_a_daemon_and_said_twice_commits_once(
    without_a_daemon: Environment, tmp_path: Path
) -> None:
    """The README's two lines on an empty DAGSTER_HOME make a champion; the same lines on another one change nothing."""
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
    """A version that is worse than the champion ends CI with an error, without a commit, and never as champion."""
    environment = without_a_daemon
    before = look(environment)
    version = register_again(environment, of=4)
    assert Ci(environment, tmp_path / "home").promote(version) != 0
    after = look(environment)
    assert (after.champion, after.commits) == (before.champion, before.commits)


@pytest.mark.scenarios
def test_two_runs_at_once_commit_once(without_a_daemon: Environment, tmp_path: Path) -> None:
    """Two CI jobs on two Dagsters promote the same version: one commit, and it is champion."""
    environment = without_a_daemon
    version = register_again(environment, of=2)
    jobs = [Ci(environment, tmp_path / name) for name in ("one", "other")]
    for job in jobs:
        assert job.register(version) == 0
    codes = [run.wait() for run in [job.materialize(version) for job in jobs]]
    seen = look(environment)
    assert 0 in codes  # the other one may end as waiting for the lease
    assert (seen.champion, commits_of(environment, seen, version)) == (version, 1)


def bad(environment: Environment) -> int:
    return register_again(environment, of=3, faults=_FAULTS)


def worse(environment: Environment) -> int:
    return register_again(environment, of=4)


def unpublished(environment: Environment) -> int:
    return register_again(environment, of=2, published=False)


@pytest.mark.scenarios
@pytest.mark.parametrize(
    ("mutant", "make", "end", "claim"),
    [
        pytest.param(
            mutants.NO_COMPARISON, worse, End(0, "refused"), "version {} was never committed", id="no comparison"
        ),
        pytest.param(
            mutants.NO_PUBLICATION_CHECK,
            unpublished,
            End(0, "refused"),
            "version {} was never committed",
            id="no publication check",
        ),
        pytest.param(
            mutants.NO_ROLLBACK,
            bad,
            End(0, "rolled_back"),
            "version {} has exactly one rollback commit",
            id="no rollback",
        ),
        pytest.param(mutants.NO_GATE, bad, End(0, "rolled_back"), "version {} ended as rolled_back", id="no gate"),
    ],
)
def test_the_verifier_goes_red_without(
    without_a_daemon: Environment, tmp_path: Path, mutant: Mutant, make: object, end: End, claim: str
) -> None:
    """A pipeline whose guard is taken out leaves a claim false that names what it did."""
    environment = without_a_daemon
    champion = look(environment).champion
    assert champion is not None
    assert callable(make)
    version = make(environment)
    ci = Ci(environment, tmp_path / "home", mutant.write(tmp_path / "mutant"))
    ci.promote(version)
    story = expected(environment, (End(version, end.state, back_to=champion),), champion)
    try:
        seen = look(environment)
        assert commits_of(environment, seen, version) == 1  # the mutant got as far as its missing guard lets it
        assert claim.format(version) in false_claims(verify(seen, story))
    finally:
        _settle(environment, champion, version)


def _settle(environment: Environment, champion: int, version: int) -> None:
    """Put back by hand what a mutant left, so that the next one begins as this one did."""
    put_image_back(environment, champion)
    write_state(environment, version, "rolled_back")
    client = registry(environment)
    client.set_registered_model_alias(environment.model, environment.champion_alias, str(champion))

"""Images that people put into the manifest: before our commit, in a race with it, and before and after a rollback."""

from collections.abc import Callable
from typing import Any

import pytest

from orchestration.promotion.acts import ActKind
from orchestration.promotion.branch_view import acts
from orchestration.promotion.state import State
from orchestration.stages.runner import StageFailed
from tests.fakes.runs import Killed, promote, resume, run_until
from tests.fakes.world import MANIFEST, POLICY_NAME, REPOSITORY, World


def put(world: World, image: str) -> None:
    """A person commits another image and Argo CD rolls it out."""
    world.git.commit("Hotfix", {"apps/iris.yaml": MANIFEST.format(image=image).encode()})
    world.reconcile()


def putting(world: World, *tags: str) -> list[Callable[[], object]]:
    """A person's image before each of our pushes; each is published."""
    for tag in tags:
        world.images.publish(REPOSITORY, tag)
    return [lambda tag=tag: put(world, f"{REPOSITORY}:{tag}") for tag in tags]  # type: ignore[misc]


@pytest.mark.parametrize("changes", [1, 2])
def test_an_image_that_changes_before_the_push_is_judged_again(world: World, changes: int) -> None:
    """The commit replaces an image that was looked at, and the way back leads to that image."""
    world.register()
    world.bad_images.add(world.image(1))
    world.git.before_push = putting(world, *(f"hotfix-{n}" for n in range(changes)))
    run_until(world, 1)
    assert world.subjects == [
        *["Hotfix"] * changes,
        "Promote iris-edge to version 1",
        "Roll back iris-edge from version 1 to the image before, unverified",
    ]
    assert world.live_image == f"{REPOSITORY}:hotfix-{changes - 1}"


def test_an_image_that_keeps_changing_is_never_overwritten(world: World) -> None:
    """After three looks the promotion waits, says so on the version, and goes on when the manifest is at rest."""
    world.register()
    world.git.before_push = putting(world, "hotfix-0", "hotfix-1", "hotfix-2")
    result = run_until(world, 1)
    assert isinstance(result, StageFailed)
    assert result.outcome == "waiting"
    assert world.state(1) is State.WAITING
    assert "hotfix-2" in world.reason(1)
    assert world.subjects == ["Hotfix"] * 3
    run_until(world, 1)
    assert world.champion == 1


def test_an_image_that_cannot_be_pulled_is_no_way_back(world: World) -> None:
    """A person's image that changes the way back to one that is not published blocks the commit, also in a race."""
    world.register()
    world.git.before_push = [lambda: put(world, f"{REPOSITORY}:before@sha256:{'0' * 64}")]
    result = run_until(world, 1)
    assert isinstance(result, StageFailed)
    assert "rollback target" in result.problem.subject
    assert world.subjects == ["Hotfix"]


def test_other_peoples_commits_that_leave_the_image_alone_cost_no_second_look(world: World) -> None:
    """A new head with the same image is committed on at once."""
    world.register()
    world.git.before_push = [lambda: world.git.commit("Docs", {"README": b"more\n"})] * 4
    run_until(world, 1)
    assert world.champion == 1
    assert not [line for line in world.said if "judging again" in line]


@pytest.mark.parametrize("killed", [False, True])
def test_a_commit_that_was_replaced_at_once_ends_as_rolled_back(
    world: World, monkeypatch: pytest.MonkeyPatch, *, killed: bool
) -> None:
    """A person replaced the image before the run looked again, or before it could write that it had committed."""
    world.register()
    push = world.git.push_edit

    def replaced_at_once(*arguments: Any) -> Any:
        pushed = push(*arguments)
        put(world, f"{REPOSITORY}:before")
        monkeypatch.undo()
        if killed:
            raise Killed
        return pushed

    monkeypatch.setattr(world.git, "push_edit", replaced_at_once)
    assert promote(world, 1, "run") is not killed
    resume(world, 1)
    assert world.state(1) is State.ROLLED_BACK
    assert world.live_image == f"{REPOSITORY}:before"
    assert world.subjects == ["Promote iris-edge to version 1", "Hotfix"]
    assert ended(world) == [(1, "Failed")]


def promoted(world: World, count: int) -> None:
    for _ in range(count):
        run_until(world, world.register().version)


def test_a_rollback_does_not_revive_what_a_person_removed(world: World) -> None:
    """Champion 2 was left by hand for version 1; the failed version 3 goes back to 1, and the alias is reported."""
    promoted(world, 2)
    put(world, world.image(1))
    number = world.register().version
    world.bad_images.add(world.image(number))
    run_until(world, number)
    assert world.live_image == world.image(1)
    assert world.subjects[-1] == "Roll back iris-edge from version 3 to version 1"
    told = "Alias champion names version 2, whose image the manifest did not have before version 3"
    assert told in world.reason(number)
    assert told in world.git.log[0].trailers["Reason"]
    assert any(told in line for line in world.said)


def test_an_alias_that_disagrees_with_git_is_a_row_of_the_check(world: World) -> None:
    """Before the commit, `dependencies_ready` shows where the alias and the manifest differ."""
    promoted(world, 2)
    put(world, world.image(1))
    result = run_until(world, world.register().version, "manifest_commit")
    assert not isinstance(result, StageFailed)
    (check,) = [check for check in result.checks if check.name == "dependencies_ready"]
    rows = {row["what"]: str(row["finding"]) for row in check.rows}
    assert "names version 2" in rows["alias champion"]
    assert rows["rollback target"] == f"{world.image(1)} (version 1)"


def test_an_alias_that_agrees_is_not_mentioned(world: World) -> None:
    """The usual case: the champion serves, and the next version fails."""
    promoted(world, 1)
    number = world.register().version
    world.bad_images.add(world.image(number))
    run_until(world, number)
    assert "Alias" not in world.reason(number)
    assert world.live_image == world.image(1)


def test_an_image_that_was_taken_back_is_no_rollback_target(world: World) -> None:
    """A person put a rejected version's image back by hand; the next failure goes to the newest verified one below."""
    promoted(world, 2)
    rejected = world.register().version
    world.bad_images.add(world.image(rejected))
    run_until(world, rejected)
    put(world, world.image(rejected))
    number = world.register().version
    world.bad_images.add(world.image(number))
    run_until(world, number)
    assert world.live_image == world.image(2)
    assert world.subjects[-1] == f"Roll back iris-edge from version {number} to version 2"


def test_an_image_whose_promotion_a_person_ended_is_no_rollback_target(world: World) -> None:
    """That end is known from Git alone, also when the version was deleted from the registry since."""
    promoted(world, 1)
    world.register()
    run_until(world, 2, "rollout")
    put(world, world.image(1))
    run_until(world, 2)
    world.register()
    world.bad_images.add(world.image(3))
    del world.registry.versions["iris", 2]
    put(world, world.image(2))
    run_until(world, 3)
    assert world.state(3) is State.ROLLED_BACK
    assert world.live_image == world.image(1)


def test_a_container_that_is_renamed_after_the_commit_still_has_a_way_back(world: World) -> None:
    """The manifest before cannot be read under the new name; the newest verified image is restored by its digest."""
    promoted(world, 1)
    version = world.register()
    run_until(world, 2, "rollout")
    text = MANIFEST.format(image=world.image(2)).replace("name: model-server", "name: server")
    world.git.commit("Rename the container", {"apps/iris.yaml": text.encode()})
    world.policies[POLICY_NAME] = world.policies[POLICY_NAME].replace("container: model-server", "container: server")
    world.registry.write_tags(version, {"incumbent.iris-edge.state": "rejected"})
    run_until(world, 2)
    assert world.subjects[-1] == "Roll back iris-edge from version 2 to version 1"
    assert world.live_image == f"{REPOSITORY}@{world.images.tags[REPOSITORY, 'v1']}"


def ended(world: World) -> list[tuple[int | None, str]]:
    found = acts(world.git, POLICY_NAME)
    return [(act.version, act.verdict) for act in found if act.kind is ActKind.ENDED]


def test_an_end_without_our_commit_is_an_act_in_git(world: World) -> None:
    """Who replaced the image is not known; that the promotion ended, and how, is, and it is recorded once."""
    world.register()
    run_until(world, 1, "rollout")
    put(world, f"{REPOSITORY}:before")
    for _ in range(3):
        run_until(world, 1)
    assert ended(world) == [(1, "Failed")]
    (act,) = acts(world.git, POLICY_NAME)
    assert "put there by someone else" in act.reason
    assert str(act.promotion) == world.git.log[1].trailers["Promotion-Id"]


def test_an_end_whose_tags_were_lost_is_not_recorded_twice(world: World) -> None:
    """The act in Git is found again by its promotion, whatever the registry says."""
    version = world.register()
    run_until(world, 1, "rollout")
    put(world, f"{REPOSITORY}:before")
    run_until(world, 1)
    world.registry.write_tags(version, {"incumbent.iris-edge.state": "committed"})
    run_until(world, 1)
    assert ended(world) == [(1, "Failed")]
    assert world.state(1) is State.ROLLED_BACK


def test_a_promotion_that_was_overtaken_ends(world: World) -> None:
    """Its state was left as committed when another version was promoted over it; the next run ends it."""
    first = world.register()
    run_until(world, 1, "rollout")
    world.registry.write_tags(first, {"incumbent.iris-edge.state": "rolled_back"})
    run_until(world, world.register().version)
    world.registry.write_tags(first, {"incumbent.iris-edge.state": "committed"})
    run_until(world, 1)
    assert world.state(1) is State.ROLLED_BACK
    assert "version 2 promoted after it" in world.reason(1)
    assert ended(world) == [(1, "Error")]
    assert world.live_image == world.image(2)

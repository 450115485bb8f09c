"""What waits for a merge is told: a promotion, a rollback and a return, each with its request's link and once."""

from dataclasses import dataclass, field

import pytest

from orchestration.commands.serving import UnfinishedError, return_to_champion
from orchestration.commands.telling import news, tell
from orchestration.promotion.decided import Decided
from orchestration.promotion.notifying import Event, Message
from orchestration.promotion.ports import Destination
from tests.fakes.runs import promote
from tests.fakes.ticks import Runs, go_on
from tests.fakes.world import POLICY_NAME, POLICY_TEXT, World, WorldPlatform

BY_REQUEST = POLICY_TEXT + "delivery: {pull_request: {host: github, rollbacks: pull_request}}\n"
URL = "https://git.example/acme/gitops/pull/"
HERE = (Destination("line 1", "jsons://hooks.example.com"),)


@dataclass
class Mailbox:
    """Implements the `Notifier` port."""

    messages: list[Message] = field(default_factory=list)

    def send(self, destination: Destination, message: Message) -> None:
        self.messages.append(message)


def told(world: World) -> list[Message]:
    """What cron's `incumbent notify` tells now."""
    mailbox, platform = Mailbox(), WorldPlatform(world)
    events = [event for event in news(platform, [POLICY_NAME], 3600.0) if isinstance(event, Event)]
    assert tell(platform, mailbox, HERE, events, "").problems == ()
    return mailbox.messages


def titles(world: World) -> list[str]:
    return [message.title.removeprefix(f"{POLICY_NAME}: ") for message in told(world)]


def proposed() -> World:
    world = World(BY_REQUEST)
    world.git.is_protected = True
    world.register()
    promote(world, 1, "first")
    return world


def test_a_promotion_that_waits_for_its_merge_is_told_once() -> None:
    """With the request's link; after it, how the promotion ends."""
    world = proposed()
    (message,) = told(world)
    assert message.title == "iris-edge: version 1 waits for the merge of its pull request"
    assert f"Request: {URL}1" in message.body.splitlines()
    promote(world, 1, "again")
    assert told(world) == []
    world.requests.merge(1)
    promote(world, 1, "merged")
    assert titles(world) == ["version 1 is the champion"]


def test_a_conflict_that_a_person_must_solve_is_told() -> None:
    """It is something new that people are asked."""
    world = proposed()
    told(world)
    world.requests.edit(1, "README", b"more\n")
    text = world.git.commits[world.git.head].files["apps/iris.yaml"]
    world.git.commit("Scale", {"apps/iris.yaml": text + b"# scaled\n"})
    promote(world, 1, "conflict")
    (message,) = told(world)
    assert "Solve the conflict" in message.body


def test_a_rollback_that_waits_for_its_merge_is_told() -> None:
    """A bad version serves until people merge it."""
    world = proposed()
    world.bad_images.add(world.image(1))
    world.requests.merge(1)
    promote(world, 1, "judged")
    (message,) = told(world)
    assert message.title == "iris-edge: version 1 serves until its rollback is merged"
    assert f"Request: {URL}2" in message.body.splitlines()
    world.requests.merge(2)
    promote(world, 1, "taken back")
    assert titles(world) == ["version 1 was rolled back"]


def returning() -> World:
    """A world in which ana has asked for a return, which waits for its merge."""
    world = proposed()
    world.requests.merge(1)
    promote(world, 1, "merged")
    world.register()
    promote(world, 2, "proposed")
    world.requests.merge(2)
    promote(world, 2, "merged too")
    world.clock.sleep(7200)
    told(world)
    with pytest.raises(UnfinishedError):
        return_to_champion(WorldPlatform(world), POLICY_NAME, None, Decided("ana", "wrong"), "run", world.said.append)
    return world


def test_a_return_that_waits_for_its_merge_is_told() -> None:
    """Its version is neither champion nor challenger, and became champion long before."""
    world = returning()
    (message,) = told(world)
    assert message.title == "iris-edge: the return to version 1 waits for its merge"
    assert "ana (wrong)" in message.body
    assert f"Request: {URL}3" in message.body.splitlines()
    assert "Commit:" not in message.body
    assert told(world) == []


def test_a_return_that_was_not_merged_in_time_is_told_once() -> None:
    """A person asked for it and may have forgotten it; the message has the closed request's link."""
    world = returning()
    told(world)
    world.clock.sleep(7 * 24 * 3600.0)
    assert go_on(world, Runs(), {}) == [1]
    (message,) = told(world)
    assert message.title == "iris-edge: the return to version 1 was not merged in time"
    assert "which nobody merged until" in message.body
    assert f"Request: {URL}3" in message.body.splitlines()
    assert told(world) == []

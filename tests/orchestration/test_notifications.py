"""The notification sensor on a platform of fakes, with real receivers on the loopback."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pytest

from orchestration.adapters import notifier
from orchestration.notifications import Background, notification_sensor
from orchestration.promotion.delivery import CLAIM_SECONDS, LONGEST_PAUSE_SECONDS
from orchestration.promotion.model_version import policy_tags, tag_key
from orchestration.promotion.moments import moment_tags
from orchestration.promotion.notification_watch import LOOK_AROUND_SECONDS
from orchestration.promotion.notifying import key_of
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import format_time
from orchestration.resources import EnvironmentNotifications
from tests.fakes.receivers import LONGEST_WAIT, PATIENT, Webhook, running_mail_server, running_webhook
from tests.fakes.runs import run_stages
from tests.fakes.world import POLICY_NAME, POLICY_TEXT, World, WorldPlatform, materialize


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of this machine is asked, no destination of it is told, and a busy machine is waited for."""
    monkeypatch.setattr(notifier, "SEND_SECONDS", LONGEST_WAIT)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("INCUMBENT_NOTIFY_URLS", raising=False)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with running_webhook() as running:
        yield running


@dataclass
class Sensor:
    """The sensor in one process of its own, whose cursor Dagster keeps."""

    world: World
    instance: dg.DagsterInstance
    notifications: EnvironmentNotifications
    background: Background = field(default_factory=Background)
    cursor: str | None = None
    skipped: str = ""

    def tick(self) -> None:
        """Evaluate the sensor once; a delivery may still be under way."""
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        result = notification_sensor(
            context,
            platform=WorldPlatform(self.world),
            notifications=self.notifications,
            background=self.background,
        )
        assert isinstance(result, dg.SensorResult)
        assert not result.run_requests
        assert result.skip_reason is not None
        self.cursor, self.skipped = result.cursor or self.cursor, result.skip_reason.skip_message or ""

    def settle(self) -> None:
        """Wait until no delivery is under way."""
        with self.background.courier._at_work:
            pass

    def ticks(self, count: int = 3) -> None:
        """Evaluate the sensor some times, a while apart, as the daemon does."""
        for _ in range(count):
            self.world.clock.sleep(LOOK_AROUND_SECONDS)
            self.tick()
            self.settle()

    def after_restart(self) -> "Sensor":
        """The same sensor in a new process."""
        return Sensor(self.world, self.instance, self.notifications, cursor=self.cursor)


def notifications(tmp_path: Path, *addresses: str, dagster_url: str = "") -> EnvironmentNotifications:
    file = tmp_path / "notify.txt"
    file.write_text("# who is told\n\n" + "".join(f"{address}\n" for address in addresses), encoding="utf-8")
    return EnvironmentNotifications(notify_file=str(file), dagster_url=dagster_url)


@pytest.fixture
def sensor(world: World, instance: dg.DagsterInstance, webhook: Webhook, tmp_path: Path) -> Sensor:
    """A sensor with one webhook, which has looked once, before anything happened."""
    address = f"json://127.0.0.1:{webhook.port}/hook?{PATIENT}"
    sensor = Sensor(world, instance, notifications(tmp_path, address, dagster_url="http://dagster:3000/"))
    sensor.ticks(1)
    return sensor


def write(world: World, number: int, state: State, **tags: str) -> None:
    """Let a version reach a state, as a stage writes it."""
    version = world.registry.versions["iris", number]
    moment = moment_tags(version, POLICY_NAME, state, world.clock.now())
    written = {"held_by": "", "reason": "", **moment, **tags, "state": str(state)}
    world.registry.write_tags(version, {tag_key(POLICY_NAME, name): value for name, value in written.items()})


def become_champion(world: World) -> None:
    world.register()


def be_refused(world: World) -> None:
    world.register(accuracy=0.1)


def be_rolled_back(world: World) -> None:
    world.register()
    world.bad_images.add(world.image(1))


def be_held(world: World) -> None:
    world.register()
    world.unmeasured_images.add(world.image(1))


@pytest.mark.parametrize(
    ("happen", "title", "shown"),
    [
        (become_champion, "version 1 is the champion", ["healthy", "Commit: https://git.example/gitops/commit/"]),
        (be_refused, "version 1 was refused", ["accuracy", "Train a better model"]),
        (
            be_rolled_back,
            "version 1 was rolled back",
            ["success_ratio", "Rollback: https://git.example/gitops/commit/"],
        ),
        (be_held, "version 1 is held", ["Commit: https://git.example/gitops/commit/"]),
    ],
)
def test_each_end_is_told_once_with_reason_and_links(
    sensor: Sensor, webhook: Webhook, happen: Callable[[World], None], title: str, shown: list[str]
) -> None:
    """Neither later ticks nor a restart, a lost cursor or another instance tell it again."""
    happen(sensor.world)
    sensor.ticks(1)
    run = materialize(sensor.world, 1, sensor.instance)
    sensor.ticks()
    (message,) = webhook.received
    assert message["title"] == f"{POLICY_NAME}: {title}"
    pages = ["Version: http://registry.test/#/models/iris/versions/1", f"Run: http://dagster:3000/runs/{run.run_id}"]
    assert [text for text in [*shown, *pages] if text not in message["message"]] == []
    sensor.after_restart().ticks()
    Sensor(sensor.world, sensor.instance, sensor.notifications).ticks()
    assert len(webhook.received) == 1


def test_ends_from_before_the_first_look_are_not_told(sensor: Sensor, webhook: Webhook) -> None:
    """A sensor that is turned on tells no history, but what is held now and needs a person."""
    become_champion(sensor.world)
    run_stages(sensor.world, 1)
    be_refused(sensor.world)
    run_stages(sensor.world, 2)
    new = Sensor(sensor.world, sensor.instance, sensor.notifications)
    sensor.world.clock.sleep(1)
    new.ticks()
    assert webhook.received == []
    sensor.world.register()
    write(sensor.world, 3, State.HELD, reason="nobody knows")
    Sensor(sensor.world, sensor.instance, sensor.notifications).ticks()
    assert webhook.titles == [f"{POLICY_NAME}: version 3 is held"]


def test_an_end_is_told_though_the_sensor_was_off_when_it_came(sensor: Sensor, webhook: Webhook) -> None:
    """The cursor keeps since when ends are told."""
    sensor.world.clock.sleep(3600)
    become_champion(sensor.world)
    run_stages(sensor.world, 1)
    sensor.ticks()
    assert webhook.titles == [f"{POLICY_NAME}: version 1 is the champion"]


def test_only_a_wait_for_approval_is_told(sensor: Sensor, webhook: Webhook) -> None:
    """Other waits end by themselves; this one ends when a person acts."""
    sensor.world.register()
    write(sensor.world, 1, State.WAITING, reason="image v1 is not published yet")
    sensor.ticks()
    assert webhook.received == []
    for reason in ("expected 1 approval, found 0 approvals.", "a freeze", "expected 1 approval, found 0 approvals."):
        write(sensor.world, 1, State.WAITING, reason=reason)
        sensor.ticks()
    assert webhook.titles == [f"{POLICY_NAME}: version 1 waits for approval"]
    assert "found 0 approvals" in webhook.received[0]["message"]


def test_a_champion_that_is_no_longer_needed_is_not_told(sensor: Sensor, webhook: Webhook) -> None:
    """Its successor is."""
    for number in (1, 2):
        become_champion(sensor.world)
        sensor.ticks(1)
        run_stages(sensor.world, number)
        sensor.ticks()
    assert webhook.titles == [f"{POLICY_NAME}: version {number} is the champion" for number in (1, 2)]


def test_a_return_to_a_former_champion_is_told(sensor: Sensor, webhook: Webhook) -> None:
    """Both the version that a person left and the one that serves again, although neither is the challenger."""
    world = sensor.world
    for number in (1, 2, 3):
        world.register(accuracy=0.1 if number == 3 else 0.9)
        sensor.ticks(1)
        run_stages(world, number)
        sensor.ticks()
    webhook.received.clear()
    write(world, 2, State.ROLLED_BACK, reason="left by ada@example.com: wrong predictions")
    write(world, 1, State.HELD, attempt="2", reason="its answers differ")
    sensor.ticks()
    write(world, 1, State.CHAMPION, attempt="2")
    world.registry.set_alias(world.registry.versions["iris", 1], "champion")
    sensor.ticks()
    assert webhook.titles == [
        f"{POLICY_NAME}: version 1 is held",
        f"{POLICY_NAME}: version 2 was rolled back",
        f"{POLICY_NAME}: version 1 is the champion",
    ]


def test_a_broken_policy_is_told_once_for_each_problem_and_when_it_is_mended(sensor: Sensor, webhook: Webhook) -> None:
    """The message has the problem's own words; other policies go on."""
    for text in ("model: [1, 2", "model: iris", POLICY_TEXT, POLICY_TEXT):
        sensor.world.policies["wine-edge"] = text
        sensor.ticks()
    assert webhook.titles == [
        "wine-edge: the policy cannot be used",
        "wine-edge: the policy cannot be used",
        "wine-edge: the policy can be used again",
    ]
    become_champion(sensor.world)
    run_stages(sensor.world, 1)
    sensor.ticks()
    assert webhook.titles[3:] == [f"{POLICY_NAME}: version 1 is the champion"]


def go_down(webhook: Webhook) -> None:
    webhook.down()


def be_broken(webhook: Webhook) -> None:
    webhook.status = 500


def come_back(webhook: Webhook) -> None:
    if webhook._server is None:
        webhook.up()
    webhook.status = 200


@pytest.mark.parametrize("fail", [go_down, be_broken])
def test_what_a_receiver_missed_is_told_once_it_is_back(
    sensor: Sensor, webhook: Webhook, fail: Callable[[Webhook], None]
) -> None:
    """Nothing is lost, and nothing is sent twice; while it is out, the tick says so in words."""
    fail(webhook)
    be_refused(sensor.world)
    run_stages(sensor.world, 1)
    sensor.ticks(5)
    assert sensor.skipped == f"1 to tell: {POLICY_NAME}: version 1 was refused"
    (problem,) = sensor.background.deliveries.problems
    assert "line 3 of" in problem
    come_back(webhook)
    sensor.world.clock.sleep(LONGEST_PAUSE_SECONDS)
    sensor.ticks()
    assert webhook.titles == [f"{POLICY_NAME}: version 1 was refused"]
    assert sensor.skipped == "nothing to tell"


def test_a_receiver_that_is_out_is_tried_ever_more_rarely(sensor: Sensor, webhook: Webhook) -> None:
    """However often the sensor ticks, and however much there is to tell."""
    be_broken(webhook)
    be_refused(sensor.world)
    run_stages(sensor.world, 1)
    for _ in range(60):  # an hour
        sensor.world.clock.sleep(60)
        sensor.tick()
        sensor.settle()
    assert 10 < webhook.asked < 20, "with pauses of up to five minutes"


def test_a_tick_does_not_wait_for_a_receiver(sensor: Sensor, webhook: Webhook) -> None:
    """Ticks begin and end while the receiver holds a connection open; meanwhile nothing is sent twice."""
    webhook.hold()
    be_refused(sensor.world)
    run_stages(sensor.world, 1)
    sensor.tick()
    webhook.wait_until_held()
    for _ in range(5):
        sensor.world.clock.sleep(LONGEST_PAUSE_SECONDS)
        sensor.tick()
        assert webhook.held == 1
        assert sensor.skipped == f"1 to tell: {POLICY_NAME}: version 1 was refused"
    webhook.let_go()
    sensor.settle()
    sensor.ticks()
    assert (webhook.asked, len(webhook.received)) == (1, 1)


@pytest.mark.parametrize("processes", [1, 2])
def test_two_ticks_at_once_tell_once(sensor: Sensor, webhook: Webhook, processes: int) -> None:
    """In one process or in two: while one delivers, the other leaves the event alone."""
    webhook.hold()
    be_refused(sensor.world)
    run_stages(sensor.world, 1)
    background = sensor.background if processes == 1 else Background()
    other = Sensor(sensor.world, sensor.instance, sensor.notifications, background, sensor.cursor)
    sensor.tick()
    webhook.wait_until_held()
    other.tick()
    if processes == 2:
        other.settle()
    webhook.let_go()
    for ticking in (sensor, other):
        ticking.settle()
        ticking.ticks()
        assert ticking.skipped == "nothing to tell"
    assert webhook.asked == 1


def test_ticks_of_one_process_start_one_delivery(sensor: Sensor, webhook: Webhook) -> None:
    """Also when they come at the very same time."""
    webhook.hold()
    be_refused(sensor.world)
    run_stages(sensor.world, 1)
    start = threading.Barrier(4)
    twins = [
        Sensor(sensor.world, sensor.instance, sensor.notifications, sensor.background, sensor.cursor) for _ in range(4)
    ]

    def tick(twin: Sensor) -> None:
        start.wait()
        twin.tick()

    threads = [threading.Thread(target=tick, args=(twin,)) for twin in twins]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    webhook.let_go()
    sensor.settle()
    sensor.ticks()
    assert webhook.asked == 1


def test_a_process_that_was_away_repeats_nothing(sensor: Sensor, webhook: Webhook) -> None:
    """It had noticed an end that another one told, and that the version has left behind since."""
    world = sensor.world
    be_broken(webhook)
    be_refused(world)
    run_stages(world, 1)
    sensor.ticks(1)
    other = Sensor(world, sensor.instance, sensor.notifications, cursor=sensor.cursor)
    world.clock.sleep(3 * LONGEST_PAUSE_SECONDS)
    come_back(webhook)
    other.ticks()
    write(world, 1, State.SUPERSEDED, requested_at="2026-01-01T00:00:00.000Z")
    other.ticks()
    titles = [f"{POLICY_NAME}: version 1 was {end}" for end in ("refused", "superseded")]
    assert webhook.titles == titles
    sensor.ticks()
    assert webhook.titles == titles


def test_another_process_takes_over_from_one_that_died(sensor: Sensor, webhook: Webhook) -> None:
    """It died between its claim and its delivery; after a while the claim is not believed."""
    be_refused(sensor.world)
    sensor.ticks(1)
    run_stages(sensor.world, 1)
    version = sensor.world.registry.versions["iris", 1]
    claim = f"another-process {format_time(sensor.world.clock.now())} {key_of(version, POLICY_NAME)}"
    sensor.world.registry.write_tags(version, policy_tags(POLICY_NAME, {"notifying": claim}))
    sensor.ticks()
    assert webhook.received == []
    sensor.world.clock.sleep(CLAIM_SECONDS + 1)
    sensor.ticks()
    assert len(webhook.received) == 1


def test_the_next_process_goes_on_where_one_stopped(
    world: World, instance: dg.DagsterInstance, webhook: Webhook, tmp_path: Path
) -> None:
    """Dagster replaced the process while one destination was down: it gets the event at once, the other not again."""
    with running_webhook() as second:
        addresses = [f"json://127.0.0.1:{port}?{PATIENT}" for port in (webhook.port, second.port)]
        sensor = Sensor(world, instance, notifications(tmp_path, *addresses))
        sensor.ticks(1)
        webhook.down()
        be_refused(world)
        sensor.ticks(1)
        run_stages(world, 1)
        sensor.ticks()
        assert len(second.received) == 1
        webhook.up()
        sensor.after_restart().ticks()
        assert (len(webhook.received), len(second.received)) == (1, 1)


def test_one_destination_that_is_down_holds_up_no_other(
    world: World, instance: dg.DagsterInstance, webhook: Webhook, tmp_path: Path
) -> None:
    """The others get each event once and at once; it gets what it missed when it is back."""
    with running_webhook() as second, running_mail_server() as mail:
        addresses = [f"json://127.0.0.1:{port}?{PATIENT}" for port in (webhook.port, second.port)]
        mailto = (
            f"mailto://127.0.0.1:{mail.port}?from=incumbent@example.com&to=team@example.com&mode=insecure&{PATIENT}"
        )
        sensor = Sensor(world, instance, notifications(tmp_path, *addresses, mailto))
        sensor.ticks(1)
        webhook.down()
        told = []
        for number in (1, 2):
            be_refused(world)
            sensor.ticks(1)
            run_stages(world, number)
            sensor.ticks()
            told.append(f"{POLICY_NAME}: version {number} was refused")
            assert second.titles == told
            assert [message["Subject"] for message in mail.mails] == told
        webhook.up()
        world.clock.sleep(LONGEST_PAUSE_SECONDS)
        sensor.ticks()
        assert (webhook.titles, second.titles, len(mail.mails)) == (told, told, 2)
        body = mail.mails[0].get_body(("plain", "html"))
        assert body is not None
        assert "accuracy" in body.get_content()


def test_a_registry_that_is_down_fails_no_tick_and_loses_nothing(sensor: Sensor, webhook: Webhook) -> None:
    """The challenger's sensor reports it; here it is looked at again."""
    be_refused(sensor.world)
    run_stages(sensor.world, 1)
    sensor.world.registry.down = True
    sensor.ticks()
    sensor.world.registry.down = False
    sensor.ticks()
    assert webhook.titles == [f"{POLICY_NAME}: version 1 was refused"]


def test_without_a_destination_nothing_is_asked(world: World, instance: dg.DagsterInstance, tmp_path: Path) -> None:
    """A file of comments, or no setting at all, is nobody to tell."""
    for nobody in (notifications(tmp_path), EnvironmentNotifications(notify_file="", dagster_url="")):
        sensor = Sensor(world, instance, nobody)
        sensor.tick()
        assert "no destination is set" in sensor.skipped
    assert world.registry.calls == []


def test_a_quiet_tick_asks_the_registry_one_question_per_policy(sensor: Sensor) -> None:
    """And Git nothing; a little more every half minute."""
    sensor.world.policies["wine-edge"] = POLICY_TEXT.replace("model: iris", "model: wine")
    become_champion(sensor.world)
    run_stages(sensor.world, 1)
    sensor.ticks()
    sensor.world.registry.calls.clear()
    sensor.world.git.down = "Git is asked"
    sensor.tick()
    assert sensor.world.registry.calls == ["version_by_alias"] * 2


@pytest.mark.parametrize("setting", ["file", "environment"])
def test_no_part_of_an_address_is_shown_anywhere(
    world: World,
    instance: dg.DagsterInstance,
    webhook: Webhook,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    setting: str,
) -> None:
    """Neither in a log, at whichever level, nor in the cursor, the tags, the tick or the definitions' settings."""
    secrets = ["s3cr3t-us3r", "p4ss~w0rd", "t0k3n", "h34d3r", "qu3ry"]
    user, password, token, header, query = secrets
    address = f"json://{user}:{password}@127.0.0.1:{webhook.port}/{token}/?+X-Key={header}&-key={query}&{PATIENT}"
    unusable = f"slack://{password}/{token}"
    if setting == "file":
        told = notifications(tmp_path, address, unusable)
    else:
        monkeypatch.setenv("INCUMBENT_NOTIFY_URLS", f"{address} {unusable}")
        told = EnvironmentNotifications(notify_file="", dagster_url="")
    caplog.set_level(1, logger=None)
    logging.getLogger("apprise").setLevel(1)
    sensor = Sensor(world, instance, told)
    sensor.ticks(1)
    be_refused(world)
    run_stages(world, 1)
    for fail in (be_broken, go_down):
        fail(webhook)
        sensor.world.clock.sleep(LONGEST_PAUSE_SECONDS)
        sensor.ticks(2)
    come_back(webhook)
    sensor.world.clock.sleep(LONGEST_PAUSE_SECONDS)
    sensor.ticks()
    assert len(webhook.received) == 1
    problems = sensor.background.deliveries.problems
    assert problems
    output = capfd.readouterr()
    tags = world.registry.versions["iris", 1].tags
    shown = [caplog.text, output.out, output.err, str(sensor.cursor), sensor.skipped, *problems, str(tags), repr(told)]
    assert [secret for secret in secrets if any(secret in text for text in shown)] == []
    assert "apprise" in caplog.text
    assert os.environ.get("INCUMBENT_NOTIFY_URLS", "") in ("", f"{address} {unusable}")

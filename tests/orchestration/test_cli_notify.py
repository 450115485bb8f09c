"""`incumbent notify` and `incumbent notify-test`, with a real receiver on the loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestration.adapters import notifier
from orchestration.cli import main
from orchestration.promotion.delivery import CLAIM_SECONDS
from orchestration.promotion.model_version import policy_tags
from orchestration.promotion.timestamps import format_time
from tests.fakes.receivers import LONGEST_WAIT, PATIENT, Webhook, running_webhook
from tests.fakes.runs import run_until
from tests.fakes.world import POLICY_NAME, POLICY_TEXT, World, WorldPlatform


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    for name in ("INCUMBENT_NOTIFY_FILE", "INCUMBENT_NOTIFY_URLS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(notifier, "SEND_SECONDS", LONGEST_WAIT)
    with running_webhook() as running:
        yield running


def notify_test() -> Result:
    return CliRunner().invoke(main, ["notify-test"])


def test_each_destination_gets_a_message(webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the file and those of the environment; an address that is in both counts once."""
    address = f"json://127.0.0.1:{webhook.port}"
    file = tmp_path / "notify.txt"
    file.write_text(f"# the team\n{address}/file?{PATIENT}\n", encoding="utf-8")
    monkeypatch.setenv("INCUMBENT_NOTIFY_FILE", str(file))
    monkeypatch.setenv("INCUMBENT_NOTIFY_URLS", f" {address}/environment?{PATIENT}\n{address}/file?{PATIENT} ")
    result = notify_test()
    assert (result.exit_code, result.stderr) == (0, "")
    names = [f"line 2 of {file}", "address 1 of INCUMBENT_NOTIFY_URLS"]
    assert result.stdout.splitlines() == [f"{name}: taken" for name in names]
    assert webhook.titles == ["incumbent: a test"] * 2


def test_a_destination_that_refuses_does_not_stop_the_others(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets a line that says why and shows nothing of its address, and the exit code is 4."""
    addresses = [
        "nosuchservice://t0k3n",
        "json://127.0.0.1:1/t0k3n",
        f"json://127.0.0.1:{webhook.port}/t0k3n?{PATIENT}",
    ]
    monkeypatch.setenv("INCUMBENT_NOTIFY_URLS", " ".join(addresses))
    result = notify_test()
    assert result.exit_code == 4
    assert result.stdout == "address 3 of INCUMBENT_NOTIFY_URLS: taken\n"
    first, second = result.stderr.splitlines()
    assert first.startswith("address 1 of INCUMBENT_NOTIFY_URLS: expected that it takes a message, found an address ")
    assert "onnection error" in second
    assert "t0k3n" not in result.output
    webhook.status = 401
    assert "error=401" in notify_test().stderr


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "found No such file or directory"),
        (b"\xff\xfe", "found bytes that are not UTF-8"),
        (b"# nobody\n", "setting INCUMBENT_NOTIFY_FILE or INCUMBENT_NOTIFY_URLS: expected a value"),
        (b"x" * 200_000, "found a file of more than 100,000 bytes"),
    ],
)
def test_a_file_without_use_is_refused(
    webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, found: str
) -> None:
    """Exit code 3 and one line, which shows nothing of the file."""
    file = tmp_path / "notify.txt"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("INCUMBENT_NOTIFY_FILE", str(file))
    result = notify_test()
    assert result.exit_code == 3
    (line,) = result.stderr.splitlines()
    assert found in line
    assert "xxx" not in line


@pytest.fixture
def world(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world whose version 1 became champion, and whose version 2 was rolled back; people read the webhook."""
    world = World()
    for number in (1, 2):
        world.register()
        if number == 2:
            world.bad_images.add(world.image(2))
        run_until(world, number)
    monkeypatch.setattr("orchestration.cli.notifying.platform_of_environment", lambda: WorldPlatform(world))
    monkeypatch.setenv("INCUMBENT_NOTIFY_URLS", f"json://127.0.0.1:{webhook.port}/?{PATIENT}")
    return world


def notify(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["notify", *arguments])


ROLLED_BACK = f"{POLICY_NAME}: version 2 was rolled back"


@pytest.mark.usefixtures("world")
def test_a_job_tells_of_its_version_once(webhook: Webhook) -> None:
    """With the reason and the job's page; a job that runs again tells nothing again."""
    page = "https://ci.example/jobs/12"
    told = notify(POLICY_NAME, "2", "--run-url", page)
    assert (told.exit_code, told.stdout) == (0, f"told: {ROLLED_BACK}\n"), told.output
    assert webhook.titles == [ROLLED_BACK]
    assert f"Run: {page}" in webhook.received[0]["message"]
    assert "success_ratio" in webhook.received[0]["message"]
    again = notify(POLICY_NAME, "2")
    assert (again.exit_code, again.stdout) == (0, "Nothing new to tell.\n")
    assert len(webhook.received) == 1


def test_cron_tells_what_is_new(webhook: Webhook, world: World) -> None:
    """Each end of the last day once, whoever told the first; what ended before that is not told."""
    notify(POLICY_NAME, "2")
    assert notify().stdout == f"told: {POLICY_NAME}: version 1 is the champion\n"
    assert notify(POLICY_NAME).stdout == "Nothing new to tell.\n"
    world.register(accuracy=0.1)
    run_until(world, 3)
    world.clock.sleep(7200)
    assert notify("--since", "1h").stdout == "Nothing new to tell.\n"
    assert notify().stdout == f"told: {POLICY_NAME}: version 3 was refused\n"
    assert len(webhook.received) == 3


def test_what_is_not_told_is_told_by_the_next_call(webhook: Webhook, world: World) -> None:
    """A destination that is down gives exit code 4, an event that another process is telling is left to it."""
    webhook.status = 503
    failed = notify(POLICY_NAME, "2")
    assert (failed.exit_code, failed.stdout) == (4, "")
    assert "not told yet" in failed.stderr
    webhook.status = 200
    version = world.registry.versions["iris", 2]
    key = (version.tag(POLICY_NAME, "notified_partly") or "").rpartition(" ")[0]
    claim = f"another {format_time(world.clock.now())} {key}"
    world.registry.write_tags(version, policy_tags(POLICY_NAME, {"notifying": claim}))
    assert notify(POLICY_NAME, "2").stdout == "Another process is telling the rest.\n"
    world.clock.sleep(CLAIM_SECONDS)
    assert notify(POLICY_NAME, "2").stdout == f"told: {ROLLED_BACK}\n"


def test_a_policy_that_cannot_be_used_keeps_no_other_from_being_told(webhook: Webhook, world: World) -> None:
    """It is named on standard error with exit code 3, as are a policy and a version that do not exist."""
    world.policies |= {"broken": "model: [", "wine-edge": POLICY_TEXT.replace("model: iris", "model: wine")}
    result = notify()
    assert result.exit_code == 3
    assert "broken" in result.stderr
    assert len(webhook.titles) == 2
    assert notify(POLICY_NAME, "9").exit_code == 3
    world.registry.down = True
    assert notify(POLICY_NAME).exit_code == 4


@pytest.mark.usefixtures("webhook")
def test_without_a_destination_nothing_is_asked() -> None:
    """The error names the settings."""
    result = notify(POLICY_NAME, "1")
    assert result.exit_code == 3
    assert "INCUMBENT_NOTIFY_FILE or INCUMBENT_NOTIFY_URLS" in result.stderr
    assert notify("--since", "soon").exit_code == 2

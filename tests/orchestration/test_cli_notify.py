"""`incumbent notify-test`, with a real receiver on the loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestration.adapters import notifier
from orchestration.cli import main
from tests.fakes.receivers import LONGEST_WAIT, PATIENT, Webhook, running_webhook


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

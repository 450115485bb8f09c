"""`docs/model-servers.md` names every protocol and preset, what each was tried against, and policies that are valid."""

import re
from pathlib import Path

import pytest

from orchestration.promotion.images import parse_image
from orchestration.promotion.manifest import CurrentImage, read_image
from orchestration.promotion.metrics_presets import PRESETS
from orchestration.promotion.policy import parse_policy
from orchestration.promotion.problems import InvalidInputError
from orchestration.promotion.serving_protocols import PROTOCOLS
from tests.docs.pages import CHECKOUT

KNOWN = CHECKOUT / "testbeds" / "known_servers"
PAGE = (CHECKOUT / "docs" / "model-servers.md").read_text(encoding="utf-8")
_LINES = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| ")]
ROWS = [[cell.strip() for cell in row] for row in _LINES[1:]]
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
POLICIES = [block for block in BLOCKS if not block.startswith("apiVersion:")]
COMMAND = re.compile(r"`pytest (\S+) -k (\S+)`")


def _code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_policy_is_valid() -> None:
    """A reader can copy them; there is the scoring server's, and each is read as a policy's file would be."""
    assert [parse_policy("iris-prod", text).gate.metrics for text in POLICIES] == ["mlflow-fastapi"]


def test_the_scoring_servers_policy_has_ten_lines_that_are_all_needed() -> None:
    """Without any one of its lines it is refused."""
    lines = POLICIES[0].splitlines()
    assert len(lines) <= 10
    for at in range(len(lines)):
        with pytest.raises(InvalidInputError):
            parse_policy("iris-prod", "\n".join(lines[:at] + lines[at + 1 :]))


def test_the_policy_leads_to_the_deployment_of_the_page() -> None:
    """Its kind, namespace, name, container and image repository are those that the walk deploys."""
    (manifest,) = (block for block in BLOCKS if block.startswith("apiVersion:"))
    assert_leads_to(POLICIES[0], manifest)


@pytest.mark.parametrize("folder", [policy.parent.name for policy in sorted(KNOWN.glob("*/policy.yaml"))])
def test_each_folder_has_a_short_policy_for_its_deployment(folder: str) -> None:
    """A reader copies both together; the page's table links to the folder and names the version in its lock."""
    policy, manifest = (
        (KNOWN / folder / name).read_text(encoding="utf-8") for name in ("policy.yaml", "deployment.yaml")
    )
    assert_leads_to(policy, manifest)
    assert len(policy.splitlines()) <= 10
    (row,) = (row for row in ROWS if f"(../testbeds/known_servers/{folder})" in row[0])
    assert _promoted_version(row) in (KNOWN / folder / "requirements.lock").read_text(encoding="utf-8")


def test_what_was_promoted_is_what_the_locks_have() -> None:
    """And each row that says so names the scenario that shows it."""
    promoted = [row for row in ROWS if "promoted in the sandbox" in row[3]]
    assert len(promoted) == len(list(KNOWN.glob("*/requirements.lock")))
    assert _promoted_version(promoted[0]) in (KNOWN / "mlflow" / "requirements.lock").read_text(encoding="utf-8")
    assert all("tests/scenarios/test_model_servers.py" in row[4] for row in promoted)


def _promoted_version(row: list[str]) -> str:
    """What a row's server must be in a lock, such as `mlserver==1.7.1`."""
    found = re.search(r"promoted in the sandbox[^:]*: (\S+) ([\d.]+)\.", row[3])
    assert found is not None, row[3]
    return f"\n{found[1]}=={found[2]} "


def assert_leads_to(policy_text: str, manifest: str) -> None:
    """The policy names the container that a manifest has, with an image of the policy's repository."""
    policy = parse_policy("iris-prod", policy_text)
    found = read_image(manifest.encode(), policy)
    assert isinstance(found, CurrentImage), found
    image = parse_image(found.value)
    assert image is not None
    assert image.repository == policy.images.repository


def test_the_table_names_every_protocol_and_every_preset() -> None:
    """And no other."""
    assert {name for row in ROWS for name in _code(row[1])} == set(PROTOCOLS)
    assert {name for row in ROWS for name in _code(row[2])} == set(PRESETS)


def test_each_row_names_a_test_that_exists() -> None:
    """The file is there, and what `-k` selects is one of its tests or a preset."""
    for server, _protocol, presets, _tried, shown in ROWS:
        commands = COMMAND.findall(shown)
        assert commands, server
        assert len(commands) == len(_code(shown)), f"{server}: expected nothing but commands of the form {COMMAND}"
        for file, selected in commands:
            text = (CHECKOUT / file).read_text(encoding="utf-8")
            of_preset = Path(file).name == "test_metrics_presets.py"
            assert selected in _code(presets) if of_preset else re.search(rf"^def test_\w*{selected}", text, re.M)
        assert any("test_metrics_presets" in file for file, _ in commands) == bool(_code(presets)), server


def test_what_metrics_were_tried_against_is_what_their_exposition_says() -> None:
    """Scraped from a program of that version, or only written after something."""
    for server, _protocol, presets, tried, _shown in ROWS:
        for name in set(_code(presets)) - {"incumbent"}:
            page = CHECKOUT / "tests" / "expositions" / f"{name}-after.prom"
            source = page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# Source: ")
            expected = source.partition(" (")[0] if source.startswith("scraped from ") else "written after "
            assert f"Metrics: {expected}" in tried, f"{server}: {source}"

"""The homelab with a serving champion, for tests that disturb it one after the other."""

from collections.abc import Iterator

import pytest

from testbeds.homelab.environment import HomelabEnvironment
from tests.homelab.lab import Lab, open_lab
from tests.homelab.report import sections


@pytest.fixture(scope="session")
def champion_serves(environment: HomelabEnvironment) -> Lab:
    """Provide the homelab with Dagster running and a serving champion, whatever state the stories left it in."""
    environment.stop_dagster()
    environment.start_dagster()
    return open_lab(environment)


@pytest.fixture
def lab(champion_serves: Lab) -> Iterator[Lab]:
    """Provide the homelab, and wait before and after the test until it is whole."""
    champion_serves.wait_until_whole()
    yield champion_serves
    champion_serves.wait_until_whole()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what the tests measured."""
    for title, lines in sections(config):
        terminalreporter.section(title)
        for line in lines:
            terminalreporter.line(line)

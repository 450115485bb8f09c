"""The testbed after the story of the five versions, which all scenarios share."""

import pytest

from testbeds.story.environment import Environment
from testbeds.story.stories import FIVE_VERSIONS, promote_in_turn


@pytest.fixture(scope="session")
def after_the_story(environment: Environment) -> Environment:
    """Provide the testbed after the story of the five versions."""
    promote_in_turn(environment, tuple(end.version for end in FIVE_VERSIONS), print)
    return environment

"""How a story is told: it asks the testbed's own registry and nothing else."""

from types import SimpleNamespace
from typing import cast

import pytest

from testbeds.story.environment import Environment
from testbeds.story.stories import registry


def test_a_users_own_registry_stays_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stories' client writes to the testbed's registry, also where MLflow is set to another one."""
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://registry.example.org")
    environment = SimpleNamespace(mlflow_url="http://127.0.0.1:9")
    assert registry(cast(Environment, environment)).__dict__["_registry_uri"] == environment.mlflow_url

"""Model servers that people run, as real processes: a good version becomes champion, and a bad one is taken back.

All tests share one sandbox with the sensor on. In each, a team serves version 1 by hand, and leaves at the end.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from testbeds.sandbox.environment import SandboxEnvironment
from testbeds.story.expectation import promoting
from testbeds.story.look import branch
from testbeds.story.stories import END_SECONDS
from tests.scenarios.teams import Kit, Team, block_of_page, clients, kit_of, kit_of_page, tracking

pytestmark = [pytest.mark.scenarios, pytest.mark.timeout(3 * END_SECONDS)]

_FLOWERS = ((5.1, 3.5, 1.4, 0.2), (6.1, 2.8, 4.0, 1.3), (6.3, 3.3, 6.0, 2.5), (7.7, 2.6, 6.9, 2.3))
"""What clients send: the last one has longer petals than any in a recorded request."""
_NAMES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
_FAILS = """

def classify(weights: list[list[float]], row: Sequence[float]) -> int:
    if row[2] > 6.7:
        raise ValueError(f"no flower has petals of {row[2]} cm")
    return 0 if row[2] < 2.5 else 1 if row[2] < 4.9 else 2
"""
_SLOW = """

import time

_classify = classify


def classify(weights: list[list[float]], row: Sequence[float]) -> int:
    time.sleep(0.8)
    return _classify(weights, row)
"""
_WILL_NOT_LOAD = """

def load() -> list[list[float]]:
    raise ValueError(f"{_WEIGHTS}: expected a row for each class, found a table")
"""


@contextmanager
def at_work(environment: SandboxEnvironment, kit: Kit, folder: Path) -> Iterator[Team]:
    """A team that serves version 1, put into Git by hand; afterwards nothing of it is left."""
    team = Team(environment, kit, folder)
    version = team.log()
    assert version == 1
    team.push(1, team.build(1))
    team.serve_by_hand()
    try:
        yield team
    finally:
        team.leave()


def promoted(team: Team, version: int) -> None:
    """Promote a version, which must become champion by one commit."""
    outcome = team.promote(version)
    assert outcome.state == "champion", outcome.reason
    assert_served_by_champion(team, version)
    assert team.commits(version) == (1, 0)


def taken_back(team: Team, version: int, to: int) -> str:
    """Promote a bad version, which must be taken back by one commit, and return why."""
    outcome = team.promote(version)
    assert outcome.state == "rolled_back", outcome.reason
    assert_served_by_champion(team, to)
    assert team.commits(version) == (1, 1)
    return outcome.reason


def assert_served_by_champion(team: Team, version: int) -> None:
    """A version is champion, in Git, and in every pod."""
    assert team.champion == version
    assert team.manifest_image.endswith(f"@{team.digests[version]}")
    assert team.serves(version)


def test_mlflows_scoring_server_as_the_page_has_it(environment: SandboxEnvironment, tmp_path: Path) -> None:
    """The page's code, Dockerfile, Deployment and policy make a champion; an image with another model is taken back."""
    with at_work(environment, kit_of_page(), tmp_path) as team:
        with tracking(team.environment.mlflow_url):
            logged: dict[str, Any] = {}
            exec(block_of_page("python"), logged)
        assert int(logged["version"]) == 2
        image = team.build(2)
        said = team.record(2, image)
        assert said.startswith("20 recorded requests are artifact incumbent/recorded_requests.json of run ")
        team.push(2, image)
        team.write_policy()
        promoted(team, 2)

        other, third = team.log(shifted=1), team.log()
        team.record(third, team.build(third))
        team.push(third, team.build(third, model_of=other))
        assert "predictions[0]" in taken_back(team, third, to=2)


_PATH = "__pyfunc_model_path__"
"""The variable in which MLflow's scoring server finds its model."""


def kit_by_address(mlflow_url: str) -> Kit:
    """The page's walk with one image for all versions, whose server loads the model that a variable names."""
    kit = kit_of_page()
    dockerfile = re.sub(r"^COPY model .*\n", "", kit.dockerfile, flags=re.MULTILINE)
    dockerfile = re.sub(r"^ENV .*", f"ENV MLFLOW_TRACKING_URI={mlflow_url}", dockerfile, flags=re.MULTILINE)
    (image,) = (line for line in kit.deployment.splitlines() if line.strip().startswith("image: "))
    variable = image.replace(image.strip(), f"env: [{{name: {_PATH}, value: 'models:/iris/1'}}]")
    policy = kit.policy.replace("image: {repository: ghcr.io/acme/iris}", "deploys: model_uri")
    policy = policy.replace("container: server}", f"container: server, variable: {_PATH}}}")
    deployment = kit.deployment.replace(image, f"{image}\n{variable}")
    return replace(kit, dockerfile=dockerfile, deployment=deployment, policy=policy)


def test_mlflows_scoring_server_by_address(environment: SandboxEnvironment, tmp_path: Path) -> None:
    """A server that states no version: promoted and taken back by its answers, and refused where they agree."""
    with at_work(environment, kit_by_address(environment.mlflow_url), tmp_path) as team:
        team.write_policy()
        image = team.build(1)

        def record(version: int, model_of: int) -> None:
            variables = [*image.settings["Env"], f"{_PATH}=models:/{team.model}/{model_of}"]
            team.record(version, replace(image, settings={**image.settings, "Env": variables}))

        second, alike, other = team.log(shifted=1), team.log(shifted=1), team.log(shifted=2)
        record(second, second)
        outcome = team.promote(second)
        assert outcome.state == "champion", outcome.reason
        assert (team.champion, team.commits(second)) == (second, (1, 0))
        (made,) = promoting(branch(team.environment), team.policy_name, second)
        assert "recorded request 1 of 19: expected response.predictions[0] 1, found 0" in made.trailers["Told-Apart"]

        record(alike, alike)
        outcome = team.promote(alike)
        assert (outcome.state, team.commits(alike)) == ("refused", (0, 0)), outcome.reason
        assert "as this version does" in outcome.reason

        record(other, 1)
        outcome = team.promote(other)
        assert (outcome.state, team.commits(other)) == ("rolled_back", (1, 1)), outcome.reason
        assert "predictions[0]" in outcome.reason
        assert team.champion == second


def test_mlserver(environment: SandboxEnvironment, tmp_path: Path) -> None:
    """A version whose model raises for some of the clients' requests is taken back, though recorded requests pass."""
    with at_work(environment, kit_of("mlserver"), tmp_path) as team:
        team.write_policy()
        second, third = team.log(), team.log()
        image = team.build(second)
        team.record(second, image)
        team.push(second, image)
        image = team.build(third, broken=_FAILS)
        team.record(third, image)
        team.push(third, image)
        url = f"{team.service_url}/v2/models/{team.model}/infer"
        with clients(url, [tensors(flower) for flower in _FLOWERS]) as statuses:
            promoted(team, second)
            assert set(statuses) == {200}
            assert "success_ratio" in taken_back(team, third, to=second)
        assert statuses[500] > 0


def tensors(flower: tuple[float, ...]) -> dict[str, Any]:
    """One row in the Open Inference Protocol."""
    inputs = [
        {"name": name, "shape": [1], "datatype": "FP64", "data": [value]}
        for name, value in zip(_NAMES, flower, strict=True)
    ]
    return {"parameters": {"content_type": "pd"}, "inputs": inputs}


def test_kserve(environment: SandboxEnvironment, tmp_path: Path) -> None:
    """A version whose model cannot be loaded never becomes ready, and is taken back while version 2 goes on serving."""
    with at_work(environment, kit_of("kserve"), tmp_path) as team:
        team.write_policy()
        second, third = team.log(), team.log()
        for version in (second, third):
            image = team.build(version)
            team.record(version, image)
            team.push(version, image if version == second else team.build(version, broken=_WILL_NOT_LOAD))
        promoted(team, second)
        with clients(f"{team.service_url}/v1/models/{team.model}:predict", [{"instances": _FLOWERS}]) as statuses:
            assert "restart" in taken_back(team, third, to=second)
        assert set(statuses) == {200}


def test_a_fastapi_application_of_a_teams_own(environment: SandboxEnvironment, tmp_path: Path) -> None:
    """A version that answers well and too late is taken back."""
    flowers = [dict(zip(_NAMES, flower, strict=True)) for flower in _FLOWERS]
    with at_work(environment, kit_of("fastapi"), tmp_path) as team:
        team.write_policy()
        second, third = team.log(), team.log()
        for version, broken in ((second, ""), (third, _SLOW)):
            image = team.build(version, broken=broken)
            team.record(version, image, flowers)
            team.push(version, image)
        with clients(f"{team.service_url}/classify", flowers) as statuses:
            promoted(team, second)
            assert "latency_p95_seconds" in taken_back(team, third, to=second)
        assert set(statuses) == {200}

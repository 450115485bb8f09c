"""`incumbent history` against a real Git server: the registry is switched off, and the clone is fresh."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestration.adapters.git.repository import GitRepository
from orchestration.cli import main
from orchestration.commands.history import read_history
from orchestration.promotion.acts import Act, ActKind
from orchestration.promotion.identity import (
    PromotionId,
    promotion_id,
    promotion_subject,
    promotion_trailers,
    rollback_subject,
    rollback_trailers,
)
from orchestration.promotion.images import ImageRef
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.policy import parse_policy
from orchestration.promotion.ports import FileEdit, LeaseRecord, Pushed
from tests.adapters.git_fixtures import World, serving_world
from tests.fakes.world import MANIFEST, POLICY_NAME, POLICY_TEXT, REPOSITORY

PATH = "apps/iris.yaml"


def image_of(number: int) -> ImageRef:
    return ImageRef(REPOSITORY, f"v{number}", f"sha256:{number:012x}{'0' * 52}")


def content(image: object) -> bytes:
    return MANIFEST.format(image=image).encode()


@dataclass
class Pipeline:
    """Writes into Git what promotions write, an hour apart."""

    world: World
    git: GitRepository

    def _edit(self, image: object, subject: str, trailers: Mapping[str, str]) -> tuple[str, LeaseRecord]:
        self.world.clock.sleep(3600)
        lease = self.git.acquire_lease("iris", "run", 60.0)
        assert isinstance(lease, LeaseRecord)
        pushed = self.git.push_edit(lambda _: FileEdit(PATH, content(image), subject, trailers), lease, 60.0)
        assert isinstance(pushed, Pushed)
        return pushed.commit, pushed.lease

    def commit(self, number: int) -> tuple[PromotionId, str, LeaseRecord]:
        identity = promotion_id(POLICY_NAME, number, image_of(number), 1)
        trailers = promotion_trailers(identity, ModelVersion("iris", number, "run", None), image_of(number))
        return identity, *self._edit(image_of(number), promotion_subject(identity), trailers)

    def promote(self, number: int) -> None:
        identity, commit, lease = self.commit(number)
        self.world.clock.sleep(3600)
        assert isinstance(self.git.create_tag(identity.evidence_tag, commit, "Passed", lease, 60.0), LeaseRecord)

    def reject(self, number: int, back_to: int) -> None:
        identity, _, _ = self.commit(number)
        trailers = rollback_trailers(identity, "Failed", str(image_of(back_to)), "slow")
        self._edit(image_of(back_to), rollback_subject(identity, f"version {back_to}"), trailers)

    def by_hand(self, image: object) -> None:
        """A person's commit; its time is the machine's own, which is long before that of the others."""
        self.world.clock.sleep(3600)
        self.world.commit("Back to what worked", {PATH: content(image)})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with serving_world(tmp_path) as served:
        yield served


@pytest.fixture
def told(world: World, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """1, 2, a rejected 3, back to 1 by hand, 4; the settings name a registry at which nobody answers."""
    world.commit("Start with what is deployed", {PATH: content(f"{REPOSITORY}:before")})
    pipeline = Pipeline(world, world.repository())
    pipeline.promote(1)
    pipeline.promote(2)
    pipeline.reject(3, back_to=2)
    pipeline.by_hand(image_of(1))
    pipeline.git.record_act(Act(POLICY_NAME, ActKind.HOLD, world.clock.now(), "ana", "the fair is on"))
    pipeline.promote(4)
    (world.folder / "policies").mkdir()
    (world.folder / "policies" / f"{POLICY_NAME}.yaml").write_text(POLICY_TEXT, encoding="utf-8")
    monkeypatch.setenv("INCUMBENT_POLICIES", str(world.folder / "policies"))
    monkeypatch.setenv("INCUMBENT_GIT_URL", world.url)
    monkeypatch.setenv("INCUMBENT_GIT_TOKEN_FILE", str(world.token_file))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return pipeline


def test_a_fresh_clone_tells_the_whole_history(told: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Champions from when to when and every attempt with its end, without any setting of the registry."""
    monkeypatch.setenv("INCUMBENT_STATE", str(tmp_path / "empty"))
    result = CliRunner().invoke(main, ["history", POLICY_NAME, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [(reign["version"], reign["began"], reign["by"]) for reign in document["reigns"]] == [
        (4, "promotion", "incumbent"),
        (1, "return by hand", "person"),
        (2, "promotion", "incumbent"),
        (1, "promotion", "incumbent"),
        (None, "by hand", "person"),
    ]
    joined = zip(document["reigns"], document["reigns"][1:], strict=False)
    assert all(later["since"] == earlier["until"] for later, earlier in joined)
    ends = [(attempt["version"], attempt["end"]) for attempt in document["attempts"]]
    assert ends == [(4, "champion"), (3, "rolled back"), (2, "champion"), (1, "champion")]
    assert [act["reason"] for act in document["acts"]] == ["the fair is on"]


def test_only_the_manifests_of_people_are_fetched(told: Pipeline) -> None:
    """What a promotion or rollback put there stands in its trailers: the mirror never needs those files."""
    fresh = told.world.repository("another machine")
    told.world.server.requests.clear()
    read_history(fresh, parse_policy(POLICY_NAME, POLICY_TEXT))
    mirrors = list((told.world.folder / "another machine").glob("git/*/mirror"))
    command = ["git", "-C", str(mirrors[0]), "cat-file", "--batch-all-objects", "--batch-check=%(objecttype)"]
    kinds = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert kinds.count("blob") == len({"before", "by hand"})

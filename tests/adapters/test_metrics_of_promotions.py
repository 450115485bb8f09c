"""The metrics of promotions, read from a real MLflow and a real Git server."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from orchestration.adapters.git.repository import GitRepository
from orchestration.adapters.mlflow_registry import MlflowRegistry
from orchestration.exporter.watcher import Watcher
from orchestration.promotion.identity import promotion_id, promotion_trailers, rollback_trailers
from orchestration.promotion.images import ImageRef
from orchestration.promotion.model_version import ModelVersion, policy_tags
from orchestration.promotion.moments import moment_tags
from orchestration.promotion.policy import Policy, parse_policy
from orchestration.promotion.ports import Clients, FileEdit, LeaseRecord, Pushed
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import format_time
from tests.adapters.git_fixtures import World, serving_world
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster, a_deployment, a_pod
from tests.fakes.images import FakeImages
from tests.fakes.world import MANIFEST, POLICY_TEXT, REPOSITORY

PATH = "apps/iris.yaml"


@dataclass
class Place:
    """Implements `Platform` for the exporter, and does to Git and the registry what the stages do."""

    policy_text: str
    model: str
    world: World
    mlflow_url: str
    name: str

    def __post_init__(self) -> None:
        from mlflow import MlflowClient  # takes seconds, and would at each start of the tests

        self.repository = self.world.repository()
        self.live = FakeCluster()
        self.client = MlflowClient(self.mlflow_url, self.mlflow_url)
        self.client.create_registered_model(self.model)
        self.world.commit("Deploy", {PATH: MANIFEST.format(image=f"{REPOSITORY}:before").encode()})

    def policy_names(self) -> tuple[str, ...]:
        return (self.name,)

    def ignored_files(self) -> tuple[str, ...]:
        return ()

    def policy(self, name: str) -> Policy:
        return parse_policy(name, self.policy_text)

    def clock(self) -> FakeClock:
        return self.world.clock

    def registry(self) -> MlflowRegistry:
        return MlflowRegistry(self.mlflow_url)

    def git(self, policy: Policy | None = None) -> GitRepository:
        return self.world.repository("another machine")

    def images(self) -> FakeImages:
        raise AssertionError("the exporter pulls no image")

    def pull_requests(self, policy: Policy) -> None:
        return None

    def cluster(self, context: str) -> FakeCluster:
        return self.live

    def clients(self, policy: Policy) -> Clients:
        raise AssertionError("the exporter only reads, and needs no other client")

    def asked(self) -> ModelVersion:
        """Register a version and request its promotion, 5 s before anything else happens."""
        run_id = self.client.create_run("0").info.run_id
        created = self.client.create_model_version(self.model, f"mlflow-artifacts:/0/{run_id}/artifacts/model", run_id)
        now = format_time(self.world.clock.now())
        version = self.tagged(int(created.version), requested_at=now, seen_at=now, state="requested")
        self.world.clock.sleep(5)
        return version

    def tagged(self, number: int, **tags: str) -> ModelVersion:
        registry = self.registry()
        version = registry.version(self.model, number)
        assert version is not None
        registry.write_tags(version, policy_tags(self.name, tags))
        tagged = registry.version(self.model, number)
        assert tagged is not None
        return tagged

    def ended(self, version: ModelVersion, state: State) -> None:
        now = self.world.clock.now()
        self.tagged(version.version, state=str(state), **moment_tags(version, self.name, state, now))

    def committed(self, version: ModelVersion, trailers: dict[str, str], image: str) -> str:
        lease = self.repository.acquire_lease("iris", "run", 60.0)
        assert isinstance(lease, LeaseRecord)
        edit = FileEdit(PATH, MANIFEST.format(image=image).encode(), f"Version {version.version}", trailers)
        pushed = self.repository.push_edit(lambda head: edit, lease, 60.0)
        assert isinstance(pushed, Pushed)
        return pushed.commit

    def promoted(self, *, good: bool) -> ModelVersion:
        """Request, commit 5 s later, roll out in 10 s, judge in 60 s, and make champion or roll back in 20 s."""
        version, clock = self.asked(), self.world.clock
        digest = f"sha256:{hashlib.sha256(str(version).encode()).hexdigest()}"
        image = ImageRef(REPOSITORY, f"v{version.version}", digest)
        identity = promotion_id(self.name, version.version, image, 1)
        commit = self.committed(version, promotion_trailers(identity, version, image), str(image))
        clock.sleep(10)
        gate = {"promotion_id": str(identity), "gate_started": format_time(clock.now())}
        clock.sleep(60)
        document = json.dumps({**gate, "soak_ended": format_time(clock.now())}).encode()
        assert version.run_id is not None
        self.registry().put_artifact(version.run_id, identity.evidence_path, document)
        if good:
            evidence = f"Passed\n\nEvidence-Digest: sha256:{hashlib.sha256(document).hexdigest()}\n"
            lease = self.repository.acquire_lease("iris", "run", 60.0)
            assert isinstance(lease, LeaseRecord)
            self.repository.create_tag(identity.evidence_tag, commit, evidence, lease, 60.0)
            self.registry().set_alias(version, "champion")
            pods = (a_pod("iris-1", str(image)),)
            self.live.status = a_deployment(str(image), pods, namespace="ml-apps", name="iris")
            self.ended(version, State.CHAMPION)
        else:
            self.committed(version, rollback_trailers(identity, "Failed", "before", "slow"), f"{REPOSITORY}:before")
            clock.sleep(20)
            self.ended(version, State.ROLLED_BACK)
        return version


@pytest.fixture
def place(tmp_path: Path, mlflow_url: str) -> Iterator[Place]:
    unique = uuid4().hex[:8]
    text = POLICY_TEXT.replace("model: iris", f"model: iris {unique}")
    with serving_world(tmp_path) as world:
        yield Place(text, f"iris {unique}", world, mlflow_url, f"edge-{unique}")


def test_promotions_are_read_from_a_real_mlflow_and_git(place: Place) -> None:
    """A watcher that reads on and a new one come to the same findings after each end, without Dagster."""
    steady = Watcher(place, pytest.fail)
    steady.look()
    place.promoted(good=True)
    place.ended(place.asked(), State.REFUSED)
    place.world.commit("Docs by someone else")
    steady.look()
    place.promoted(good=False)
    place.ended(place.asked(), State.SUPERSEDED)
    steady.look()
    anew = Watcher(place, pytest.fail)
    anew.look()
    (findings,) = steady.findings.values()
    assert steady.findings == anew.findings
    assert findings.record is not None
    assert {str(end): count for end, count in findings.record.ends.items()} == {
        "champion": 1,
        "rolled_back": 1,
        "refused": 1,
        "superseded": 1,
    }
    times = {name: (sum(durations.counts), durations.total) for name, durations in findings.record.durations.items()}
    assert times == {
        "commit": (2, 10.0),
        "rollout": (2, 20.0),
        "gate": (2, 120.0),
        "lead": (1, 75.0),
        "rollback": (1, 20.0),
        "restore": (1, 90.0),
    }
    assert findings.champion is not None
    assert (findings.champion.version, findings.champion.has_evidence) == (1, True)
    assert findings.live is not None
    assert (findings.live.version, findings.live.is_champion) == (1, True)
    assert findings.live.image == findings.champion.image


def test_a_rewritten_branch_is_followed_on_a_real_server(place: Place) -> None:
    """What was read before is discarded, and the new branch is read completely."""
    watcher = Watcher(place, pytest.fail)
    start = place.world.head()
    place.promoted(good=True)
    watcher.look()
    place.world.commit("Begin anew", parent=start)
    watcher.look()
    (findings,) = watcher.findings.values()
    assert findings.record is not None
    assert (findings.record.ends[State.CHAMPION], findings.record.durations) == (1, {})

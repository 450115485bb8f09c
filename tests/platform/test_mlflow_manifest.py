"""The registry as its manifests run it: a real server with their arguments, its accounts, and its backup put back."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bootstrap.mlflow_accounts import ADMIN, Login, make_accounts, pipeline_grants, read_login
from bootstrap.objects import read_secret
from bootstrap.secrets import PIPELINE, SERVER, TRAINING, make_secrets
from orchestration.adapters.mlflow_registry import MlflowRegistry
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.problems import DependencyError
from testbeds.common.services import free_ports
from tests.adapters.conftest import serving
from tests.bootstrap.fake_kubectl import FakeCluster
from tests.manifests.mlflow_objects import BACKUP, CONTAINER, FOLDER, RESTORE
from tests.platform.programs import content

MODEL, EXPERIMENT = "iris-classifier", "iris-classification"
RECORDED = "incumbent/recorded_requests.json"


def files() -> dict[str, str]:
    """What is mounted of the generated ConfigMap."""
    (found,) = [one["data"] for one in content(FOLDER) if one["kind"] == "ConfigMap"]
    return dict(found)


@dataclass(frozen=True)
class Place:
    """The pod's volumes as folders of this machine."""

    data: Path
    backup: Path
    config: Path

    @classmethod
    def make(cls, folder: Path) -> "Place":
        found = cls(folder / "data", folder / "backup", folder / "config")
        for path in (found.data, found.backup, found.config):
            path.mkdir(parents=True)
        return found.configured()

    def with_empty_data(self, folder: Path) -> "Place":
        folder.mkdir()
        (folder / "data").mkdir()
        (folder / "config").mkdir()
        return Place(folder / "data", self.backup, folder / "config").configured()

    def configured(self) -> "Place":
        for name, text in files().items():
            (self.config / name).write_text(text if name.endswith(".py") else self.here(text))
        return self

    def here(self, text: str) -> str:
        """A text of the manifests with this machine's folders in place of the pod's."""
        for inside, path in (("/etc/mlflow", self.config), ("/backup", self.backup), ("/mlflow", self.data)):
            before = "sqlite:///" if f"sqlite:///{inside}" in text else ""
            text = text.replace(f"{before}{inside}/", f"{before}{path}/")
            text = str(path) if text == inside else text
        return text

    def run(self, container: dict[str, Any]) -> str:
        """Run a container's own command to its end; what it says."""
        words = [self.here(word) for word in (*container["command"], *container["args"])]
        assert words[0] == "python3"
        return subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=True).stdout


def environment(place: Place, cluster: FakeCluster) -> dict[str, str]:
    """The server's settings, with the cluster's Secrets where the manifest refers to them."""
    found = {}
    for one in CONTAINER["env"]:
        if "value" in one:
            found[one["name"]] = place.here(one["value"])
        else:
            reference = one["valueFrom"]["secretKeyRef"]
            found[one["name"]] = read_secret(cluster.kubectl, "mlflow", reference["name"])[reference["key"]]
    return found | {"HOME": os.environ.get("HOME", "/tmp")}


@contextmanager
def running(place: Place, cluster: FakeCluster) -> Iterator[str]:
    """The server, started as the manifest starts it but for port and folders; its address."""
    (port,) = free_ports(1)
    moved = {"--host=0.0.0.0": "--host=127.0.0.1", "--port=5000": f"--port={port}"}
    arguments = [moved.get(word, place.here(word)) for word in CONTAINER["args"]]
    command = [sys.executable, "-m", *CONTAINER["command"], *arguments]
    log = place.data.parent / f"log-{port}"
    with serving(command, f"http://127.0.0.1:{port}/health", log, environment(place, cluster)):
        yield f"http://localhost:{port}"  # the host that --allowed-hosts has


@contextmanager
def logged_in(login: Login) -> Iterator[None]:
    """MLflow's clients of this process act for that account inside."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", login.username)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", login.password)
        yield


@dataclass
class Platform:
    """A registry that runs, with one registered version of one run."""

    url: str
    place: Place
    cluster: FakeCluster
    run_id: str = ""
    experiment: str = ""

    def login(self, wanted: Any) -> Login:
        return read_login(self.cluster.kubectl, wanted)

    def as_admin(self, path: str, what: dict[str, str]) -> int:
        admin = self.login(SERVER)
        answer = httpx2.post(f"{self.url}/api/{path}", json=what, auth=(admin.username, admin.password), timeout=30)
        return answer.status_code

    def train(self) -> None:
        """What the training does, by its own account: run, metric, artifact, model, version."""
        from mlflow import MlflowClient

        with logged_in(self.login(TRAINING)):
            client = MlflowClient(self.url, self.url)
            found = client.get_experiment_by_name(EXPERIMENT)
            assert found is not None
            self.experiment = found.experiment_id
            run = client.create_run(self.experiment)
            self.run_id = run.info.run_id
            client.log_metric(self.run_id, "accuracy", 0.93)
            client.log_text(self.run_id, '{"rows": []}', RECORDED)
            client.set_terminated(self.run_id)
            client.create_registered_model(MODEL)
            client.create_model_version(MODEL, f"{run.info.artifact_uri}/model", self.run_id)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The registry with its Secrets, accounts and one version; made as the documentation says."""
    folder = tmp_path_factory.mktemp("registry")
    cluster = FakeCluster(folder / "cluster", "gcp")
    list(make_secrets(cluster.kubectl))
    place = Place.make(folder / "pod")
    assert "begins empty" in place.run(RESTORE)
    with running(place, cluster) as url:
        for _ in range(2):  # it may be repeated
            told = list(make_accounts(url, cluster.kubectl, {MODEL: EXPERIMENT}))
        assert not [value for line in told for value in secret_values(cluster) if value in line]
        found = Platform(url, place, cluster)
        found.train()
        yield found


def secret_values(cluster: FakeCluster) -> list[str]:
    names = (SERVER.name, PIPELINE.name, TRAINING.name)
    contents = [read_secret(cluster.kubectl, "mlflow", name) for name in names]
    return [value for one in contents for key, value in one.items() if key != "username"]


def calls(platform: Platform) -> dict[str, Callable[[MlflowRegistry], object]]:
    """Every kind of call that the pipeline makes."""
    version, run_id = ModelVersion(MODEL, 1, platform.run_id, None), platform.run_id
    return {
        "ping": lambda one: one.ping(),
        "alias": lambda one: one.version_by_alias(MODEL, "challenger"),
        "version": lambda one: one.version(MODEL, 1),
        "tagged": lambda one: one.tagged("incumbent.edge.state", "champion"),
        "run": lambda one: one.run(run_id),
        "signature": lambda one: one.signature(version),
        "artifact": lambda one: one.artifact(run_id, RECORDED),
        "put artifact": lambda one: one.put_artifact(run_id, "incumbent/edge/1-1.json", b"{}"),
        "tags": lambda one: one.write_tags(version, {"incumbent.edge.state": "champion"}),
        "set alias": lambda one: one.set_alias(version, "champion"),
    }


def refused(platform: Platform) -> set[str]:
    """Those of the pipeline's calls that its account may not make."""
    found, told = set(), list[str]()
    with logged_in(platform.login(PIPELINE)):
        registry = MlflowRegistry(platform.url)
        for name, call in calls(platform).items():
            try:
                call(registry)
            except DependencyError as error:
                found.add(name)
                told.append(error.problem.next_step)
    assert all(one.startswith("The account incumbent may not") for one in told)
    return found


def test_the_pipelines_account_suffices(platform: Platform) -> None:
    """With the rights that its account gets, the pipeline can make each of its calls."""
    assert refused(platform) == set()


@pytest.mark.parametrize(
    ("kind", "without"),
    [
        ("experiment", {"run", "signature", "artifact", "put artifact"}),
        ("run", {"put artifact"}),
        ("registered_model", {"alias", "version", "signature", "tags", "set alias"}),
    ],
)
def test_the_pipelines_account_has_no_right_too_many(platform: Platform, kind: str, without: set[str]) -> None:
    """Each right is needed: without it these calls are refused, and the error says what the account lacks."""
    (grant,) = [one for one in pipeline_grants([platform.experiment], [MODEL]) if one.kind == kind]
    what = {"username": "incumbent", "resource_type": grant.kind, "resource_id": grant.name}
    assert platform.as_admin("3.0/mlflow/users/permissions/revoke", what) == 200
    try:
        assert refused(platform) == without
    finally:
        again = {**what, "permission": grant.permission}
        assert platform.as_admin("3.0/mlflow/users/permissions/grant", again) == 200


def test_the_pipelines_account_may_not_do_more(platform: Platform) -> None:
    """It starts no run, deletes no model, changes no other model, and makes no account."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    with logged_in(platform.login(TRAINING)):
        MlflowClient(platform.url, platform.url).create_registered_model("another")
    login = platform.login(PIPELINE)
    with logged_in(login):
        client = MlflowClient(platform.url, platform.url)
        for call in (
            lambda: client.create_run(platform.experiment),
            lambda: client.delete_registered_model(MODEL),
            lambda: client.get_registered_model("another"),
            lambda: client.rename_experiment(platform.experiment, "mine"),
        ):
            with pytest.raises(MlflowException, match="403"):
                call()
    account = {"username": "me-too", "password": "me-too-me-too"}
    grant = {"username": login.username, "resource_type": "registered_model", "resource_id": "another"}
    asked = {"2.0/mlflow/users/create": account, "3.0/mlflow/users/permissions/grant": {**grant, "permission": "EDIT"}}
    for path, what in asked.items():
        answer = httpx2.post(f"{platform.url}/api/{path}", json=what, auth=(login.username, login.password), timeout=30)
        assert answer.status_code == 403


def test_nobody_gets_in_without_an_account(platform: Platform) -> None:
    """Only /health answers, also to a kubelet, which asks by another name; page, API and artifacts want a login."""
    asked = platform.url.replace("localhost", "127.0.0.1")
    assert httpx2.get(f"{asked}/health", timeout=30).status_code == 200
    assert httpx2.get(f"{asked}/", timeout=30).status_code == 403
    paths = ("/", "/version", "/api/2.0/mlflow/registered-models/search", "/api/2.0/mlflow-artifacts/artifacts?path=1")
    assert [httpx2.get(f"{platform.url}{path}", timeout=30).status_code for path in paths] == [401] * len(paths)
    for password in ("", "password", "password1234", "admin"):
        answer = httpx2.get(f"{platform.url}{paths[2]}", auth=(ADMIN, password), timeout=30)
        assert answer.status_code == 401


def test_a_backup_gives_everything_back(platform: Platform, tmp_path: Path) -> None:
    """The job's own script, while the server runs; into an empty volume by the pod's own init container; all is there.

    Version, alias, tag and artifact are read back through a server on what was restored, with the same passwords.
    """
    with logged_in(platform.login(PIPELINE)):
        registry = MlflowRegistry(platform.url)
        version = registry.version(MODEL, 1)
        assert version is not None
        registry.set_alias(version, "champion")
        registry.write_tags(version, {"incumbent.edge.state": "champion"})
    assert platform.place.run(BACKUP).startswith("backup 2")
    restored = platform.place.with_empty_data(tmp_path / "restored")
    assert "put back" in restored.run(RESTORE)
    assert "nothing to put back" in restored.run(RESTORE)
    with running(restored, platform.cluster) as url, logged_in(platform.login(PIPELINE)):
        registry = MlflowRegistry(url)
        found = registry.version_by_alias(MODEL, "champion")
        assert found is not None
        assert (found.version, found.run_id) == (1, platform.run_id)
        assert found.tags["incumbent.edge.state"] == "champion"
        run = registry.run(platform.run_id)
        assert run is not None
        assert run.metrics == {"accuracy": 0.93}
        assert registry.artifact(platform.run_id, RECORDED) == b'{"rows": []}'


# From here on without a server: the script alone, and the manifests.


@pytest.fixture
def small(tmp_path: Path) -> Place:
    """A registry of three rows and two artifacts, which nobody runs."""
    place = Place.make(tmp_path / "small")
    for name in ("mlflow.db", "basic_auth.db"):
        with sqlite3.connect(place.data / name) as database:
            database.execute("CREATE TABLE rows (number INTEGER)")
            database.executemany("INSERT INTO rows VALUES (?)", [(1,), (2,), (3,)])
    for name in ("a", "b"):
        path = place.data / "artifacts/1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return place


def backups(place: Place) -> list[Path]:
    return sorted(place.backup.iterdir())


def test_the_newest_backups_stay(small: Place) -> None:
    """The job keeps as many as its argument says, and artifacts that did not change lie on the disk once."""
    keep = int(BACKUP["args"][-1].removeprefix("--keep="))
    for _ in range(keep + 2):
        small.run(BACKUP)
    assert len(backups(small)) == keep
    assert {(one / "artifacts/1/a").stat().st_nlink for one in backups(small)} == {keep}
    (small.data / "artifacts/1/a").write_text("changed")
    small.run(BACKUP)
    *_, before, last = backups(small)
    assert ((before / "artifacts/1/a").read_text(), (last / "artifacts/1/a").read_text()) == ("a", "changed")


def test_half_a_backup_is_none(small: Place, tmp_path: Path) -> None:
    """What a killed job leaves is never put back, and the next job removes it."""
    small.run(BACKUP)
    (whole,) = backups(small)
    half = small.backup / "29990101T000000.000000Z.unfinished"
    half.mkdir()
    (half / "mlflow.db").write_text("half")
    restored = small.with_empty_data(tmp_path / "restored")
    assert whole.name in restored.run(RESTORE)
    assert (restored.data / "artifacts/1/b").read_text() == "b"
    small.run(BACKUP)
    assert half not in backups(small)


def test_a_backup_that_fails_leaves_the_earlier_ones(small: Place) -> None:
    """A job that finds no sound database ends with an error, and what was kept before is untouched."""
    small.run(BACKUP)
    before = backups(small)
    (small.data / "mlflow.db").write_bytes(b"SQLite format 3\0" + b"broken" * 300)
    with pytest.raises(subprocess.CalledProcessError):
        small.run(BACKUP)
    assert [one for one in backups(small) if not one.name.endswith(".unfinished")] == before
    (small.data / "mlflow.db").unlink()
    with pytest.raises(subprocess.CalledProcessError):
        small.run(BACKUP)


def test_a_registry_in_use_is_saved_as_of_one_moment(small: Place, tmp_path: Path) -> None:
    """A transaction that is open while the job runs is in the backup whole or not at all."""
    with sqlite3.connect(small.data / "mlflow.db") as database:
        database.execute("INSERT INTO rows VALUES (4)")  # and not committed
        small.run(BACKUP)
        database.rollback()
    restored = small.with_empty_data(tmp_path / "restored")
    restored.run(RESTORE)
    with sqlite3.connect(restored.data / "mlflow.db") as database:
        assert database.execute("SELECT count(*), max(number) FROM rows").fetchone() == (3, 3)


def test_a_registry_that_is_there_is_never_overwritten(small: Place) -> None:
    """The init container of every restart leaves a registry alone, even an empty one."""
    small.run(BACKUP)
    (small.data / "mlflow.db").write_bytes(b"")
    assert "nothing to put back" in small.run(RESTORE)
    assert (small.data / "mlflow.db").read_bytes() == b""


def test_a_restore_that_was_cut_off_is_finished(small: Place, tmp_path: Path) -> None:
    """The registry's database comes last, so that the next start begins again where artifacts alone are there."""
    small.run(BACKUP)
    restored = small.with_empty_data(tmp_path / "restored")
    (restored.data / "artifacts/1").mkdir(parents=True)
    (restored.data / "artifacts/1/a").write_text("half of i")
    (restored.data / "mlflow.db.unfinished").write_text("half")
    restored.run(RESTORE)
    assert (restored.data / "artifacts/1/a").read_text() == "a"
    assert sorted(path.name for path in restored.data.iterdir()) == ["artifacts", "basic_auth.db", "mlflow.db"]


def test_the_server_needs_its_secrets() -> None:
    """Passwords come from Secrets that must be there, and nothing in Git has a value for one."""
    references = [one["valueFrom"]["secretKeyRef"] for one in CONTAINER["env"] if "valueFrom" in one]
    assert {one["name"] for one in references} == {SERVER.name}
    assert {one["key"] for one in references} == set(SERVER.random)
    assert not [one for one in references if one.get("optional")]
    ini = files()["basic_auth.ini"]
    assert "admin_password" not in ini
    assert f"admin_username = {ADMIN}\n" in ini

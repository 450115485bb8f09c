"""The registry as its manifests run it: a real server with their arguments, its accounts, its backup and restore."""

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
from tests.manifests.mlflow_objects import ADMINISTRATOR, BACKUP, CONTAINER, FOLDER, RESTORE
from tests.platform.programs import content

MODEL, EXPERIMENT = "iris-classifier", "iris-classification"
RECORDED = "incumbent/recorded_requests.json"


def files() -> dict[str, str]:
    """Return the files of the generated ConfigMap."""
    (data,) = [document["data"] for document in content(FOLDER) if document["kind"] == "ConfigMap"]
    return dict(data)


@dataclass(frozen=True)
class Volumes:
    """The pod's volumes as folders on this machine."""

    data: Path
    backup: Path
    config: Path

    @classmethod
    def make(cls, folder: Path) -> "Volumes":
        volumes = cls(folder / "data", folder / "backup", folder / "config")
        for path in (volumes.data, volumes.backup, volumes.config):
            path.mkdir(parents=True)
        return volumes.configured()

    def with_empty_data(self, folder: Path) -> "Volumes":
        folder.mkdir()
        (folder / "data").mkdir()
        (folder / "config").mkdir()
        return Volumes(folder / "data", self.backup, folder / "config").configured()

    def configured(self) -> "Volumes":
        for name, text in files().items():
            (self.config / name).write_text(text if name.endswith(".py") else self.here(text))
        return self

    def here(self, text: str) -> str:
        """Replace the pod's folders in a text of the manifests by those on this machine."""
        for inside, path in (("/etc/mlflow", self.config), ("/backup", self.backup), ("/mlflow", self.data)):
            before = "sqlite:///" if f"sqlite:///{inside}" in text else ""
            text = text.replace(f"{before}{inside}/", f"{before}{path}/")
            text = str(path) if text == inside else text
        return text

    def run(self, container: dict[str, Any], cluster: FakeCluster | None = None) -> str:
        """Run a container's own command to its end, and return its output; `cluster` has its Secrets."""
        words = [self.here(word) for word in (*container["command"], *container["args"])]
        assert words[0] == "python3"
        settings = None if cluster is None else environment(self, cluster, container)
        command = [sys.executable, *words[1:]]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=settings).stdout


def environment(volumes: Volumes, cluster: FakeCluster, container: dict[str, Any] = CONTAINER) -> dict[str, str]:
    """Return a container's environment, with the cluster's Secrets where the manifest refers to them."""
    settings = {}
    for variable in container["env"]:
        if "value" in variable:
            settings[variable["name"]] = volumes.here(variable["value"])
        else:
            reference = variable["valueFrom"]["secretKeyRef"]
            settings[variable["name"]] = read_secret(cluster.kubectl, "mlflow", reference["name"])[reference["key"]]
    return settings | {"HOME": os.environ.get("HOME", "/tmp")}


@contextmanager
def running(volumes: Volumes, cluster: FakeCluster) -> Iterator[str]:
    """Start the server as the manifest does, except for port and folders, and yield its address."""
    (port,) = free_ports(1)
    changed = {"--host=0.0.0.0": "--host=127.0.0.1", "--port=5000": f"--port={port}"}
    arguments = [changed.get(word, volumes.here(word)) for word in CONTAINER["args"]]
    command = [sys.executable, "-m", *CONTAINER["command"], *arguments]
    log = volumes.data.parent / f"log-{port}"
    with serving(command, f"http://127.0.0.1:{port}/health", log, environment(volumes, cluster)):
        yield f"http://localhost:{port}"  # the host in --allowed-hosts


@contextmanager
def logged_in(login: Login) -> Iterator[None]:
    """Let MLflow's clients in this process use an account until the block ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", login.username)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", login.password)
        yield


@dataclass
class Platform:
    """A running registry with one registered version of one run."""

    url: str
    volumes: Volumes
    cluster: FakeCluster
    run_id: str = ""
    experiment: str = ""

    def login(self, wanted: Any) -> Login:
        return read_login(self.cluster.kubectl, wanted)

    def post_as_admin(self, path: str, body: dict[str, str]) -> int:
        """Send a POST request as the administrator, and return the status code of the response."""
        admin = self.login(SERVER)
        response = httpx2.post(f"{self.url}/api/{path}", json=body, auth=(admin.username, admin.password), timeout=30)
        return response.status_code

    def train(self) -> None:
        """Write what training writes, with its own account: a run with metric and artifact, a model, a version."""
        from mlflow import MlflowClient

        with logged_in(self.login(TRAINING)):
            client = MlflowClient(self.url, self.url)
            experiment = client.get_experiment_by_name(EXPERIMENT)
            assert experiment is not None
            self.experiment = experiment.experiment_id
            run = client.create_run(self.experiment)
            self.run_id = run.info.run_id
            client.log_metric(self.run_id, "accuracy", 0.93)
            client.log_text(self.run_id, '{"rows": []}', RECORDED)
            client.set_terminated(self.run_id)
            client.create_registered_model(MODEL)
            client.create_model_version(MODEL, f"{run.info.artifact_uri}/model", self.run_id)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Start a registry with its Secrets, accounts and one version, set up as the documentation says."""
    folder = tmp_path_factory.mktemp("registry")
    cluster = FakeCluster(folder / "cluster", "gcp")
    list(make_secrets(cluster.kubectl))
    volumes = Volumes.make(folder / "pod")
    assert "begins empty" in volumes.run(RESTORE)
    with running(volumes, cluster) as url:
        for _ in range(2):  # it may be repeated
            output = list(make_accounts(url, cluster.kubectl, {MODEL: EXPERIMENT}))
        assert not [value for line in output for value in secret_values(cluster) if value in line]
        started = Platform(url, volumes, cluster)
        started.train()
        yield started


def secret_values(cluster: FakeCluster) -> list[str]:
    names = (SERVER.name, PIPELINE.name, TRAINING.name)
    contents = [read_secret(cluster.kubectl, "mlflow", name) for name in names]
    return [value for secret in contents for key, value in secret.items() if key != "username"]


def calls(platform: Platform) -> dict[str, Callable[[MlflowRegistry], object]]:
    """Return one call of each kind that the pipeline makes."""
    version, run_id = ModelVersion(MODEL, 1, platform.run_id, None), platform.run_id
    return {
        "ping": lambda registry: registry.ping(),
        "alias": lambda registry: registry.version_by_alias(MODEL, "challenger"),
        "version": lambda registry: registry.version(MODEL, 1),
        "tagged": lambda registry: registry.tagged("incumbent.edge.state", "champion"),
        "run": lambda registry: registry.training(version),
        "signature": lambda registry: registry.signature(version),
        "artifact": lambda registry: registry.artifact(run_id, RECORDED),
        "put artifact": lambda registry: registry.put_artifact(run_id, "incumbent/edge/1-1.json", b"{}"),
        "tags": lambda registry: registry.write_tags(version, {"incumbent.edge.state": "champion"}),
        "set alias": lambda registry: registry.set_alias(version, "champion"),
    }


def refused(platform: Platform) -> set[str]:
    """Return those of the pipeline's calls that its account may not make."""
    refused, next_steps = set(), list[str]()
    with logged_in(platform.login(PIPELINE)):
        registry = MlflowRegistry(platform.url)
        for name, call in calls(platform).items():
            try:
                call(registry)
            except DependencyError as error:
                refused.add(name)
                next_steps.append(error.problem.next_step)
    assert all(next_step.startswith("The account incumbent may not") for next_step in next_steps)
    return refused


def test_the_pipelines_account_suffices(platform: Platform) -> None:
    """With the rights that its account is given, the pipeline can make each of its calls."""
    assert refused(platform) == set()


@pytest.mark.parametrize(
    ("kind", "without"),
    [
        ("experiment", {"run", "signature", "artifact", "put artifact"}),
        ("run", {"put artifact"}),
        ("registered_model", {"alias", "version", "signature", "tags", "set alias"}),
    ],
)
def test_the_pipelines_account_needs_each_right(platform: Platform, kind: str, without: set[str]) -> None:
    """Without any one of its rights, these calls are refused, and the error says what the account may not do."""
    (grant,) = [grant for grant in pipeline_grants([platform.experiment], [MODEL]) if grant.kind == kind]
    revoked = {"username": "incumbent", "resource_type": grant.kind, "resource_id": grant.name}
    assert platform.post_as_admin("3.0/mlflow/users/permissions/revoke", revoked) == 200
    try:
        assert refused(platform) == without
    finally:
        granted = {**revoked, "permission": grant.permission}
        assert platform.post_as_admin("3.0/mlflow/users/permissions/grant", granted) == 200


def test_the_pipelines_account_may_not_do_more(platform: Platform) -> None:
    """The account cannot start runs, delete models, change other models, or create accounts."""
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
    requests = {
        "2.0/mlflow/users/create": account,
        "3.0/mlflow/users/permissions/grant": {**grant, "permission": "EDIT"},
    }
    auth = (login.username, login.password)
    for path, body in requests.items():
        response = httpx2.post(f"{platform.url}/api/{path}", json=body, auth=auth, timeout=30)
        assert response.status_code == 403


def test_nobody_gets_in_without_an_account(platform: Platform) -> None:
    """Only /health answers without a login, even under another host name, as for a kubelet; nothing else does."""
    by_address = platform.url.replace("localhost", "127.0.0.1")
    assert httpx2.get(f"{by_address}/health", timeout=30).status_code == 200
    assert httpx2.get(f"{by_address}/", timeout=30).status_code == 403
    paths = ("/", "/version", "/api/2.0/mlflow/registered-models/search", "/api/2.0/mlflow-artifacts/artifacts?path=1")
    assert [httpx2.get(f"{platform.url}{path}", timeout=30).status_code for path in paths] == [401] * len(paths)
    for password in ("", "password", "password1234", "admin"):
        response = httpx2.get(f"{platform.url}{paths[2]}", auth=(ADMIN, password), timeout=30)
        assert response.status_code == 401


def test_a_backup_restores_everything(platform: Platform, tmp_path: Path) -> None:
    """The job backs up a running server, and the pod's init container restores all of it into an empty volume.

    Version, alias, tag and artifact are read through a server on the restored volume, with the same passwords.
    """
    with logged_in(platform.login(PIPELINE)):
        registry = MlflowRegistry(platform.url)
        version = registry.version(MODEL, 1)
        assert version is not None
        registry.set_alias(version, "champion")
        registry.write_tags(version, {"incumbent.edge.state": "champion"})
    assert platform.volumes.run(BACKUP).startswith("backup 2")
    restored = platform.volumes.with_empty_data(tmp_path / "restored")
    assert "put back" in restored.run(RESTORE)
    assert "nothing to put back" in restored.run(RESTORE)
    with running(restored, platform.cluster) as url, logged_in(platform.login(PIPELINE)):
        registry = MlflowRegistry(url)
        champion = registry.version_by_alias(MODEL, "champion")
        assert champion is not None
        assert (champion.version, champion.run_id) == (1, platform.run_id)
        assert champion.tags["incumbent.edge.state"] == "champion"
        run = registry.training(champion)
        assert run is not None
        assert run.metrics == {"accuracy": 0.93}
        assert registry.artifact(platform.run_id, RECORDED) == b'{"rows": []}'


def test_a_registry_from_another_control_plane_takes_the_new_secrets(platform: Platform, tmp_path: Path) -> None:
    """Restored beside new Secrets, it lets in the administrator, and then both accounts; no old password works."""
    assert platform.volumes.run(BACKUP).startswith("backup 2")
    restored, cluster = platform.volumes.with_empty_data(tmp_path / "restored"), FakeCluster(tmp_path / "new", "gcp")
    list(make_secrets(cluster.kubectl))
    assert "MLflow makes admin" in restored.run(ADMINISTRATOR, cluster)
    assert "put back" in restored.run(RESTORE)
    assert "had another one" in restored.run(ADMINISTRATOR, cluster)
    assert restored.run(ADMINISTRATOR, cluster) == "admin has the Secret's password\n"
    with running(restored, cluster) as url:
        rebuilt = Platform(url, restored, cluster, platform.run_id, platform.experiment)
        list(make_accounts(url, cluster.kubectl, {MODEL: EXPERIMENT}))
        assert refused(rebuilt) == set()
        for wanted in (SERVER, PIPELINE, TRAINING):
            old = platform.login(wanted)
            search = f"{url}/api/2.0/mlflow/registered-models/search"
            assert httpx2.get(search, auth=(old.username, old.password), timeout=30).status_code == 401


# The tests below run without a server: they test the script and the manifests.


@pytest.fixture
def small(tmp_path: Path) -> Volumes:
    """Create a registry of three rows and two artifacts, without a server."""
    volumes = Volumes.make(tmp_path / "small")
    for name in ("mlflow.db", "basic_auth.db"):
        with sqlite3.connect(volumes.data / name) as database:
            database.execute("CREATE TABLE rows (number INTEGER)")
            database.executemany("INSERT INTO rows VALUES (?)", [(1,), (2,), (3,)])
    for name in ("a", "b"):
        path = volumes.data / "artifacts/1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return volumes


def backups(volumes: Volumes) -> list[Path]:
    return sorted(volumes.backup.iterdir())


def test_the_newest_backups_are_kept(small: Volumes) -> None:
    """The job keeps as many backups as its argument says, and stores unchanged artifacts only once."""
    keep = int(BACKUP["args"][-1].removeprefix("--keep="))
    for _ in range(keep + 2):
        small.run(BACKUP)
    assert len(backups(small)) == keep
    assert {(backup / "artifacts/1/a").stat().st_nlink for backup in backups(small)} == {keep}
    (small.data / "artifacts/1/a").write_text("changed")
    small.run(BACKUP)
    *_, before, last = backups(small)
    assert ((before / "artifacts/1/a").read_text(), (last / "artifacts/1/a").read_text()) == ("a", "changed")


def test_an_unfinished_backup_is_never_restored(small: Volumes, tmp_path: Path) -> None:
    """What a killed job leaves behind is ignored by a restore, and the next job removes it."""
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


def test_a_failed_backup_leaves_the_earlier_ones(small: Volumes) -> None:
    """A job that finds a broken database or none fails, and does not touch the earlier backups."""
    small.run(BACKUP)
    before = backups(small)
    (small.data / "mlflow.db").write_bytes(b"SQLite format 3\0" + b"broken" * 300)
    with pytest.raises(subprocess.CalledProcessError):
        small.run(BACKUP)
    assert [backup for backup in backups(small) if not backup.name.endswith(".unfinished")] == before
    (small.data / "mlflow.db").unlink()
    with pytest.raises(subprocess.CalledProcessError):
        small.run(BACKUP)


def test_a_registry_in_use_is_backed_up_consistently(small: Volumes, tmp_path: Path) -> None:
    """A transaction that is open while the job runs is not in the backup."""
    with sqlite3.connect(small.data / "mlflow.db") as database:
        database.execute("INSERT INTO rows VALUES (4)")  # not committed
        small.run(BACKUP)
        database.rollback()
    restored = small.with_empty_data(tmp_path / "restored")
    restored.run(RESTORE)
    with sqlite3.connect(restored.data / "mlflow.db") as database:
        assert database.execute("SELECT count(*), max(number) FROM rows").fetchone() == (3, 3)


def test_an_existing_registry_is_never_overwritten(small: Volumes) -> None:
    """The init container, which runs at every restart, leaves an existing registry alone, even an empty one."""
    small.run(BACKUP)
    (small.data / "mlflow.db").write_bytes(b"")
    assert "nothing to put back" in small.run(RESTORE)
    assert (small.data / "mlflow.db").read_bytes() == b""


def test_an_interrupted_restore_is_finished(small: Volumes, tmp_path: Path) -> None:
    """The database is restored last, so the next start repeats a restore of which only artifacts exist."""
    small.run(BACKUP)
    restored = small.with_empty_data(tmp_path / "restored")
    (restored.data / "artifacts/1").mkdir(parents=True)
    (restored.data / "artifacts/1/a").write_text("half of i")
    (restored.data / "mlflow.db.unfinished").write_text("half")
    restored.run(RESTORE)
    assert (restored.data / "artifacts/1/a").read_text() == "a"
    assert sorted(path.name for path in restored.data.iterdir()) == ["artifacts", "basic_auth.db", "mlflow.db"]


def test_the_server_needs_its_secrets() -> None:
    """The server's passwords come from a Secret that must exist, and Git contains none of them."""
    references = [variable["valueFrom"]["secretKeyRef"] for variable in CONTAINER["env"] if "valueFrom" in variable]
    assert {reference["name"] for reference in references} == {SERVER.name}
    assert {reference["key"] for reference in references} == set(SERVER.random)
    assert not [reference for reference in references if reference.get("optional")]
    ini = files()["basic_auth.ini"]
    assert "admin_password" not in ini
    assert f"admin_username = {ADMIN}\n" in ini

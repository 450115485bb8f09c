"""The launcher of dagster-k8s as the manifests configure it: what it asks an API server for, and the pod of a run."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._config import process_config
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster_k8s import K8sRunLauncher
from dagster_postgres import DagsterPostgresStorage
from ruamel.yaml import YAML

from testbeds.common.tools import CHECKOUT
from tests.platform.crds import documents
from tests.platform.own_cluster import Call, OwnCluster, own_cluster

FILE = CHECKOUT / "manifests/platform/dagster/config/dagster.yml"
ACCESS = CHECKOUT / "manifests/platform/access/dagster/dagster.yaml"
IMAGE = "ghcr.io/dycouzt/incumbent@sha256:" + 64 * "a"
INSTANCE = YAML(typ="safe").load(FILE)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnCluster]:
    with own_cluster(tmp_path, monkeypatch) as cluster:
        yield cluster


@pytest.fixture
def instance(cluster: OwnCluster, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Provide the instance of the manifests, with a storage of this machine's in place of PostgreSQL."""
    home = tmp_path / "home"
    home.mkdir()
    with (home / "dagster.yaml").open("w") as file:
        YAML(typ="safe").dump({name: part for name, part in INSTANCE.items() if name != "storage"}, file)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def requested(instance: dg.DagsterInstance, tags: dict[str, str] | None = None) -> dg.DagsterRun:
    """Return a run that the code server's image was asked for, as the daemon takes it from the queue."""

    @dg.job
    def promote() -> None: ...

    code = ModuleCodePointer("orchestration.definitions", "defs")
    repository = RepositoryPythonOrigin("python", code, container_image=IMAGE)
    origin = JobPythonOrigin(job_name="promote", repository_origin=repository)
    return instance.create_run_for_job(promote, run_id=str(uuid.uuid4()), job_code_origin=origin, tags=tags)


def launch(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))


def granted(account: str) -> set[Call]:
    """Return what an account's roles in its namespace allow."""
    roles = [document for document in documents(ACCESS) if document["kind"] == "Role"]
    (role,) = [
        each for each in roles if (each["metadata"]["name"], each["metadata"]["namespace"]) == (account, "dagster")
    ]
    return {
        ("dagster", group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


POD: dict[str, Any] = {
    "metadata": {"name": "a-pod"},
    "spec": {"containers": [{"name": "dagster"}]},
    "status": {
        "phase": "Failed",
        "containerStatuses": [
            {
                "name": "dagster", "image": "i", "imageID": "i", "ready": False, "restartCount": 0,
                "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
            }
        ],
    },
}  # fmt: skip


def test_the_daemon_may_do_what_the_launcher_calls_and_no_more(
    cluster: OwnCluster, instance: dg.DagsterInstance
) -> None:
    """Launching a run, watching it, saying why it failed, with its pod or after that is gone, and ending it."""
    run, launcher = requested(instance), instance.run_launcher
    launch(instance, run)
    for status, expected in (({"active": 1}, WorkerStatus.RUNNING), ({"failed": 1}, WorkerStatus.FAILED)):
        cluster.objects["jobs/status"] = {"status": status}
        assert launcher.check_run_worker_health(run).status is expected
    launcher.get_run_worker_debug_info(run)  # its pod is gone
    cluster.items = {"pods": [POD]}
    told = str(launcher.get_run_worker_debug_info(run))
    assert "OOMKilled" in told
    assert "what the pod said" in told
    launcher.terminate(run.run_id)
    assert cluster.calls == granted("daemon")


def test_the_webserver_may_cancel_a_run_and_no_more(cluster: OwnCluster, instance: dg.DagsterInstance) -> None:
    """A run that is requested on a page goes into the queue, which asks no cluster; a cancelled one loses its pod."""
    cluster.items = {"pods": [POD]}
    instance.run_launcher.terminate(requested(instance).run_id)
    assert cluster.calls == granted("webserver")


def test_a_runs_pod_is_restricted_and_has_the_code_servers_image(
    cluster: OwnCluster, instance: dg.DagsterInstance
) -> None:
    """The namespace's PodSecurity admits it, Kubernetes never repeats it, and it has what Deployments have."""
    launch(instance, requested(instance))
    (job,) = cluster.made
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert (spec["backoffLimit"], spec["ttlSecondsAfterFinished"]) == (0, 3600)
    assert pod["restartPolicy"] == "Never"
    assert spec["template"]["metadata"]["labels"]["app"] == "run"
    assert (pod["serviceAccountName"], pod["enableServiceLinks"]) == ("run", False)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]["limits"]) == {"cpu", "memory", "ephemeral-storage"}
    assert [source.get("secretRef", {}).get("name") for source in container["envFrom"][1:]] == [
        "dagster-storage",
        "mlflow-login",
    ]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert {"name": "DAGSTER_HOME", "value": "/opt/dagster/home"} in container["env"]
    assert "DAGSTER_POSTGRES_URL" not in json.dumps([container["env"], pod["volumes"]])


@pytest.mark.parametrize(
    "wanted",
    [
        {"pod_spec_config": {"service_account_name": "daemon"}},
        {"pod_spec_config": {"volumes": [{"name": "host", "host_path": {"path": "/"}}]}},
        {"container_config": {"image": "evil"}},
        {"container_config": {"security_context": {"privileged": True}}},
    ],
)
def test_tags_of_a_run_choose_nothing_of_its_pod(
    cluster: OwnCluster, instance: dg.DagsterInstance, wanted: dict[str, Any]
) -> None:
    """Whoever may request a run could otherwise be whatever account the namespace has, on whatever node."""
    run = requested(instance, {"dagster-k8s/config": json.dumps(wanted)})
    with pytest.raises(Exception, match="violated the allowed list"):
        launch(instance, run)
    assert cluster.made == []


def test_dagster_knows_every_part_of_the_instance(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster reads the file as a whole when it starts, and the storage's part when it first connects."""
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql+psycopg2://dagster@postgresql/dagster")
    assert isinstance(instance.run_launcher, K8sRunLauncher)
    assert instance.run_monitoring_enabled
    assert instance.run_monitoring_max_resume_run_attempts == 0
    assert instance.get_concurrency_config().run_queue_config is not None
    storage = process_config(DagsterPostgresStorage.config_type(), INSTANCE["storage"]["postgres"])
    assert storage.success, storage.errors

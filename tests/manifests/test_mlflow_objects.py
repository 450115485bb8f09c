"""What the registry's manifests guarantee before anything runs."""

from tests.manifests.mlflow_objects import BACKUP, CONTAINER, JOB_POD, POD, RESTORE, one_of


def test_there_is_one_writer_at_a_time() -> None:
    """SQLite allows one writer: one worker in one pod, which ends before its successor starts, and jobs that only read.

    Jobs never overlap.
    """
    deployment, job = one_of("Deployment")["spec"], one_of("CronJob")["spec"]
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (1, "Recreate")
    assert "--workers=1" in CONTAINER["args"]
    assert job["concurrencyPolicy"] == "Forbid"
    (data,) = [mount for mount in BACKUP["volumeMounts"] if mount["name"] == "data"]
    assert data["readOnly"] is True


def test_all_containers_use_one_image() -> None:
    """The job has the same Python and SQLite as the server, and neither pod has a Kubernetes token."""
    assert {container["image"] for container in (CONTAINER, RESTORE, BACKUP)} == {CONTAINER["image"]}
    assert CONTAINER["image"].partition("@")[0].endswith("-full")  # the other image lacks Flask-WTF
    assert [pod["automountServiceAccountToken"] for pod in (POD, JOB_POD)] == [False, False]

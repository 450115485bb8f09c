"""What the registry's manifests promise before anything runs."""

from tests.manifests.mlflow_objects import BACKUP, CONTAINER, JOB_POD, POD, RESTORE, one_of


def test_one_writer_at_a_time() -> None:
    """SQLite has one: one worker, one pod, the old one gone before the new one comes; jobs never overlap, nor write."""
    deployment, job = one_of("Deployment")["spec"], one_of("CronJob")["spec"]
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (1, "Recreate")
    assert "--workers=1" in CONTAINER["args"]
    assert job["concurrencyPolicy"] == "Forbid"
    (data,) = [one for one in BACKUP["volumeMounts"] if one["name"] == "data"]
    assert data["readOnly"] is True


def test_all_containers_are_of_one_image() -> None:
    """The job's Python and SQLite are the server's own, and neither pod has an account of Kubernetes."""
    assert {one["image"] for one in (CONTAINER, RESTORE, BACKUP)} == {CONTAINER["image"]}
    assert CONTAINER["image"].partition("@")[0].endswith("-full")  # the other has no Flask-WTF
    assert [pod["automountServiceAccountToken"] for pod in (POD, JOB_POD)] == [False, False]

"""The objects of the registry's manifests that tests look at."""

from typing import Any

from testbeds.common.tools import CHECKOUT
from tests.platform.crds import documents

FOLDER = CHECKOUT / "manifests/platform/mlflow"
OBJECTS = [document for name in ("mlflow.yaml", "backup.yaml") for document in documents(FOLDER / name)]


def one_of(kind: str) -> dict[str, Any]:
    """Return the only object of that kind."""
    (document,) = [document for document in OBJECTS if document["kind"] == kind]
    return document


POD = one_of("Deployment")["spec"]["template"]["spec"]
(CONTAINER,), (RESTORE, ADMINISTRATOR) = POD["containers"], POD["initContainers"]
JOB_POD = one_of("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
(BACKUP,) = JOB_POD["containers"]

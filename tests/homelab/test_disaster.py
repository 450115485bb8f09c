"""The control plane is lost with its disk, and comes back from Git, a backup that had left it, and two tokens."""

import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bootstrap.registry_backup import fetch_backup
from testbeds.homelab.host import start_companion
from testbeds.story.look import read_log
from testbeds.story.stories import registry
from tests.homelab.lab import Lab

pytestmark = pytest.mark.timeout(1800)
_BACKUP_SECONDS = 180


def test_a_lost_control_plane_comes_back(lab: Lab, tmp_path: Path) -> None:
    """Versions, aliases, tags and evidence are back, the login is new, a promotion works, and edge has served on."""
    homelab, environment, began = lab.homelab, lab.environment, time.time()
    before, old_login = known(lab), tuple(homelab.mlflow_login().values())
    job = ("job/before-the-loss", "--namespace=mlflow")
    homelab.gcp.run("create", "job", "before-the-loss", "--from=cronjob/mlflow-backup", "--namespace=mlflow")
    homelab.gcp.run(
        "wait", *job, "--for=condition=complete", f"--timeout={_BACKUP_SECONDS}s", seconds=_BACKUP_SECONDS + 10
    )
    list(fetch_backup(homelab.gcp, tmp_path, keep=1))
    (backup,) = tmp_path.glob("*.tar")
    environment.stop_dagster()
    (companion,) = [service for service in environment.processes.services if service.name == "companion"]
    environment.processes.stop(companion)

    homelab.lose_control_plane(print)
    homelab.rebuild_control_plane(backup, print)

    start_companion(environment.processes, homelab)
    environment.start_dagster()
    assert known(lab) == before
    assert answers(homelab.mlflow_url, old_login) == 401
    assert answers(homelab.mlflow_url, tuple(homelab.mlflow_login().values())) == 200
    lab.wait_until_whole()
    requests = [request for request in read_log(environment.client_log) if request.at >= began]
    assert requests[-1].at > time.time() - 60
    assert [request for request in requests if not request.ok] == []
    lab.promote().becomes_champion()


def known(lab: Lab) -> dict[str, Any]:
    """Return what the registry knows of the model, with the evidence and the recorded requests of its champion."""
    client, model = registry(lab.environment), lab.environment.model
    aliases = client.get_registered_model(model).aliases
    champion = client.get_model_version(model, aliases[lab.environment.champion_alias])
    versions = client.search_model_versions(f"name = '{model}'")
    return {
        "aliases": aliases,
        "versions": {version.version: (version.run_id, version.tags) for version in versions},
        "metrics": client.get_run(champion.run_id).data.metrics,
        "artifacts": sorted(artifact.path for artifact in client.list_artifacts(champion.run_id, "incumbent")),
    }


def answers(url: str, login: tuple[str, ...]) -> int:
    """Return the status with which MLflow answers an account."""
    username, password = login
    search = f"{url}/api/2.0/mlflow/registered-models/search"
    return httpx2.get(search, auth=(username, password), timeout=30).status_code

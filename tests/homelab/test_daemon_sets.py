"""wine-quality as a DaemonSet on edge: a pod on each node, promoted and taken back like a Deployment."""

from collections.abc import Iterator
from typing import Any

import pytest

from testbeds.homelab.environment import HomelabEnvironment
from tests.homelab.lab import Lab
from tests.homelab.other_workloads import Other, application, deployed, text_of, wine_quality

pytestmark = pytest.mark.timeout(600)
NAME, PORT = "wine-everywhere", 30811
PATH = f"manifests/applications/{NAME}/daemon-set.yaml"
RIGHTS = (
    {"apiGroups": ["apps"], "resources": ["daemonsets"], "verbs": ["get"]},
    {"apiGroups": ["apps"], "resources": ["controllerrevisions"], "verbs": ["list"]},
)


def manifest() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a DaemonSet that starts a node's new pod before it ends the old one, and its Service."""
    deployment, service = wine_quality(NAME, PORT)
    spec = {field: deployment["spec"][field] for field in ("revisionHistoryLimit", "selector", "template")}
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    return {**deployment, "kind": "DaemonSet", "spec": {"updateStrategy": strategy, **spec}}, service


@pytest.fixture(scope="module")
def daemons(environment: HomelabEnvironment) -> Iterator[Lab]:
    """Deploy the DaemonSet, and make a version its champion."""
    files = {PATH: text_of(*manifest())}
    other = Other("DaemonSet", NAME, NAME, "model-server", PATH, "wine-quality-edge", PORT, RIGHTS, files)
    kinds = (("", "Service"), ("apps", "DaemonSet"))
    with deployed(environment, other, application(other, environment.git_url, kinds)) as lab:
        seen = lab.promote().becomes_champion()
        assert len(seen.serving) == len(lab.homelab.edge.items("nodes"))
        yield lab


def test_a_version_of_a_daemon_set_becomes_champion(daemons: Lab) -> None:
    """Its pods are replaced node by node, the gate judges them all, and no request is lost."""
    seen = daemons.promote().becomes_champion()
    assert len(seen.serving) == len(daemons.homelab.edge.items("nodes"))


def test_a_version_of_a_daemon_set_that_crashes_is_taken_back(daemons: Lab) -> None:
    """The first new pod fails the rollout, while the old pods go on serving on each node."""
    daemons.promote({"FAULT_CRASH_AFTER": "0"}).is_rolled_back(r"crashed with exit code 70", served=False)

"""The platform as Git has it: root brings all of it, Argo CD keeps it, alerts arrive, dashboards show, and it fits."""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from bootstrap.kubectl import Kubectl
from orchestration.adapters.prometheus import Prometheus
from orchestration.promotion.ports import QueryResult, Sample
from testbeds.common.processes import wait_until
from testbeds.common.tools import CHECKOUT
from testbeds.homelab import alerts, gitops
from testbeds.homelab.environment import HomelabEnvironment
from testbeds.homelab.homelab import Homelab
from testbeds.homelab.settings import EDGE, GCP
from testbeds.homelab.waiting import applications, await_all
from testbeds.story.look import Git
from tests.homelab.lab import SETTLE_SECONDS, Lab
from tests.homelab.report import say_at_the_end
from tests.manifests.dashboards import dashboard, expressions
from tests.platform.test_fits_the_control_plane import ARGOCD_MIB, NODE_MIB, SYSTEM_MIB, mib
from tests.scenarios.people import commit_and_push

pytestmark = pytest.mark.timeout(900)

_ALERT_SECONDS = 180.0
"""Until the kubelet, a scrape each 15 s, the rule and Alertmanager's own 10 s have had their turns."""
_MEBIBYTE = 1024 * 1024
_NOT_THERE = {"kserve"}
"""Off, and its kinds are unknown to the clusters (docs/clusters.md)."""


APPLICATIONS: list[dict[str, Any]] = [
    one
    for path in sorted((CHECKOUT / "argocd-apps").glob("*.yaml"))
    for one in YAML(typ="safe").load_all(path)
    if one["kind"] == "Application" and one["metadata"]["name"] not in _NOT_THERE
]
NAMES = {one["metadata"]["name"] for one in APPLICATIONS}


def cluster(homelab: Homelab, name: str) -> Kubectl:
    return homelab.edge if name == EDGE else homelab.gcp


def unwell(homelab: Homelab) -> str:
    """What lacks of the applications that Git lists; those that other tests made for themselves do not count."""
    found = {one.name: one for one in applications(homelab.gcp) if one.name in NAMES}
    missing = [f"{name}: missing" for name in sorted(NAMES - found.keys())]
    return "; ".join([*missing, *(str(one) for one in found.values() if not one.well)])


def test_root_brought_everything(lab: Lab) -> None:
    """Projects and applications are those that Git lists, each kept by root, and every one is Synced and Healthy."""
    gcp = lab.homelab.gcp
    built = gcp.run("kustomize", gitops.content(lab.homelab.state) / "argocd-apps")
    listed = {(one["kind"], one["metadata"]["name"]) for one in YAML(typ="safe").load_all(built)}
    kept = {(one["kind"], one["name"]) for one in lab.application("root")["status"]["resources"]}
    assert kept == listed
    assert {name for kind, name in listed if kind == "Application"} == NAMES
    await_all("every application is Synced and Healthy", lambda: unwell(lab.homelab), SETTLE_SECONDS, print)


@pytest.mark.parametrize("application", APPLICATIONS, ids=lambda one: one["metadata"]["name"])
def test_the_api_server_takes_each_manifest(homelab: HomelabEnvironment, application: dict[str, Any]) -> None:
    """In a dry run on the cluster that it is for, no field is unknown and nothing is refused."""
    spec, gcp = application["spec"], homelab.homelab.gcp
    folder = CHECKOUT / spec["source"]["path"]
    if (folder / "kustomization.yaml").exists():
        text = gcp.run("kustomize", folder)
    else:
        text = "\n---\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.yaml")))
    dry = ("--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict")
    said = cluster(homelab.homelab, spec["destination"]["name"]).run("apply", *dry, "--filename=-", said=text)
    objects = [one for one in YAML(typ="safe").load_all(text) if one]
    assert said.count("(server dry run)") == len(objects) > 0


@pytest.mark.parametrize(
    ("place", "kind", "namespace", "name"),
    [(GCP, "deployment", "monitoring", "alertmanager"), (EDGE, "poddisruptionbudget", "ml-apps", "wine-quality")],
)
def test_what_is_deleted_by_hand_comes_back(lab: Lab, place: str, kind: str, namespace: str, name: str) -> None:
    """A live object that somebody deletes is made again, on either cluster, and the application is well again."""
    there = cluster(lab.homelab, place)
    before = _uid(there, kind, namespace, name)
    assert before is not None
    there.run("delete", kind, name, f"--namespace={namespace}")
    wait_until(
        lambda: _uid(there, kind, namespace, name) not in (None, before), SETTLE_SECONDS, f"{name} is made again"
    )
    await_all("every application is Synced and Healthy", lambda: unwell(lab.homelab), SETTLE_SECONDS, print)


def test_what_git_no_longer_has_is_pruned(lab: Lab) -> None:
    """A file that is removed takes its object along, and nothing else; put back, the object is there again."""
    edge, file = lab.homelab.edge, "manifests/applications/wine-quality/disruption.yaml"
    budget = ("poddisruptionbudget", "ml-apps", "wine-quality")
    deployment = _uid(edge, "deployment", "ml-apps", "wine-quality")
    content = (CHECKOUT / file).read_text(encoding="utf-8")
    _push(lab, "Let wine-quality be drained at once", lambda folder: (folder / file).unlink())
    try:
        _refreshed_until(lab, "wine-quality", lambda: _uid(edge, *budget) is None, "the budget is pruned")
        assert _uid(edge, "deployment", "ml-apps", "wine-quality") == deployment
    finally:
        _push(lab, "Drain wine-quality pod by pod again", lambda folder: (folder / file).write_text(content))
    _refreshed_until(lab, "wine-quality", lambda: _uid(edge, *budget) is not None, "the budget is there again")


def test_a_lost_registry_comes_back_from_its_backup(lab: Lab) -> None:
    """A server that finds its volume empty starts with the newest backup: aliases, artifacts and logins are there."""
    gcp, client, model = lab.homelab.gcp, lab.client, lab.environment.model
    champion = client.get_model_version_by_alias(model, lab.environment.champion_alias)
    artifacts = [one.path for one in client.list_artifacts(champion.run_id)]
    job = f"backup-before-{champion.version}"
    gcp.run("create", "job", job, "--from=cronjob/mlflow-backup", "--namespace=mlflow")
    patience = SETTLE_SECONDS + 10
    gcp.run("wait", f"job/{job}", "--for=condition=complete", "--namespace=mlflow", "--timeout=120s", seconds=patience)
    gcp.run("exec", "deployment/mlflow", "--namespace=mlflow", "--", "sh", "-ec", "rm -r /mlflow/*")
    gcp.run("delete", "pod", "--selector=app=mlflow", "--namespace=mlflow", seconds=patience)
    gcp.run("rollout", "status", "deployment/mlflow", "--namespace=mlflow", "--timeout=120s", seconds=patience)
    found = client.get_model_version_by_alias(model, lab.environment.champion_alias)
    assert (found.version, found.run_id, found.tags) == (champion.version, champion.run_id, champion.tags)
    assert [one.path for one in client.list_artifacts(champion.run_id)] == artifacts != []


def test_a_pod_that_is_killed_for_its_memory_is_told_of(lab: Lab) -> None:
    """From the kernel to whoever is told, by kubelet, kube-state-metrics, rule and Alertmanager, with the token."""
    lab.ask({"FAULT_REMOTE": "1"}).becomes_champion()
    lab.wait_until_whole()
    pod, began = lab.environment.serving()[0].pod, time.time()
    lab.spoil(pod, FAULT_ALLOCATE_MB="128")  # a request; the limit is 512

    def told() -> Mapping[str, str] | None:
        news = (one for one in alerts.told(lab.homelab.state) if one.at >= began and one.status == "firing")
        return next((one.labels for one in news if one.labels.get("pod") == pod and _is_oom(one.labels)), None)

    labels = wait_until(told, _ALERT_SECONDS, "the receiver is told of the killed pod")
    wanted = {"cluster": EDGE, "namespace": "ml-apps", "container": "model-server", "severity": "critical"}
    assert labels.items() >= wanted.items()
    assert {"environment", "location"} <= labels.keys()


def test_dashboards_show_promotions(lab: Lab) -> None:
    """After a good and a bad promotion each query of models and promotions finds a number."""
    lab.ask().becomes_champion()
    lab.ask({"FAULT_CRASH_AFTER": "0"}).is_taken_back(r"crashed with exit code 70", served=False)
    asked = [one for name in ("models", "promotions") for one in expressions(dashboard(name))]
    prometheus = Prometheus(lab.homelab.prometheus_url)

    def without_data() -> str:
        empty = (one for one in asked if not any(math.isfinite(each.value) for each in _samples(prometheus, one)))
        return "; ".join(empty)

    await_all("each query of the dashboards finds a number", without_data, SETTLE_SECONDS, print)


@dataclass(frozen=True)
class Memory:
    """A container of gcp, in mebibytes: what it may take, and what it took at most."""

    namespace: str
    name: str
    limit: float | None
    """Argo CD's manifests state none; what is allowed for it counts instead."""
    peak: float
    """As the kernel counted, with files that it had read and could have given back at once."""
    working_set: float
    """Without those, as the kubelet sees it; looked at each 15 s."""

    def line(self) -> str:
        limit = "none" if self.limit is None else f"{self.limit:.0f}"
        what = f"{self.namespace}/{self.name}"
        return f"{what:60} {limit:>6} {self.peak:>6.0f} {self.working_set:>6.0f}"


def test_gcp_fits_its_node(lab: Lab, pytestconfig: pytest.Config) -> None:
    """No container came to its limit, none was killed for its memory, and all at their worst together fit the node."""
    found = sorted(_memory(lab.homelab), key=lambda one: -one.working_set)
    header = f"{'container of gcp, MiB':60} {'limit':>6} {'peak':>6} {'set':>6}"
    together = sum(one.working_set for one in found)
    say_at_the_end(pytestconfig, "Memory", [header, *(one.line() for one in found), f"together: {together:.0f}"])
    assert {"mlflow", "prometheus", "alertmanager", "kube-state-metrics"} <= {one.name for one in found}
    assert {one.namespace for one in found} >= {"argocd", "mlflow", "monitoring"}
    assert [one.name for one in found if one.limit is not None and one.working_set >= one.limit] == []
    statuses = [one for pod in lab.homelab.gcp.items("pods") for one in pod["status"].get("containerStatuses", ())]
    assert [one["name"] for one in statuses if _ended_by(one) == "OOMKilled"] == []
    assert together < NODE_MIB - SYSTEM_MIB


def _memory(homelab: Homelab) -> Iterator[Memory]:
    limits = {
        (pod["metadata"]["namespace"], one["name"]): one["resources"].get("limits", {}).get("memory")
        for pod in homelab.gcp.items("pods")
        for one in pod["spec"]["containers"]
    }
    query = 'max by (namespace, container) (max_over_time(container_memory_working_set_bytes{cluster="gcp"}[6h]))'
    samples = _samples(Prometheus(homelab.prometheus_url), query)
    sets = {(one.labels.get("namespace"), one.labels.get("container")): one.value for one in samples}
    (node,) = homelab.gcp.items("nodes")
    raw = homelab.gcp.run("get", "--raw", f"/api/v1/nodes/{node['metadata']['name']}/proxy/metrics/cadvisor")
    peaks: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(raw):
        for sample in family.samples:
            name = (sample.labels.get("namespace", ""), sample.labels.get("container", ""))
            if sample.name == "container_memory_max_usage_bytes" and name in limits:
                peaks[name] = max(sample.value, peaks.get(name, 0.0))
    for name, limit in limits.items():
        if name in peaks and name in sets:
            mebibytes = ARGOCD_MIB.get(name[1]) if limit is None else mib(limit)
            yield Memory(*name, mebibytes, peaks[name] / _MEBIBYTE, sets[name] / _MEBIBYTE)


def _ended_by(status: Mapping[str, Any]) -> str | None:
    return (status.get("lastState", {}).get("terminated") or {}).get("reason")


def _is_oom(labels: Mapping[str, str]) -> bool:
    return labels.get("alertname") == "ModelPodOOMKilled"


def _samples(prometheus: Prometheus, expression: str) -> tuple[Sample, ...]:
    found = prometheus.query(expression)
    assert isinstance(found, QueryResult), f"{expression}: {found}"
    return tuple(found.samples)


def _uid(there: Kubectl, kind: str, namespace: str, name: str) -> str | None:
    found = there.read(kind, name, namespace)
    return None if found is None else str(found["metadata"]["uid"])


def _push(lab: Lab, message: str, change: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        git = Git(lab.environment, Path(folder))
        change(git.folder)
        commit_and_push(git, message)


def _refreshed_until(lab: Lab, application: str, condition: Callable[[], bool], what: str) -> None:
    """Wait for what a commit leads to; Argo CD is asked to look until it does."""

    def looked() -> bool:
        found = condition()
        if not found:
            lab.refresh(application)
        return found

    wait_until(looked, SETTLE_SECONDS, what)

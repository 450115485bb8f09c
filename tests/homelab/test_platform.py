"""The platform as Git describes it: root deploys it, Argo CD keeps it, its monitoring works, and it fits the nodes."""

import json
import math
import tempfile
import urllib.request
from collections import Counter
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
from testbeds.homelab import gitops
from testbeds.homelab.environment import HomelabEnvironment
from testbeds.homelab.homelab import Homelab
from testbeds.homelab.settings import EDGE, GCP
from testbeds.homelab.waiting import applications, await_all
from testbeds.story.look import Git
from testbeds.story.pushing import commit_and_push
from tests.homelab.lab import SETTLE_SECONDS, Lab
from tests.homelab.report import report_at_end
from tests.manifests.dashboards import dashboard, expressions
from tests.platform.test_fits_the_control_plane import ARGOCD_MIB, NODE_MIB, SYSTEM_MIB, mib

pytestmark = pytest.mark.timeout(900)

_MEBIBYTE = 1024 * 1024
_OFF = {"kserve"}
"""Applications that are off and whose kinds the clusters do not know (docs/clusters.md)."""


APPLICATIONS: list[dict[str, Any]] = [
    document
    for path in sorted((CHECKOUT / "argocd-apps").glob("*.yaml"))
    for document in YAML(typ="safe").load_all(path)
    if document["kind"] == "Application" and document["metadata"]["name"] not in _OFF
]
NAMES = {application["metadata"]["name"] for application in APPLICATIONS}


def cluster(homelab: Homelab, name: str) -> Kubectl:
    return homelab.edge if name == EDGE else homelab.gcp


def unwell(homelab: Homelab) -> str:
    """Return which of Git's applications are missing or not well; those that other tests create do not count."""
    live = {application.name: application for application in applications(homelab.gcp) if application.name in NAMES}
    missing = [f"{name}: missing" for name in sorted(NAMES - live.keys())]
    return "; ".join([*missing, *(str(application) for application in live.values() if not application.well)])


def test_root_deploys_everything(lab: Lab) -> None:
    """Root keeps exactly the projects and applications that Git lists, and each application is Synced and Healthy."""
    gcp = lab.homelab.gcp
    built = gcp.run("kustomize", gitops.content(lab.homelab.state) / "argocd-apps")
    listed = {(document["kind"], document["metadata"]["name"]) for document in YAML(typ="safe").load_all(built)}
    kept = {(resource["kind"], resource["name"]) for resource in lab.application("root")["status"]["resources"]}
    assert kept == listed
    assert {name for kind, name in listed if kind == "Application"} == NAMES
    await_all("every application is Synced and Healthy", lambda: unwell(lab.homelab), SETTLE_SECONDS, print)


@pytest.mark.parametrize("application", APPLICATIONS, ids=lambda application: application["metadata"]["name"])
def test_the_api_server_accepts_each_manifest(homelab: HomelabEnvironment, application: dict[str, Any]) -> None:
    """A dry run on a manifest's own cluster finds no unknown field and refuses nothing."""
    spec, gcp = application["spec"], homelab.homelab.gcp
    folder = CHECKOUT / spec["source"]["path"]
    if (folder / "kustomization.yaml").exists():
        text = gcp.run("kustomize", folder)
    else:
        text = "\n---\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.yaml")))
    options = ("--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict")
    output = cluster(homelab.homelab, spec["destination"]["name"]).run("apply", *options, "--filename=-", stdin=text)
    objects = [document for document in YAML(typ="safe").load_all(text) if document]
    assert output.count("(server dry run)") == len(objects) > 0


@pytest.mark.parametrize(
    ("context", "kind", "namespace", "name"),
    [(GCP, "deployment", "monitoring", "alertmanager"), (EDGE, "poddisruptionbudget", "ml-apps", "wine-quality")],
)
def test_what_is_deleted_by_hand_comes_back(lab: Lab, context: str, kind: str, namespace: str, name: str) -> None:
    """On either cluster, a live object that someone deletes is created again, and its application becomes well."""
    kubectl = cluster(lab.homelab, context)
    before = _uid(kubectl, kind, namespace, name)
    assert before is not None
    kubectl.run("delete", kind, name, f"--namespace={namespace}")
    wait_until(
        lambda: _uid(kubectl, kind, namespace, name) not in (None, before), SETTLE_SECONDS, f"{name} is created again"
    )
    await_all("every application is Synced and Healthy", lambda: unwell(lab.homelab), SETTLE_SECONDS, print)


def test_what_git_no_longer_has_is_pruned(lab: Lab) -> None:
    """Removing a file deletes its object and nothing else; restoring the file brings the object back."""
    edge, file = lab.homelab.edge, "manifests/applications/wine-quality/disruption.yaml"
    budget = ("poddisruptionbudget", "ml-apps", "wine-quality")
    deployment = _uid(edge, "deployment", "ml-apps", "wine-quality")
    content = (CHECKOUT / file).read_text(encoding="utf-8")
    _push(lab, "Let wine-quality be drained at once", lambda folder: (folder / file).unlink())
    try:
        lab.refresh_until("wine-quality", lambda: _uid(edge, *budget) is None, "the budget is pruned")
        assert _uid(edge, "deployment", "ml-apps", "wine-quality") == deployment
    finally:
        _push(lab, "Drain wine-quality pod by pod again", lambda folder: (folder / file).write_text(content))
    lab.refresh_until("wine-quality", lambda: _uid(edge, *budget) is not None, "the budget is back")


def test_a_lost_registry_comes_back_from_its_backup(lab: Lab) -> None:
    """A server whose volume is empty starts with the newest backup: aliases, artifacts and logins are back."""
    gcp, client, model = lab.homelab.gcp, lab.client, lab.environment.model
    champion = client.get_model_version_by_alias(model, lab.environment.champion_alias)
    artifacts = [artifact.path for artifact in client.list_artifacts(champion.run_id)]
    job = f"backup-before-{champion.version}"
    gcp.run("create", "job", job, "--from=cronjob/mlflow-backup", "--namespace=mlflow")
    patience = SETTLE_SECONDS + 10
    gcp.run("wait", f"job/{job}", "--for=condition=complete", "--namespace=mlflow", "--timeout=120s", seconds=patience)
    gcp.run("exec", "deployment/mlflow", "--namespace=mlflow", "--", "sh", "-ec", "rm -r /mlflow/*")
    gcp.run("delete", "pod", "--selector=app=mlflow", "--namespace=mlflow", seconds=patience)
    gcp.run("rollout", "status", "deployment/mlflow", "--namespace=mlflow", "--timeout=120s", seconds=patience)
    restored = client.get_model_version_by_alias(model, lab.environment.champion_alias)
    assert (restored.version, restored.run_id, restored.tags) == (champion.version, champion.run_id, champion.tags)
    assert [artifact.path for artifact in client.list_artifacts(champion.run_id)] == artifacts != []


def test_prometheus_sees_what_git_lists(lab: Lab) -> None:
    """Each scrape job has targets, all of them answer, and the rules of each file are loaded and evaluated."""
    monitoring = CHECKOUT / "manifests/platform/monitoring"
    jobs = {job["job_name"] for file in monitoring.glob("config/scrape-*.yml") for job in _yaml(file)["scrape_configs"]}
    named = {file.name: len(_yaml(file)["groups"]) for file in monitoring.glob("rules/*.yml")}

    def unseen() -> str:
        targets = _ask(lab.homelab, "targets?state=active")["activeTargets"]
        groups = _ask(lab.homelab, "rules")["groups"]
        loaded = Counter(Path(group["file"]).name for group in groups)
        rules = [rule for group in groups for rule in group["rules"]]
        return "; ".join(
            [
                *(f"no target of {job}" for job in sorted(jobs - {target["scrapePool"] for target in targets})),
                *(f"{each['scrapeUrl']}: {each['lastError']}" for each in targets if each["health"] != "up"),
                *(f"{file} is not loaded as it is" for file, count in named.items() if loaded[file] != count),
                *(f"{rule['name']}: {rule['health']}" for rule in rules if rule["health"] != "ok"),
            ]
        )

    await_all("Prometheus sees what Git lists", unseen, SETTLE_SECONDS, print)


def test_dashboards_show_promotions(lab: Lab) -> None:
    """After a good and a bad promotion, each query of the dashboards on models and promotions returns a number."""
    lab.promote().becomes_champion()
    lab.promote({"FAULT_CRASH_AFTER": "0"}).is_rolled_back(r"crashed with exit code 70", served=False)
    queries = [query for name in ("models", "promotions") for query in expressions(dashboard(name))]
    prometheus = Prometheus(lab.homelab.prometheus_url)

    def has_data(query: str) -> bool:
        return any(math.isfinite(sample.value) for sample in _samples(prometheus, query))

    def without_data() -> str:
        return "; ".join(query for query in queries if not has_data(query))

    await_all("each query of the dashboards returns a number", without_data, SETTLE_SECONDS, print)


@dataclass(frozen=True)
class Memory:
    """The memory of a container on gcp, in mebibytes: its limit, and the most that it took."""

    namespace: str
    name: str
    limit: float | None
    """For Argo CD, whose manifests state none, the amount that `ARGOCD_MIB` allows."""
    peak: float
    """As the kernel counts, with cached files, whose memory it could have freed at once."""
    working_set: float
    """As the kubelet counts, without those files; sampled every 15 s."""

    def line(self) -> str:
        limit = "none" if self.limit is None else f"{self.limit:.0f}"
        name = f"{self.namespace}/{self.name}"
        return f"{name:60} {limit:>6} {self.peak:>6.0f} {self.working_set:>6.0f}"


def test_gcp_fits_its_node(lab: Lab, pytestconfig: pytest.Config) -> None:
    """No container reached its limit, none was OOM-killed, and the peaks of all together fit the node."""
    containers = sorted(_memory(lab.homelab), key=lambda container: -container.working_set)
    header = f"{'container on gcp, MiB':60} {'limit':>6} {'peak':>6} {'set':>6}"
    total = sum(container.working_set for container in containers)
    rows = [container.line() for container in containers]
    report_at_end(pytestconfig, "Memory", [header, *rows, f"total: {total:.0f}"])
    assert {"mlflow", "prometheus", "alertmanager", "dispatcher", "kube-state-metrics"} <= {
        each.name for each in containers
    }
    assert {container.namespace for container in containers} >= {"argocd", "mlflow", "monitoring"}
    assert [each.name for each in containers if each.limit is not None and each.working_set >= each.limit] == []
    pods = lab.homelab.gcp.items("pods")
    statuses = [status for pod in pods for status in pod["status"].get("containerStatuses", ())]
    assert [status["name"] for status in statuses if _last_end(status) == "OOMKilled"] == []
    assert total < NODE_MIB - SYSTEM_MIB


def _memory(homelab: Homelab) -> Iterator[Memory]:
    limits = {
        (pod["metadata"]["namespace"], container["name"]): container["resources"].get("limits", {}).get("memory")
        for pod in homelab.gcp.items("pods")
        for container in pod["spec"]["containers"]
    }
    query = 'max by (namespace, container) (max_over_time(container_memory_working_set_bytes{cluster="gcp"}[6h]))'
    samples = _samples(Prometheus(homelab.prometheus_url), query)
    sets = {(sample.labels.get("namespace"), sample.labels.get("container")): sample.value for sample in samples}
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


def _last_end(status: Mapping[str, Any]) -> str | None:
    return (status.get("lastState", {}).get("terminated") or {}).get("reason")


def _samples(prometheus: Prometheus, expression: str) -> tuple[Sample, ...]:
    result = prometheus.query(expression)
    assert isinstance(result, QueryResult), f"{expression}: {result}"
    return tuple(result.samples)


def _ask(homelab: Homelab, path: str) -> dict[str, Any]:
    """Ask Prometheus's own API, of which the adapter knows the queries alone."""
    with urllib.request.urlopen(f"{homelab.prometheus_url}/api/v1/{path}", timeout=10) as response:
        return dict(json.load(response)["data"])


def _yaml(file: Path) -> dict[str, Any]:
    return dict(YAML(typ="safe").load(file))


def _uid(kubectl: Kubectl, kind: str, namespace: str, name: str) -> str | None:
    document = kubectl.read(kind, name, namespace)
    return None if document is None else str(document["metadata"]["uid"])


def _push(lab: Lab, message: str, change: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        git = Git(lab.environment, Path(folder))
        change(git.folder)
        commit_and_push(git, message)

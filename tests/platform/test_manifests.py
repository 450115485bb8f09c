"""Every reference in the manifests leads somewhere: between objects, from programs to files, and to secrets by name."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from bootstrap.secrets import WANTED, webhook
from testbeds.common.tools import CHECKOUT
from testbeds.sandbox.cluster.nodes import quantity
from tests.platform.programs import content

WORKLOADS = ("CronJob", "DaemonSet", "Deployment", "Job", "StatefulSet")
KEPT_BY_KUBERNETES = {"kube-root-ca.crt"}
BOUNDED = {"cpu", "memory", "ephemeral-storage"}
LOGS = "50Mi"
"""What a kubelet keeps of a container's logs, which count as its storage: five files of 10 MiB."""


@dataclass(frozen=True)
class Workload:
    """A pod's template with where it runs."""

    cluster: str
    kind: str
    namespace: str
    name: str
    labels: dict[str, str]
    pod: dict[str, Any]

    @property
    def containers(self) -> list[dict[str, Any]]:
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]

    @property
    def volumes(self) -> dict[str, dict[str, Any]]:
        return {volume["name"]: volume for volume in self.pod.get("volumes", [])}

    def __str__(self) -> str:
        return f"{self.cluster}: {self.kind} {self.namespace}/{self.name}"


@cache
def clusters() -> dict[str, list[dict[str, Any]]]:
    """All objects that root brings to each cluster; what is off is not among them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in content("argocd-apps"):
        if one["kind"] == "Application" and one["metadata"]["name"] != "root":
            spec = one["spec"]
            found.setdefault(spec["destination"]["name"], []).extend(content(spec["source"]["path"]))
    return found


def of_kind(cluster: str, kind: str) -> list[dict[str, Any]]:
    return [one for one in clusters()[cluster] if one["kind"] == kind]


def names(cluster: str, kind: str, namespace: str) -> set[str]:
    return {one["metadata"]["name"] for one in of_kind(cluster, kind) if one["metadata"].get("namespace") == namespace}


def workloads() -> Iterator[Workload]:
    for cluster, objects in clusters().items():
        for one in objects:
            if one["kind"] in WORKLOADS:
                spec = one["spec"]["jobTemplate"]["spec"] if one["kind"] == "CronJob" else one["spec"]
                template, metadata = spec["template"], one["metadata"]
                labels = template.get("metadata", {}).get("labels", {})
                yield Workload(cluster, one["kind"], metadata["namespace"], metadata["name"], labels, template["spec"])


def referred(workload: Workload, kind: str) -> Iterator[tuple[str, list[str]]]:
    """The ConfigMaps or Secrets that a pod's template names, each with the keys that it wants of it."""
    for volume in workload.volumes.values():
        sources = [volume, *volume.get("projected", {}).get("sources", [])]
        for source in sources:
            found = source.get(kind)
            if found:
                yield found.get("secretName") or found["name"], [item["key"] for item in found.get("items", [])]
    if kind == "configMap":
        yield from _by_subpath(workload)
    for container in workload.containers:
        for variable in container.get("env", []):
            found = variable.get("valueFrom", {}).get(f"{kind}KeyRef")
            if found:
                yield found["name"], [found["key"]]
        for source in container.get("envFrom", []):
            if f"{kind}Ref" in source:
                yield source[f"{kind}Ref"]["name"], []


def test_config_maps_and_volumes_are_there() -> None:
    """What a pod mounts or reads exists in its namespace, with the keys that it wants, and it mounts each volume."""
    for workload in workloads():
        maps = {
            one["metadata"]["name"]: one["data"]
            for one in of_kind(workload.cluster, "ConfigMap")
            if one["metadata"].get("namespace") == workload.namespace
        }
        for name, keys in referred(workload, "configMap"):
            assert name in KEPT_BY_KUBERNETES or set(keys) <= set(maps[name]), str(workload)
        for volume in workload.volumes.values():
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert claim in names(workload.cluster, "PersistentVolumeClaim", workload.namespace), str(workload)
        mounted = {mount["name"] for one in workload.containers for mount in one.get("volumeMounts", [])}
        assert mounted == set(workload.volumes), str(workload)


def test_each_secret_is_listed() -> None:
    """A Secret that a pod needs, or that the script makes, is in the one list that explains it, with its keys."""
    rows = [line.split("|") for line in (CHECKOUT / "docs/secrets.md").read_text(encoding="utf-8").splitlines()]
    listed = {
        (cells[1].strip(), cells[2].strip(" `")): set(re.findall(r"`([^`]+)`", cells[3]))
        for cells in rows
        if len(cells) > 4
    }
    for workload in workloads():
        for name, keys in referred(workload, "secret"):
            if name not in names(workload.cluster, "Secret", workload.namespace):
                assert set(keys) <= listed[workload.namespace, name], str(workload)
    for one in (*WANTED, webhook("http://receiver:8080")):
        assert listed[one.namespace, one.name] == {*one.random, *(key for key, _ in one.fixed)}


def test_accounts_and_roles_are_there() -> None:
    """A pod's account exists in its namespace; a binding's role and accounts do, too."""
    for workload in workloads():
        account = workload.pod.get("serviceAccountName")
        assert account is None or account in names(workload.cluster, "ServiceAccount", workload.namespace), str(
            workload
        )
        assert "automountServiceAccountToken" in workload.pod, str(workload)
    for cluster in clusters():
        for kind in ("RoleBinding", "ClusterRoleBinding"):
            for binding in of_kind(cluster, kind):
                role = binding["roleRef"]
                namespace = binding["metadata"].get("namespace") if role["kind"] == "Role" else None
                roles = [each for each in of_kind(cluster, role["kind"]) if each["metadata"]["name"] == role["name"]]
                assert namespace in {each["metadata"].get("namespace") for each in roles}
                for subject in binding["subjects"]:
                    assert subject["name"] in names(cluster, subject["kind"], subject["namespace"])


def test_ports_are_there() -> None:
    """Services lead to ports that pods name, probes ask such ports, and no NodePort is given twice in a cluster."""
    for cluster in clusters():
        node_ports = []
        for service in of_kind(cluster, "Service"):
            spec, metadata = service["spec"], service["metadata"]
            behind = [
                one
                for one in workloads()
                if one.cluster == cluster
                and one.namespace == metadata["namespace"]
                and spec["selector"].items() <= one.labels.items()
            ]
            assert behind, metadata["name"]
            for port in spec["ports"]:
                assert all(port["targetPort"] in _ports(one) for one in behind), metadata["name"]
                node_ports += [port["nodePort"]] if "nodePort" in port else []
        assert len(set(node_ports)) == len(node_ports)
    for workload in workloads():
        for container in workload.containers:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if "httpGet" in container.get(probe, {}):
                    assert container[probe]["httpGet"]["port"] in _ports(workload), str(workload)


def test_selectors_meet_their_pods() -> None:
    """A workload and a disruption budget select pods that there are."""
    for cluster, objects in clusters().items():
        for one in objects:
            wanted = one.get("spec", {}).get("selector", {}).get("matchLabels") if one["kind"] != "Service" else None
            if wanted:
                there = [
                    each.labels
                    for each in workloads()
                    if (each.cluster, each.namespace) == (cluster, one["metadata"]["namespace"])
                ]
                assert any(wanted.items() <= labels.items() for labels in there), one["metadata"]["name"]


def test_each_container_is_bounded_and_has_no_rights() -> None:
    """Each container runs as nobody in particular, on a file system that it cannot write, with requests and limits."""
    for workload in workloads():
        security = workload.pod["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"] > 0) == (True, True), str(workload)
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, str(workload)
        for container in workload.containers:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, str(workload)
            assert own["readOnlyRootFilesystem"] is True, str(workload)
            assert own["capabilities"] == {"drop": ["ALL"]}, str(workload)
            resources = container["resources"]
            assert set(resources["requests"]) == set(resources["limits"]) == BOUNDED, str(workload)
            assert re.fullmatch(r"[a-z0-9.-]+\.[a-z]+(/[\w.-]+)+:[\w.-]+(@sha256:[0-9a-f]{64})?", container["image"])
        if workload.kind in ("DaemonSet", "Deployment", "StatefulSet"):
            for container in workload.pod["containers"]:
                assert {"readinessProbe", "livenessProbe"} <= set(container), str(workload)


def test_a_full_volume_evicts_no_pod() -> None:
    """A pod's limits of ephemeral storage have room for all that its volumes may take, and for its logs."""
    for workload in workloads():
        volumes = [one["emptyDir"] for one in workload.volumes.values() if "emptyDir" in one]
        needed = sum(quantity(one["sizeLimit"]) for one in volumes if "sizeLimit" in one)
        for container in workload.pod["containers"]:
            needed += quantity(LOGS) - quantity(container["resources"]["limits"]["ephemeral-storage"])
        assert needed <= 0, str(workload)


def test_prometheus_finds_what_it_is_told_of() -> None:
    """The services that its configuration names are in its namespace, and edge's proxy path leads to one of edge's."""
    (config,) = [
        one["data"]
        for one in of_kind("in-cluster", "ConfigMap")
        if one["metadata"]["name"].startswith("prometheus-") and "prometheus.yml" in one["data"]
    ]
    served = {
        (cluster, f"{one['metadata']['name']}:{port[key]}")
        for cluster in clusters()
        for one in of_kind(cluster, "Service")
        if one["metadata"]["namespace"] == "monitoring"
        for port in one["spec"]["ports"]
        for key in ("name", "port")
    }
    text = "\n".join(config.values())
    targets = set(re.findall(r"targets: \[([a-z-]+:\d+)\]", text)) - {"localhost:9090", "gcp-control-plane:30950"}
    assert {target for target in targets if not target.startswith("edge:")} <= {
        name for cluster, name in served if cluster == "in-cluster"
    }
    (proxied,) = re.findall(r"/namespaces/monitoring/services/([^/]+)/proxy", text)
    assert ("edge", proxied) in served
    node_ports = {
        port["nodePort"] for one in of_kind("edge", "Service") for port in one["spec"]["ports"] if "nodePort" in port
    }
    assert node_ports <= {int(target.removeprefix("edge:")) for target in targets if target.startswith("edge:")}


def test_programs_read_the_files_that_are_mounted() -> None:
    """Each path below /etc in a configuration or an argument lies in what its pod mounts."""
    for name in ("prometheus", "alertmanager", "grafana"):
        (workload,) = [one for one in workloads() if one.name == name]
        (container,) = workload.pod["containers"]
        texts = [*container.get("args", [])]
        for one in of_kind("in-cluster", "ConfigMap"):
            if one["metadata"]["name"] in {each for each, _ in referred(workload, "configMap")}:
                texts += one["data"].values()
        mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
        paths = {path for text in texts for path in re.findall(r"/etc/[\w./*-]+", text)}
        assert paths
        assert not [path for path in paths if not path.startswith(tuple(mounts))], str(workload)


def _by_subpath(workload: Workload) -> Iterator[tuple[str, list[str]]]:
    for container in workload.containers:
        for mount in container.get("volumeMounts", []):
            volume = workload.volumes[mount["name"]]
            if "subPath" in mount and "configMap" in volume:
                yield volume["configMap"]["name"], [mount["subPath"]]


def _ports(workload: Workload) -> set[str]:
    return {port["name"] for one in workload.containers for port in one.get("ports", [])}

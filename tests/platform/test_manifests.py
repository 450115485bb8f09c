"""Every reference in the manifests resolves: between objects, from programs to files, and to Secrets by name."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from bootstrap.owner import read_owner
from bootstrap.secrets import WANTED, github, webhook
from testbeds.common.tools import CHECKOUT
from testbeds.homelab.offline.go_build import argocd_sources
from testbeds.sandbox.cluster.nodes import quantity
from tests.platform.crds import documents
from tests.platform.programs import content

WORKLOADS = ("CronJob", "DaemonSet", "Deployment", "Job", "StatefulSet")
KEPT_BY_KUBERNETES = {"kube-root-ca.crt"}
BOUNDED = {"cpu", "memory", "ephemeral-storage"}
LOGS = "50Mi"
"""The logs that a kubelet keeps of a container, which count as its ephemeral storage: five files of 10 MiB."""


@dataclass(frozen=True)
class Workload:
    """A pod template and where it runs."""

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
    """Return all objects that root deploys to each cluster; applications that are off are not among them."""
    by_cluster: dict[str, list[dict[str, Any]]] = {}
    for document in content("argocd-apps"):
        if document["kind"] == "Application" and document["metadata"]["name"] != "root":
            spec = document["spec"]
            by_cluster.setdefault(spec["destination"]["name"], []).extend(content(spec["source"]["path"]))
    return by_cluster


def of_kind(cluster: str, kind: str) -> list[dict[str, Any]]:
    return [document for document in clusters()[cluster] if document["kind"] == kind]


def names(cluster: str, kind: str, namespace: str) -> set[str]:
    metadata = [document["metadata"] for document in of_kind(cluster, kind)]
    return {each["name"] for each in metadata if each.get("namespace") == namespace}


def workloads() -> Iterator[Workload]:
    for cluster, objects in clusters().items():
        yield from of_objects(cluster, objects)


def of_objects(cluster: str, objects: Iterable[dict[str, Any]]) -> Iterator[Workload]:
    """Yield those of a cluster's objects that make pods."""
    for document in objects:
        kind, metadata, spec = document["kind"], document["metadata"], document.get("spec", {})
        if kind in WORKLOADS:
            template = (spec["jobTemplate"]["spec"] if kind == "CronJob" else spec)["template"]
            labels = template.get("metadata", {}).get("labels", {})
            yield Workload(cluster, kind, metadata["namespace"], metadata["name"], labels, template["spec"])


def referred(workload: Workload, kind: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the ConfigMaps or Secrets that a pod template refers to, each with the keys that it needs.

    Args:
        kind: the name of their field in a volume, `configMap` or `secret`.
    """
    for volume in workload.volumes.values():
        sources = [volume, *volume.get("projected", {}).get("sources", [])]
        for source in sources:
            reference = source.get(kind)
            if reference:
                keys = [item["key"] for item in reference.get("items", [])]
                yield reference.get("secretName") or reference["name"], keys
    if kind == "configMap":
        yield from _by_subpath(workload)
    for container in workload.containers:
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get(f"{kind}KeyRef")
            if reference:
                yield reference["name"], [reference["key"]]
        for source in container.get("envFrom", []):
            if f"{kind}Ref" in source:
                yield source[f"{kind}Ref"]["name"], []


def test_config_maps_and_volumes_exist() -> None:
    """ConfigMaps and claims that a pod uses exist in its namespace, with the keys it needs; it mounts each volume."""
    for workload in workloads():
        maps = {
            config_map["metadata"]["name"]: config_map["data"]
            for config_map in of_kind(workload.cluster, "ConfigMap")
            if config_map["metadata"].get("namespace") == workload.namespace
        }
        for name, keys in referred(workload, "configMap"):
            assert name in KEPT_BY_KUBERNETES or set(keys) <= set(maps[name]), str(workload)
        for volume in workload.volumes.values():
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert claim in names(workload.cluster, "PersistentVolumeClaim", workload.namespace), str(workload)
        mounted = {mount["name"] for container in workload.containers for mount in container.get("volumeMounts", [])}
        assert mounted == set(workload.volumes), str(workload)


def test_each_secret_is_documented() -> None:
    """docs/secrets.md lists every Secret that a pod needs or `bootstrap secrets` makes, with its keys."""
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
    for secret in (*WANTED, webhook(), github("token")):
        assert listed[secret.namespace, secret.name] == {*secret.random, *(key for key, _ in secret.fixed)}


def test_accounts_and_roles_exist() -> None:
    """A pod's service account exists in its namespace, and so do the role and the accounts of each binding."""
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
                roles = [document["metadata"] for document in of_kind(cluster, role["kind"])]
                assert (role["name"], namespace) in {(each["name"], each.get("namespace")) for each in roles}
                for subject in binding["subjects"]:
                    assert subject["name"] in names(cluster, subject["kind"], subject["namespace"])


def test_ports_exist() -> None:
    """Services and probes refer to ports that pods name, and no cluster uses a NodePort twice."""
    for cluster in clusters():
        node_ports = []
        for service in of_kind(cluster, "Service"):
            spec, metadata = service["spec"], service["metadata"]
            selected = [
                workload
                for workload in workloads()
                if workload.cluster == cluster
                and workload.namespace == metadata["namespace"]
                and spec["selector"].items() <= workload.labels.items()
            ]
            assert selected, metadata["name"]
            for port in spec["ports"]:
                assert all(port["targetPort"] in _ports(workload) for workload in selected), metadata["name"]
                node_ports += [port["nodePort"]] if "nodePort" in port else []
        assert len(set(node_ports)) == len(node_ports)
    for workload in workloads():
        for container in workload.containers:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if "httpGet" in container.get(probe, {}):
                    assert container[probe]["httpGet"]["port"] in _ports(workload), str(workload)


def test_selectors_match_pods() -> None:
    """The selectors of workloads and disruption budgets match at least one pod template."""
    for cluster, objects in clusters().items():
        for document in objects:
            selector = document.get("spec", {}).get("selector", {}) if document["kind"] != "Service" else {}
            if wanted := selector.get("matchLabels"):
                candidates = [
                    workload.labels
                    for workload in workloads()
                    if (workload.cluster, workload.namespace) == (cluster, document["metadata"]["namespace"])
                ]
                assert any(wanted.items() <= labels.items() for labels in candidates), document["metadata"]["name"]


def test_each_container_is_bounded_and_unprivileged() -> None:
    """Each container runs as an ordinary user on a read-only root file system, with requests and limits."""
    for workload in workloads():
        security = workload.pod["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"] > 0) == (True, True), str(workload)
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, str(workload)
        for container in workload.containers:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, str(workload)
            assert context["readOnlyRootFilesystem"] is True, str(workload)
            assert context["capabilities"] == {"drop": ["ALL"]}, str(workload)
            resources = container["resources"]
            assert set(resources["requests"]) == set(resources["limits"]) == BOUNDED, str(workload)
            assert re.fullmatch(r"[a-z0-9.-]+\.[a-z]+(/[\w.-]+)+:[\w.-]+(@sha256:[0-9a-f]{64})?", container["image"])
        if workload.kind in ("DaemonSet", "Deployment", "StatefulSet"):
            for container in workload.pod["containers"]:
                assert {"readinessProbe", "livenessProbe"} <= set(container), str(workload)


def test_a_full_volume_does_not_evict_its_pod() -> None:
    """A pod's limits on ephemeral storage leave room for all that its volumes may take, and for its logs."""
    for workload in workloads():
        volumes = [volume["emptyDir"] for volume in workload.volumes.values() if "emptyDir" in volume]
        needed = sum(quantity(volume["sizeLimit"]) for volume in volumes if "sizeLimit" in volume)
        for container in workload.pod["containers"]:
            needed += quantity(LOGS) - quantity(container["resources"]["limits"]["ephemeral-storage"])
        assert needed <= 0, str(workload)


def test_prometheuss_targets_exist() -> None:
    """The services, the proxy path and the NodePorts that its configuration names exist in their clusters."""
    (config,) = [
        config_map["data"]
        for config_map in of_kind("in-cluster", "ConfigMap")
        if config_map["metadata"]["name"].startswith("prometheus-") and "prometheus.yml" in config_map["data"]
    ]
    served = {
        (cluster, f"{service['metadata']['name']}:{port[key]}")
        for cluster in clusters()
        for service in of_kind(cluster, "Service")
        if service["metadata"]["namespace"] == "monitoring"
        for port in service["spec"]["ports"]
        for key in ("name", "port")
    }
    text = "\n".join(config.values())
    targets = set(re.findall(r"targets: \[([a-z.-]+:\d+)\]", text)) - {
        "localhost:9090",
        f"{read_owner().control_plane.host}:30950",
    }
    argocd = documents(argocd_sources() / "manifests/core-install.yaml")
    targets -= {
        f"{service['metadata']['name']}.argocd:{port['port']}"
        for service in argocd
        if service["kind"] == "Service"
        for port in service["spec"]["ports"]
    }
    assert {target for target in targets if not target.startswith("edge:")} <= {
        name for cluster, name in served if cluster == "in-cluster"
    }
    (proxied,) = re.findall(r"/namespaces/monitoring/services/([^/]+)/proxy", text)
    assert ("edge", proxied) in served
    ports = [port for service in of_kind("edge", "Service") for port in service["spec"]["ports"]]
    node_ports = {port["nodePort"] for port in ports if "nodePort" in port}
    assert node_ports <= {int(target.removeprefix("edge:")) for target in targets if target.startswith("edge:")}


def test_programs_read_the_files_that_are_mounted() -> None:
    """Each path below /etc in a configuration or an argument lies within one of its pod's mounts."""
    for name in ("prometheus", "alertmanager", "dispatcher", "grafana"):
        (workload,) = [workload for workload in workloads() if workload.name == name]
        (container,) = workload.pod["containers"]
        texts = [*container.get("args", [])]
        for config_map in of_kind("in-cluster", "ConfigMap"):
            if config_map["metadata"]["name"] in {referenced for referenced, _ in referred(workload, "configMap")}:
                texts += config_map["data"].values()
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
    return {port["name"] for container in workload.containers for port in container.get("ports", [])}

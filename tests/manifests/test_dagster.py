"""Dagster on Kubernetes, which is off: its parts fit each other, and none may do or reach more than it needs."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from ruamel.yaml import YAML

from bootstrap.dagster import DAGSTER, KEYS, POSTGRESQL
from bootstrap.registration import ARGOCD
from orchestration.environment import DEFAULTS, SETTINGS
from orchestration.promotion.policy import parse_policy
from testbeds.common.state import read_policies
from testbeds.common.tools import CHECKOUT
from testbeds.sandbox.cluster.nodes import quantity
from tests.platform.crds import documents

FOLDER = CHECKOUT / "manifests/platform/dagster"
RIGHTS = CHECKOUT / "manifests/platform/access"
ACCESS = [each for path in sorted((RIGHTS / "dagster").glob("*.yaml")) for each in documents(path)]
ALL = [document for path in sorted(FOLDER.glob("*.yaml")) for document in documents(path)]
INSTANCE = YAML(typ="safe").load(FOLDER / "config/dagster.yml")
LAUNCHER = INSTANCE["run_launcher"]["config"]
SETTINGS_FILE = FOLDER / "config/settings.env"
LOGS = "50Mi"
"""The logs that a kubelet keeps of a container, which count as its ephemeral storage."""


def workloads() -> dict[str, dict[str, Any]]:
    """Return the pod specification of each workload."""
    kinds = ("Deployment", "StatefulSet")
    return {each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in ALL if each.get("kind") in kinds}


def run() -> dict[str, Any]:
    """Return what a run's pod has in common with the others, in the spelling of manifests."""
    volumes = [{_camel(key): value for key, value in volume.items()} for volume in LAUNCHER["volumes"]]
    return {"volumes": volumes, "resources": LAUNCHER["resources"], "mounts": LAUNCHER["volume_mounts"]}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(each.capitalize() for each in others)


def settings() -> dict[str, str]:
    lines = SETTINGS_FILE.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def named(pod: Mapping[str, Any], kind: str) -> Iterator[str]:
    """Yield the Secrets or ConfigMaps that a pod names."""
    for container in pod["containers"]:
        for source in container.get("envFrom", []):
            if f"{kind}Ref" in source:
                yield source[f"{kind}Ref"]["name"]
    for volume in pod["volumes"]:
        if kind in volume:
            yield volume[kind].get("secretName") or volume[kind]["name"]


def test_each_secret_is_made_by_bootstrap() -> None:
    """What a pod or a run names is what `python -m bootstrap dagster` makes, and it makes nothing else."""
    by_pods = {name for pod in workloads().values() for name in named(pod, "secret")}
    volumes = LAUNCHER["volumes"]
    by_runs = {*LAUNCHER["env_secrets"], *(each["secret"]["secret_name"] for each in volumes if "secret" in each)}
    assert by_pods | by_runs == {*KEYS, POSTGRESQL.name}
    assert by_runs == set(KEYS)
    (password,) = [each["secret"]["items"] for each in workloads()["postgresql"]["volumes"] if "secret" in each]
    assert [item["key"] for item in password] == list(POSTGRESQL.random)
    assert {document["metadata"]["namespace"] for document in ALL if "metadata" in document} == {DAGSTER}


def test_who_needs_no_login_has_none() -> None:
    """The pages and the daemon get the storage alone; PostgreSQL gets its password and no token."""
    assert set(named(workloads()["webserver"], "secret")) == {"dagster-storage"}
    assert set(named(workloads()["daemon"], "secret")) == {"dagster-storage"}
    assert set(named(workloads()["postgresql"], "secret")) == {POSTGRESQL.name}
    assert "dagster-storage" not in set(named(workloads()["companion"], "secret"))


def test_each_config_map_is_generated() -> None:
    """Deployments mount maps that change their names with their content; runs, those that keep them."""
    kustomization = YAML(typ="safe").load(FOLDER / "kustomization.yaml")
    (policies,) = YAML(typ="safe").load(CHECKOUT / "policies/Kustomization")["configMapGenerator"]
    keeps = {each["name"]: "options" in each for each in (*kustomization["configMapGenerator"], policies)}
    assert all(keeps[name] for name in LAUNCHER["env_config_maps"])
    assert {name for pod in workloads().values() for name in named(pod, "configMap")} <= set(keeps)
    kept = [volume["config_map"]["name"] for volume in LAUNCHER["volumes"] if "config_map" in volume]
    assert [keeps[name] for name in kept] == [True]


def test_the_settings_name_what_is_mounted() -> None:
    """Each setting is one of the pipeline's; each path is one of a mount, in runs and Deployments alike."""
    assert set(settings()) <= {*SETTINGS.values(), "HOME"}
    assert set(DEFAULTS) <= set(settings())
    mounts = {mount["name"]: mount["mount_path"] for mount in LAUNCHER["volume_mounts"]}
    paths = [value for value in settings().values() if value.startswith("/")]
    assert not [path for path in paths if not path.startswith(tuple(mounts.values()))]
    for key, name in (("git-token", "INCUMBENT_GIT_TOKEN_FILE"), ("kubeconfig", "INCUMBENT_KUBECONFIG")):
        assert settings()[name] == f"{mounts['secrets']}/{key}"
    for name in ("code-server", "companion"):
        (container,) = workloads()[name]["containers"]
        here = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert here.items() <= mounts.items()


def test_all_run_one_image_and_runs_have_the_code_servers() -> None:
    """Kustomize puts one name and tag, or digest, everywhere; runs ask Dagster for the code server's image."""
    images = {c["image"] for name, pod in workloads().items() if name != "postgresql" for c in pod["containers"]}
    (image,) = images
    kustomization = YAML(typ="safe").load(FOLDER / "kustomization.yaml")
    (change,) = kustomization["images"]
    assert image == f"{change['name']}:{change['newTag']}"
    assert "job_image" not in LAUNCHER
    (replacement,) = kustomization["replacements"]
    assert replacement["targets"][0]["fieldPaths"][0].endswith("env.[name=DAGSTER_CURRENT_IMAGE].value")


def test_only_one_daemon_runs_and_it_goes_before_the_next_one_comes() -> None:
    """Two would evaluate each sensor twice."""
    (daemon,) = [each for each in ALL if each.get("kind") == "Deployment" and each["metadata"]["name"] == "daemon"]
    assert (daemon["spec"]["replicas"], daemon["spec"]["strategy"]) == (1, {"type": "Recreate"})


@pytest.mark.parametrize("name", sorted(workloads()))
def test_each_pod_is_restricted_and_bounded(name: str) -> None:
    """As PodSecurity's `restricted` asks, which the namespace enforces, with requests, limits and probes."""
    pod = workloads()[name]
    security = pod["securityContext"]
    assert (security["runAsNonRoot"], security["runAsUser"] > 0) == (True, True)
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    context = container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert set(container["resources"]["requests"]) == set(container["resources"]["limits"])
    assert {"startupProbe", "livenessProbe"} <= set(container)
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    sizes = [volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if "emptyDir" in volume]
    room = quantity(container["resources"]["limits"]["ephemeral-storage"])
    assert sum(map(quantity, (*sizes, LOGS))) <= room


def test_a_runs_volumes_fit_into_what_it_may_store() -> None:
    """A pod that fills its volumes is not evicted in the middle of a promotion."""
    sizes = [each["emptyDir"]["size_limit"] for each in run()["volumes"] if "emptyDir" in each]
    assert sum(map(quantity, (*sizes, LOGS))) <= quantity(run()["resources"]["limits"]["ephemeral-storage"])


def test_a_token_is_mounted_only_where_one_is_used() -> None:
    """An account says no, and each pod that asks an API server with its own account says yes."""
    accounts = [document for document in ACCESS if document["kind"] == "ServiceAccount"]
    assert {account["automountServiceAccountToken"] for account in accounts} == {False}
    with_token = {name for name, pod in workloads().items() if pod["automountServiceAccountToken"]}
    bound = {
        subject["name"] for document in ACCESS if document["kind"] == "RoleBinding" for subject in document["subjects"]
    }
    assert bound == with_token | {LAUNCHER["service_account_name"]}
    assert {account["metadata"]["name"] for account in accounts} >= {
        *(pod["serviceAccountName"] for pod in workloads().values() if "serviceAccountName" in pod),
        LAUNCHER["service_account_name"],
    }


def test_accounts_have_rights_in_their_own_places_alone() -> None:
    """Nobody has a right in the whole cluster, and nobody but a run may write outside Dagster's namespace."""
    assert not [document for document in ACCESS if document["kind"].startswith("ClusterRole")]
    roles = {document["metadata"]["name"]: document for document in ACCESS if document["kind"] == "Role"}
    elsewhere = {name: role["rules"] for name, role in roles.items() if role["metadata"]["namespace"] != DAGSTER}
    assert {name: [rule["verbs"] for rule in rules] for name, rules in elsewhere.items()} == {
        "dagster-code-server": [["get"]],
        "dagster-run": [["get", "patch"]],
    }
    for document in ACCESS:
        if document["kind"] == "RoleBinding":
            assert document["roleRef"]["name"] in roles
            assert document["metadata"]["namespace"] == roles[document["roleRef"]["name"]]["metadata"]["namespace"]
            assert {subject["namespace"] for subject in document["subjects"]} == {DAGSTER}
    text = str([role["rules"] for role in roles.values()])
    assert "*" not in text
    assert "secrets" not in text


def test_runs_may_refresh_the_policies_applications_as_the_account_outside_may() -> None:
    """The rights in Argo CD's namespace name them, and the admission policy keeps both accounts to one annotation."""
    applications = sorted({policy.argocd.application for policy in read_policies(CHECKOUT / "policies")})
    outside = documents(RIGHTS / "control-plane/incumbent.yaml")
    roles = [each for each in (*ACCESS, *outside) if each["kind"] == "Role" and each["metadata"]["namespace"] == ARGOCD]
    named = {role["metadata"]["name"]: sorted(role["rules"][0]["resourceNames"]) for role in roles}
    assert named == dict.fromkeys(("dagster-code-server", "dagster-run", "incumbent"), applications)
    patching = {role["metadata"]["name"] for role in roles if "patch" in role["rules"][0]["verbs"]}
    bindings = [each for each in (*ACCESS, *outside) if each["kind"] == "RoleBinding"]
    subjects = [subject for each in bindings if each["roleRef"]["name"] in patching for subject in each["subjects"]]
    (policy, _) = documents(RIGHTS / "control-plane/refreshes.yaml")
    (condition,) = policy["spec"]["matchConditions"]
    bound = json.loads(condition["expression"].partition(" in ")[2])
    assert sorted(bound) == sorted(f"system:serviceaccount:{each['namespace']}:{each['name']}" for each in subjects)


@pytest.mark.parametrize("bound", ["requests", "limits"])
def test_the_quota_has_room_for_every_part_and_every_run(bound: str) -> None:
    """All parts, one more of each that is replaced while it runs, and as many runs as Dagster starts at a time."""
    (quota,) = [document["spec"]["hard"] for document in ACCESS if document["kind"] == "ResourceQuota"]
    (limits,) = [document["spec"]["limits"] for document in ACCESS if document["kind"] == "LimitRange"]
    runs = INSTANCE["concurrency"]["runs"]["max_concurrent_runs"]
    kinds = {each["metadata"]["name"]: (each["kind"], each["spec"].get("strategy")) for each in ALL if "spec" in each}
    times = {name: 2 if kinds[name] == ("Deployment", None) else 1 for name in workloads()}
    taken = {name: pod["containers"][0]["resources"][bound]["memory"] for name, pod in workloads().items()}
    taken["run"], times["run"] = run()["resources"][bound]["memory"], runs
    assert sum(times.values()) == int(quota["pods"])
    assert sum(times[name] * quantity(memory) for name, memory in taken.items()) <= quantity(quota[f"{bound}.memory"])
    assert max(map(quantity, taken.values())) <= quantity(limits[0]["max"]["memory"])


def test_a_run_is_decided_by_its_lease_alone() -> None:
    """Neither Kubernetes nor Dagster starts a run's process again, and whoever requests one chooses no pod for it."""
    assert LAUNCHER["run_k8s_config"]["job_spec_config"]["backoff_limit"] == 0
    assert INSTANCE["run_monitoring"]["max_resume_run_attempts"] == 0
    assert LAUNCHER["only_allow_user_defined_k8s_config_fields"] == {}
    assert LAUNCHER["only_allow_user_defined_env_vars"] == []


@pytest.mark.parametrize("path", sorted((CHECKOUT / "policies").glob("*.yaml")), ids=lambda path: path.stem)
def test_no_promotion_lasts_as_long_as_kubernetes_lets_a_run_live(path: Any) -> None:
    """A pod is killed at its deadline, which only a run that hangs may reach: waiting, the gate, and both ways back."""
    policy = parse_policy(path.stem, path.read_text(encoding="utf-8"))
    assert policy.image is not None
    longest = policy.image.deadline + 2 * policy.longest_on_branch
    assert longest < LAUNCHER["run_k8s_config"]["job_spec_config"]["active_deadline_seconds"]


def test_both_instances_agree_where_they_may() -> None:
    """A promotion is as fast as on one machine, and a service that hangs holds up one sensor alone."""
    other = YAML(typ="safe").load(CHECKOUT / "dagster.yaml")
    for part in ("telemetry", "nux", "run_coordinator", "sensors"):
        assert INSTANCE[part] == other[part]

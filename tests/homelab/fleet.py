"""Twenty models beside the platform's own: each with a Deployment, an Application and a policy, promoted at once."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from bootstrap.dagster import DAGSTER
from orchestration.promotion.policy import parse_policy
from testbeds.homelab.dagster import commit_policies
from testbeds.homelab.environment import HomelabEnvironment
from testbeds.homelab.waiting import applications, await_all, pods_words
from testbeds.story.stories import registry
from testbeds.story.versions import register_again
from tests.homelab.other_workloads import NAMESPACE, commit, text_of, wine_quality

_SECONDS = 900.0
_FIRST_PORT = 30820
_PROJECT = "fleet"
_ADDRESS = re.compile(r"^service: \{url: http://[^:]+:\d+", re.MULTILINE)


@dataclass(frozen=True)
class Member:
    """One model of the fleet: its name is that of its workload and of its Application."""

    environment: HomelabEnvironment
    name: str

    def register(self) -> int:
        """Register a good version, with an image of its own."""
        return register_again(self.environment, of=2)


@contextmanager
def fleet(environment: HomelabEnvironment, size: int) -> Iterator[tuple[Member, ...]]:
    """Deploy that many models to edge with a policy each, and yield them once all of them serve.

    They share a registered model, and have aliases of their own. At the end what was committed and applied is removed.
    """
    names = [f"fleet-{number:02}" for number in range(1, size + 1)]
    homelab, address = environment.homelab, _node_address(environment)
    template = (homelab.state / "policies" / "wine-quality-edge.yaml").read_text(encoding="utf-8")
    policies, manifests, members = dict[str, str](), dict[str, str](), list[Member]()
    for number, name in enumerate(names):
        policy = _policy(template, name, f"http://{address}:{_FIRST_PORT + number}")
        policies[f"policies/{name}-edge.yaml"] = policy
        manifests[_path(name)] = _manifests(name, _FIRST_PORT + number)
        own = replace(homelab, policy=parse_policy(f"{name}-edge", policy))
        members.append(Member(HomelabEnvironment(own, environment.processes, environment.dagster), name))
    commit(environment, f"Deploy {size} models", manifests)
    commit_policies(environment, policies, f"Promote {size} models")
    homelab.gcp.apply([*_argocd(environment, names), *_rights(names)])
    refresh = "argocd.argoproj.io/refresh=normal"
    homelab.gcp.run("annotate", "applications.argoproj.io", "dagster", refresh, "--namespace=argocd", "--overwrite")
    try:
        await_all(f"all {size} models are Synced and Healthy", lambda: _missing(environment, names), _SECONDS, print)
        yield tuple(members)
    finally:
        for name in names:
            homelab.gcp.run("delete", "application", name, "--namespace=argocd", "--wait=false")
        homelab.gcp.run("delete", "role,rolebinding", _PROJECT, "--namespace=argocd")
        commit_policies(environment, dict.fromkeys(policies, ""), f"Promote {size} models no longer")
        commit(environment, f"Remove {size} models", dict.fromkeys(manifests, ""))
        _forget_aliases(members)


def _path(name: str) -> str:
    return f"manifests/applications/{name}/deployment.yaml"


def _manifests(name: str, port: int) -> str:
    """Return the workload and its Service, with one pod that asks for little: twenty of them share two nodes."""
    deployment, service = wine_quality(name, port)
    deployment["spec"] |= {"replicas": 1, "progressDeadlineSeconds": 600}
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container["resources"]["requests"] |= {"cpu": "10m", "memory": "96Mi"}
    return text_of(deployment, service)


def _policy(template: str, name: str, address: str) -> str:
    """Return a policy with times and a latency that two busy cores can keep for all of them at once."""
    lines = {
        "challenger_alias": f"{name}-challenger",
        "champion_alias": f"{name}-champion",
        "manifest": f"{{path: {_path(name)}, kind: Deployment, namespace: {NAMESPACE}, name: {name}, "
        "container: model-server}",
        "argocd": f"{{application: {name}, namespace: argocd}}",
        "service": f"{{url: {address}, protocol: features}}",
        "rollout": "{deadline: 900s}",
        "  judge_within": "900s",
    }
    for key, value in lines.items():
        template, count = re.subn(rf"^{key}: .*$", f"{key}: {value}", template, flags=re.MULTILINE)
        assert count == 1, f"the policy has {key} {count} times"
    template, count = re.subn(r"at_most: 1\.0$", "at_most: 30.0", template, flags=re.MULTILINE)
    assert count == 1, "the policy bounds the latency once"
    return template


def _rights(names: Sequence[str]) -> list[dict[str, Any]]:
    """Let the accounts in Dagster's namespace read and refresh the Applications, as they may those of the policies."""
    version = "rbac.authorization.k8s.io/v1"
    rule = {"apiGroups": ["argoproj.io"], "resources": ["applications"], "resourceNames": [*names]}
    accounts = [{"kind": "ServiceAccount", "name": name, "namespace": DAGSTER} for name in ("code-server", "run")]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": _PROJECT}
    head = {"apiVersion": version, "metadata": _metadata(_PROJECT)}
    return [
        {**head, "kind": "Role", "rules": [{**rule, "verbs": ["get", "patch"]}]},
        {**head, "kind": "RoleBinding", "roleRef": role, "subjects": accounts},
    ]


def _argocd(environment: HomelabEnvironment, names: Sequence[str]) -> list[dict[str, Any]]:
    repository, destination = environment.git_url, {"name": "edge", "namespace": NAMESPACE}
    version = "argoproj.io/v1alpha1"
    kinds = [{"group": "apps", "kind": "Deployment"}, {"group": "", "kind": "Service"}]
    project = {"sourceRepos": [repository], "destinations": [destination], "namespaceResourceWhitelist": kinds}
    documents: list[dict[str, Any]] = [
        {"apiVersion": version, "kind": "AppProject", "metadata": _metadata(_PROJECT), "spec": project}
    ]
    for name in names:
        spec = {
            "project": _PROJECT,
            "source": {
                "repoURL": repository,
                "targetRevision": environment.git_branch,
                "path": f"manifests/applications/{name}",
            },
            "destination": destination,
            "syncPolicy": {"automated": {"prune": True, "selfHeal": True}},
        }
        metadata = {**_metadata(name), "finalizers": ["resources-finalizer.argocd.argoproj.io"]}
        documents.append({"apiVersion": version, "kind": "Application", "metadata": metadata, "spec": spec})
    return documents


def _metadata(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": "argocd"}


def _missing(environment: HomelabEnvironment, names: Sequence[str]) -> str:
    states = {each.name: each for each in applications(environment.homelab.gcp)}
    unwell = [name for name in names if name not in states or not states[name].well]
    policies = (environment.homelab.gcp.read("configmap", "incumbent-policies", DAGSTER) or {}).get("data", {})
    if not unwell:
        unknown = [name for name in names if f"{name}-edge.yaml" not in policies]
        return f"{len(unknown)} of their policies are not in the ConfigMap yet" if unknown else ""
    return "; ".join([f"{len(unwell)} of {len(names)} are not well", *pods_words(environment.homelab.edge, NAMESPACE)])


def _node_address(environment: HomelabEnvironment) -> str:
    addresses = environment.homelab.edge.items("nodes")[0]["status"]["addresses"]
    return str(next(each["address"] for each in addresses if each["type"] == "InternalIP"))


def _forget_aliases(members: Sequence[Member]) -> None:
    for member in members:
        client: Any = registry(member.environment)
        aliases = client.get_registered_model(member.environment.model).aliases
        for alias in {member.environment.challenger_alias, member.environment.champion_alias} & set(aliases):
            client.delete_registered_model_alias(member.environment.model, alias)

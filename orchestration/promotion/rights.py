"""The rights in Kubernetes that a promotion uses, as docs/architecture.md lists them."""

from collections.abc import Iterator
from dataclasses import dataclass

from orchestration.promotion.policy import Policy
from orchestration.promotion.workload_kinds import JUDGED


@dataclass(frozen=True)
class Right:
    """One verb on one kind of object."""

    verb: str
    resource: str
    group: str = ""
    """The API group; empty for the core group."""
    subresource: str = ""
    namespace: str = ""
    """Empty for objects without a namespace."""
    name: str = ""
    """The only object that is asked for; empty for all of them."""

    def __str__(self) -> str:
        kind = "/".join(filter(None, (self.resource, self.subresource)))
        where = f" in namespace {self.namespace}" if self.namespace else ""
        which = f" {self.name}" if self.name else ""
        return f"{self.verb} {kind}{f'.{self.group}' if self.group else ''}{which}{where}"


def cluster_rights(policy: Policy) -> Iterator[Right]:
    """What the account needs in the cluster that serves the model."""
    namespace, kind = policy.manifest.namespace, JUDGED[policy.manifest.kind]
    yield Right("get", kind.plural, kind.group, namespace=namespace)
    if kind.deployment_suffix:
        kind = JUDGED["Deployment"]
        yield Right("get", kind.plural, kind.group, namespace=namespace)
    if kind.revisions:
        yield Right("list", kind.revisions, "apps", namespace=namespace)
    for resource in ("pods", "events", "services"):
        yield Right("list", resource, namespace=namespace)
    yield Right("get", "pods", subresource="log", namespace=namespace)
    yield Right("create", "pods", subresource="proxy", namespace=namespace)
    yield Right("list", "nodes")


def argocd_rights(policy: Policy) -> Iterator[Right]:
    """What the account needs in the cluster that holds the Applications: rights on the policy's own."""
    namespace, name = policy.argocd.namespace, policy.argocd.application
    for verb in ("get", "patch"):
        yield Right(verb, "applications", "argoproj.io", namespace=namespace, name=name)


def right_to_try(policy: Policy) -> Right:
    """What lets the API server try a manifest before its commit; without it, the published schema decides."""
    kind = JUDGED[policy.manifest.kind]
    return Right("patch", kind.plural, kind.group, namespace=policy.manifest.namespace)

"""The login by which nodes pull images from a private registry, for the pods that run images of the owner's."""

import json
from collections.abc import Iterator

from bootstrap.dagster import DAGSTER, FILES
from bootstrap.kubectl import Kubectl
from bootstrap.objects import encoded, namespace, secret
from orchestration.promotion.images import registry_host

SECRET = "registry"  # noqa: S105 # the Secret's name
_TYPE = "kubernetes.io/dockerconfigjson"
_DOCKER_HUB = "https://index.docker.io/v1/"
"""How a kubelet, and Docker before it, writes Docker Hub in a file of logins."""
MODELS, DISPATCHER = ("ml-apps", "default"), ("monitoring", "dispatcher")
"""The namespace and the service account of pods with images of the owner's."""
ON_KUBERNETES = tuple((DAGSTER, account) for account in ("webserver", "daemon", "code-server", "run", "companion"))
"""The same of Dagster on Kubernetes."""


def make_pull_secrets(gcp: Kubectl, edge: Kubectl, registry: str, username: str, token: str) -> Iterator[str]:
    """Give the accounts of models, the dispatcher and Dagster a login for a registry; an earlier one is replaced.

    Those of Dagster get it once `python -m bootstrap dagster` has made their namespace.

    Args:
        gcp: The control plane.
        edge: The models' cluster.
        registry: The registry's host, or a name in it such as `ghcr.io/you`.
        username: The user.
        token: A token that may read images.

    Yields:
        What was done in each cluster, for a person.

    Raises:
        ProblemError: a cluster refuses.
    """
    host = registry_host(registry.partition("/")[0])
    server = _DOCKER_HUB if host == "docker.io" else host
    login = {"username": username, "password": token, "auth": encoded(f"{username}:{token}")}
    content = {".dockerconfigjson": json.dumps({"auths": {server: login}})}
    on_gcp = (DISPATCHER, *(ON_KUBERNETES if gcp.read("secret", FILES, DAGSTER) is not None else ()))
    for cluster, (place, account) in ((edge, MODELS), *((gcp, each) for each in on_gcp)):
        metadata = {"name": account, "namespace": place}
        named = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": metadata,
            "imagePullSecrets": [{"name": SECRET}],
        }
        cluster.apply([namespace(place), secret(SECRET, place, content, type_=_TYPE), named])
        yield f"Secret {place}/{SECRET} on {cluster.context}: the login for {host} of the service account {account}"

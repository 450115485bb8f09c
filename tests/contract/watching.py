"""What a cluster reported while something happened.

A watch from a resource version of before repeats every event since then, in order.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from orchestration.adapters.kube_api import KubeApi

Json = dict[str, Any]


def version_of(api: KubeApi, path: str) -> str:
    """Return the current resource version of a list."""
    version: str = api.get(path, {"limit": "1"}).document["metadata"]["resourceVersion"]
    return version


def watch(kubeconfig: Path, context: str, path: str, query: Mapping[str, str]) -> Iterator[tuple[str, Json]]:
    """Yield the type and object of each event of a watch, until the query's `timeoutSeconds` end it."""
    from kubernetes.config import new_client_from_config

    connect: Any = new_client_from_config  # untyped
    with connect(str(kubeconfig), context) as client:
        login = client.configuration.auth_settings().get("BearerToken")
        answer = client.rest_client.pool_manager.request(
            "GET",
            f"{client.configuration.host}{path}?{urlencode({'watch': 'true', **query})}",
            headers={login["key"]: login["value"]} if login else {},
            timeout=60,
            retries=False,
        )
        assert answer.status == 200, answer.data
        for line in answer.data.splitlines():
            event = json.loads(line)
            yield event["type"], event["object"]


def history(kubeconfig: Path, context: str, path: str, version: str, labels: str = "") -> list[tuple[str, Json]]:
    """Return the events of a list's objects since `version`.

    API servers keep the events of at least the last minute.
    """
    query = {"resourceVersion": version, "timeoutSeconds": "1", **({"labelSelector": labels} if labels else {})}
    events = list(watch(kubeconfig, context, path, query))
    assert "ERROR" not in [event for event, _ in events], events
    return events

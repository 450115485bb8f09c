"""Applying manifests: how Git differs from the live objects, and what the API server makes of an applied object."""

import copy
import datetime
import json
from typing import Any

from testbeds.sandbox.cluster.nodes import quantity
from testbeds.sandbox.cluster.objects import WORKLOADS, Json, Key, Store, key_of

TRACKING = "argocd.argoproj.io/tracking-id"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_DEPLOYMENT_DEFAULTS: Json = {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600}
_DEFAULT_STRATEGY: Json = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
_STATEFUL_SET_DEFAULTS: Json = {"replicas": 1, "revisionHistoryLimit": 10, "podManagementPolicy": "OrderedReady"}
_STATEFUL_SET_DEFAULTS |= {"updateStrategy": {"type": "RollingUpdate"}}
_DAEMON_SET_DEFAULTS: Json = {"revisionHistoryLimit": 10, "updateStrategy": {"type": "RollingUpdate"}}
NEVER_BROUGHT = ("Application", "Pod", "ReplicaSet", "ControllerRevision", "Event", "Node")
_CLUSTER_KINDS = ("Namespace", "ClusterRole", "ClusterRoleBinding", "PersistentVolume", "StorageClass", "Node")


class InvalidObjectError(Exception):
    """The API server refuses the object; the text is the API server's message."""


def desired_objects(manifests: list[Json], application: Json) -> dict[Key, Json]:
    """Return an Application's objects, each in its namespace and marked as the Application's."""
    name = application["metadata"]["name"]
    namespace = application["spec"]["destination"].get("namespace", "default")
    result = {}
    for manifest in manifests:
        item: Json = jsonable(manifest)
        metadata = item["metadata"]
        if item["kind"] in _CLUSTER_KINDS:
            metadata.pop("namespace", None)
        else:
            metadata.setdefault("namespace", namespace)
        group = item["apiVersion"].rpartition("/")[0]
        owner = f"{name}:{group}/{item['kind']}:{metadata.get('namespace', '')}/{metadata['name']}"
        metadata.setdefault("annotations", {})
        metadata["annotations"] = {**(metadata["annotations"] or {}), TRACKING: owner}
        result[key_of(item)] = item
    return result


def jsonable(value: Any) -> Any:
    """Copy YAML's values as JSON has them (a date is text)."""
    if isinstance(value, dict):
        return {str(field): jsonable(content) for field, content in value.items()}
    if isinstance(value, list):
        return [jsonable(item) for item in value]
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    return value


def belongs_to(item: Json, application: Json) -> bool:
    owner = item["metadata"].get("annotations", {}).get(TRACKING, "")
    return str(owner).startswith(f"{application['metadata']['name']}:")


def surplus_objects(store: Store, application: Json, desired: dict[Key, Json]) -> list[Json]:
    """Return the objects that the Application brought and that Git no longer has."""
    kinds = {kind for kind, _, _ in store.keys if kind not in NEVER_BROUGHT}
    brought = (item for kind in kinds for item in store.all(kind) if belongs_to(item, application))
    return [item for item in brought if key_of(item) not in desired]


def differs(wanted: Any, live: Any, field: str = "") -> bool:
    """Check whether a field that Git states differs in the cluster; fields that Git leaves out are not compared."""
    if isinstance(wanted, dict):
        if not isinstance(live, dict):
            return bool(wanted)
        return any(differs(value, live.get(name), name) for name, value in wanted.items() if value is not None)
    if isinstance(wanted, list):
        if not isinstance(live, list) or len(wanted) != len(live):
            return bool(wanted or live)
        return any(differs(wanted_item, live_item) for wanted_item, live_item in zip(wanted, live, strict=True))
    if field in ("cpu", "memory"):
        return live is None or quantity(wanted) != quantity(live)
    return bool(wanted != live)


def out_of_sync(wanted: Json, live: Json | None) -> bool:
    """Check whether the live object differs from Git, or still has what Git has removed."""
    if live is None or differs(wanted, live):
        return True
    return _removed(_last_applied(live), wanted, live)


def _last_applied(live: Json) -> Json:
    applied: Json = json.loads(live["metadata"].get("annotations", {}).get(_LAST_APPLIED, "{}"))
    return applied


def _removed(last: Any, wanted: Any, live: Any) -> bool:
    if isinstance(last, dict) and isinstance(wanted, dict) and isinstance(live, dict):
        gone = (last.keys() - wanted.keys()) & live.keys()
        return bool(gone) or any(
            _removed(last[name], wanted[name], live.get(name)) for name in last.keys() & wanted.keys()
        )
    if isinstance(last, list) and isinstance(wanted, list) and isinstance(live, list):
        return len(last) == len(wanted) == len(live) and any(map(_removed, last, wanted, live))
    return False


def apply_object(store: Store, wanted: Json) -> bool:
    """Create or update the live object as Git has it, and return whether anything changed.

    Raises:
        InvalidObjectError: the API server would refuse it.
    """
    wanted = copy.deepcopy(wanted)
    _validate(wanted)
    live = store.get(*key_of(wanted))
    if not out_of_sync(wanted, live):
        return False
    wanted["metadata"]["annotations"][_LAST_APPLIED] = json.dumps(wanted, sort_keys=True)
    if wanted["kind"] in ("StatefulSet", "DaemonSet"):
        defaults = _STATEFUL_SET_DEFAULTS if wanted["kind"] == "StatefulSet" else _DAEMON_SET_DEFAULTS
        wanted["spec"] = copy.deepcopy(defaults) | wanted["spec"]
        wanted["spec"]["updateStrategy"].setdefault("type", "RollingUpdate")
    if wanted["kind"] == "Deployment":
        if live is not None and "replicas" not in _last_applied(live).get("spec", {}):
            wanted["spec"].setdefault("replicas", live["spec"]["replicas"])  # whoever has scaled it
        wanted["spec"] = _DEPLOYMENT_DEFAULTS | {"strategy": copy.deepcopy(_DEFAULT_STRATEGY)} | wanted["spec"]
        wanted["spec"]["strategy"].setdefault("type", "RollingUpdate")
    if live is None:
        wanted.pop("status", None)
        store.create(wanted)
        return True
    if wanted["kind"] == "Deployment" and wanted["spec"]["selector"] != live["spec"]["selector"]:
        raise InvalidObjectError(
            f'Deployment.apps "{wanted["metadata"]["name"]}" is invalid: spec.selector: field is immutable'
        )
    spec_changed = wanted.get("spec") != live.get("spec")
    for field, value in wanted.items():
        if field == "metadata":
            for part in ("labels", "annotations"):
                live["metadata"][part] = {**live["metadata"].get(part, {}), **(value.get(part) or {})}
        elif field != "status":
            live[field] = value
    store.changed(live, spec=spec_changed)
    return True


def _validate(item: Json) -> None:
    if item["kind"] not in [workload.kind for workload in WORKLOADS]:
        return
    about = f'{item["kind"]}.apps "{item["metadata"]["name"]}" is invalid: '
    try:
        spec = item["spec"]
        labels = spec["template"]["metadata"]["labels"]
        containers = spec["template"]["spec"]["containers"]
        if not spec["selector"]["matchLabels"].items() <= labels.items():
            raise InvalidObjectError(
                f"{about}spec.template.metadata.labels: Invalid value: `selector` does not match template `labels`"
            )
        for place, container in enumerate(containers):
            if not isinstance(container.get("image"), str) or not container["image"].strip():
                raise InvalidObjectError(f"{about}spec.template.spec.containers[{place}].image: Required value")
            for bounds in container.get("resources", {}).values():
                for amount in bounds.values():
                    quantity(amount)
        if len({container["name"] for container in containers}) != len(containers) or not containers:
            raise InvalidObjectError(f"{about}spec.template.spec.containers: Required value, each name once")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InvalidObjectError(f"{about}{type(error).__name__} {error}") from error

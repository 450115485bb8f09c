"""The API server's objects: resource versions, generations, owners, merge patches and errors as Kubernetes has them.

Everything runs in one thread (the event loop's), so nothing here is locked. Controllers change an object in place and
then call `changed`; readers must not keep what they were given across an `await`.
"""

import copy
import datetime
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
Key = tuple[str, str, str]
"""Kind, namespace (empty for a cluster's own), name."""


@dataclass(frozen=True)
class Resource:
    """The names of a kind in addresses and errors."""

    kind: str
    group: str
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """The beginning of its API's paths: `api/v1`, `apis/apps/v1`."""
        return f"apis/{self.api_version}" if self.group else f"api/{self.version}"

    @property
    def full_name(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


APPLICATIONS = Resource("Application", "argoproj.io", "v1alpha1", "applications")
DEPLOYMENTS = Resource("Deployment", "apps", "v1", "deployments")
REPLICA_SETS = Resource("ReplicaSet", "apps", "v1", "replicasets")
STATEFUL_SETS = Resource("StatefulSet", "apps", "v1", "statefulsets")
DAEMON_SETS = Resource("DaemonSet", "apps", "v1", "daemonsets")
CONTROLLER_REVISIONS = Resource("ControllerRevision", "apps", "v1", "controllerrevisions")
WORKLOADS = (DEPLOYMENTS, STATEFUL_SETS, DAEMON_SETS)
PODS = Resource("Pod", "", "v1", "pods")
EVENTS = Resource("Event", "", "v1", "events")
NODES = Resource("Node", "", "v1", "nodes")
SERVICES = Resource("Service", "", "v1", "services")


class ApiError(Exception):
    """An answer of `kind: Status`, as the API server gives it."""

    def __init__(self, code: int, reason: str, message: str, resource: Resource | None = None, name: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.status: Json = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        self.status |= {"message": message, "reason": reason, "code": code}
        if resource is not None:
            details = {"name": name, "group": resource.group, "kind": resource.plural}
            self.status["details"] = {field: value for field, value in details.items() if value}


def timestamp(at: float | None = None) -> str:
    """A time as Kubernetes writes it: UTC, whole seconds."""
    moment = datetime.datetime.now(datetime.UTC) if at is None else datetime.datetime.fromtimestamp(at, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Store:
    """All objects of both clusters; `listeners` are called with the kind and the object of every change."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[str, Json], None]] = []
        self._objects: dict[Key, Json] = {}
        self._version = 100

    def get(self, kind: str, namespace: str, name: str) -> Json | None:
        return self._objects.get((kind, namespace, name))

    @property
    def keys(self) -> tuple[Key, ...]:
        return tuple(self._objects)

    @property
    def version(self) -> str:
        """The resource version of the last change."""
        return str(self._version)

    def alive(self, item: Json) -> bool:
        return self._objects.get(key_of(item)) is item

    def require(self, resource: Resource, namespace: str, name: str) -> Json:
        """Return the object.

        Raises:
            ApiError: 404 NotFound, there is none of that name.
        """
        item = self.get(resource.kind, namespace, name)
        if item is None:
            raise ApiError(404, "NotFound", f'{resource.full_name} "{name}" not found', resource, name)
        return item

    def all(self, kind: str, namespace: str | None = None) -> list[Json]:
        """Return all objects of a kind, sorted by name; of every namespace unless one is given."""
        keys = sorted(key for key in self._objects if key[0] == kind and namespace in (None, key[1]))
        return [self._objects[key] for key in keys]

    def owned(self, kind: str, owner: Json) -> list[Json]:
        uid = owner["metadata"]["uid"]
        return [item for item in self.all(kind, owner["metadata"].get("namespace", "")) if owner_uid(item) == uid]

    def create(self, item: Json, owner: Json | None = None) -> Json:
        """Add an object, with what the API server adds to its metadata."""
        created: Json = copy.deepcopy(item)
        metadata = created.setdefault("metadata", {})
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = timestamp()
        metadata["generation"] = 1
        if owner is not None:
            metadata["ownerReferences"] = [
                {
                    "apiVersion": owner["apiVersion"],
                    "kind": owner["kind"],
                    "name": owner["metadata"]["name"],
                    "uid": owner["metadata"]["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ]
        self._objects[key_of(created)] = created
        self.changed(created)
        return created

    def changed(self, item: Json, *, spec: bool = False) -> None:
        """Give a changed object its next resource version, and its next generation when its spec changed."""
        self._version += 1
        item["metadata"]["resourceVersion"] = str(self._version)
        if spec:
            item["metadata"]["generation"] += 1
        self._tell(item)

    def set_status(self, item: Json, status: Json) -> None:
        """Replace an object's status unless it is the same."""
        if item.get("status") != status:
            item["status"] = copy.deepcopy(status)
            # Argo CD's Applications have no status subresource: every write raises their generation.
            self.changed(item, spec=item["kind"] == APPLICATIONS.kind)

    def delete(self, item: Json) -> None:
        self._objects.pop(key_of(item), None)
        self._version += 1
        item["metadata"]["resourceVersion"] = str(self._version)
        self._tell(item)

    def merge_patch(self, resource: Resource, namespace: str, name: str, patch: Json) -> Json:
        """Apply a merge patch (RFC 7386) and return the object.

        Raises:
            ApiError: 404 when there is none, 409 when the patch gives a resource version that is no longer current.
        """
        current = self.require(resource, namespace, name)
        expected = patch.get("metadata", {}).get("resourceVersion")
        if expected is not None and expected != current["metadata"]["resourceVersion"]:
            raise ApiError(
                409,
                "Conflict",
                f'Operation cannot be fulfilled on {resource.full_name} "{name}": the object has been modified; '
                "please apply your changes to the latest version and try again",
                resource,
                name,
            )
        merged = merge(current, patch)
        fixed = ("name", "namespace", "uid", "creationTimestamp", "generation", "resourceVersion")
        merged["metadata"] |= {field: current["metadata"][field] for field in fixed if field in current["metadata"]}
        merged |= {"kind": current["kind"], "apiVersion": current["apiVersion"]}
        if resource in WORKLOADS and "status" in current:
            merged["status"] = current["status"]  # a workload's status is a subresource, an Application's is not
        if merged != current:
            contents = [{**item, "metadata": None} for item in (merged, current)]
            spec = contents[0] != contents[1]
            current.clear()
            current.update(merged)
            self.changed(current, spec=spec)
        return current

    def _tell(self, item: Json) -> None:
        for listener in self.listeners:
            listener(item["kind"], item)


def key_of(item: Json) -> Key:
    return item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]


def owner_uid(item: Json) -> str | None:
    owners = item["metadata"].get("ownerReferences", [])
    return owners[0]["uid"] if owners else None


def merge(target: Any, patch: Any) -> Any:
    """Apply a merge patch to a copy: objects are merged, null deletes, everything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(target) if isinstance(target, dict) else {}
    for field, value in patch.items():
        if value is None:
            result.pop(field, None)
        else:
            result[field] = merge(result.get(field), value)
    return result

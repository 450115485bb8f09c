"""The API server's objects: resource versions, generations, owners, merge patches and errors as Kubernetes has them.

Everything runs in one thread (the event loop's), so nothing here is locked. Controllers change an object in place and
then call `changed`; readers must not keep what they were given across an `await`.
"""

import base64
import copy
import datetime
import json
import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
Key = tuple[str, str, str]
"""Kind, namespace (empty for a cluster's own), name."""


@dataclass(frozen=True)
class Resource:
    """How a kind is called in addresses and errors."""

    kind: str
    group: str
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def full_name(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


APPLICATIONS = Resource("Application", "argoproj.io", "v1alpha1", "applications")
DEPLOYMENTS = Resource("Deployment", "apps", "v1", "deployments")
REPLICA_SETS = Resource("ReplicaSet", "apps", "v1", "replicasets")
PODS = Resource("Pod", "", "v1", "pods")
EVENTS = Resource("Event", "", "v1", "events")
NODES = Resource("Node", "", "v1", "nodes")
SERVICES = Resource("Service", "", "v1", "services")


class ApiError(Exception):
    """An answer of `kind: Status`, as the API server gives it."""

    def __init__(self, code: int, reason: str, message: str, resource: Resource | None = None, name: str = "") -> None:
        super().__init__(message)
        self.code = code
        details: Json = {"name": name} if name else {}
        if resource is not None:
            details |= {"kind": resource.plural} | ({"group": resource.group} if resource.group else {})
        self.status: Json = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        self.status |= {"message": message, "reason": reason, "details": details, "code": code}


def timestamp(at: float | None = None) -> str:
    """A time as Kubernetes writes it: UTC, whole seconds."""
    moment = datetime.datetime.now(datetime.UTC) if at is None else datetime.datetime.fromtimestamp(at, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Store:
    """All objects of both clusters; `listeners` are told the kind and object of every change."""

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

    def require(self, resource: Resource, namespace: str, name: str) -> Json:
        """The object.

        Raises:
            ApiError: 404 NotFound, there is none of that name.
        """
        found = self.get(resource.kind, namespace, name)
        if found is None:
            raise ApiError(404, "NotFound", f'{resource.full_name} "{name}" not found', resource, name)
        return found

    def all(self, kind: str, namespace: str | None = None) -> list[Json]:
        """All objects of a kind, by name; of every namespace when none is given."""
        keys = sorted(key for key in self._objects if key[0] == kind and namespace in (None, key[1]))
        return [self._objects[key] for key in keys]

    def owned(self, kind: str, owner: Json) -> list[Json]:
        uid = owner["metadata"]["uid"]
        return [one for one in self.all(kind, owner["metadata"].get("namespace", "")) if owner_uid(one) == uid]

    def create(self, item: Json, owner: Json | None = None) -> Json:
        """Take an object in, with what the API server adds to its metadata."""
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
        """Replace an object's status; nothing happens when it is the same."""
        if item.get("status") != status:
            item["status"] = copy.deepcopy(status)
            self.changed(item)

    def delete(self, item: Json) -> None:
        self._objects.pop(key_of(item), None)
        self._version += 1
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
        if resource is DEPLOYMENTS and "status" in current:
            merged["status"] = current["status"]  # a Deployment's status is a subresource, an Application's is not
        if merged != current:
            spec = merged.get("spec") != current.get("spec")
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
    """A merge patch applied to a copy: objects are merged, null deletes, everything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(target) if isinstance(target, dict) else {}
    for field, value in patch.items():
        if value is None:
            result.pop(field, None)
        else:
            result[field] = merge(result.get(field), value)
    return result


def page(items: list[Json], resource: Resource, limit: int, token: str, version: str) -> Json:
    """A list answer of at most `limit` objects (0: all), going on behind `token`."""
    start = ""
    if token:
        try:
            start = json.loads(base64.urlsafe_b64decode(token))["start"]
        except (ValueError, KeyError, TypeError) as error:
            raise ApiError(400, "BadRequest", f"continue key is not valid: {error}") from error
    rest = [item for item in items if item["metadata"]["name"] > start]
    shown = rest[:limit] if limit else rest
    metadata: Json = {"resourceVersion": version}
    if len(shown) < len(rest):
        last = {"start": shown[-1]["metadata"]["name"]}
        metadata["continue"] = base64.urlsafe_b64encode(json.dumps(last).encode()).decode()
        metadata["remainingItemCount"] = len(rest) - len(shown)
    return {
        "kind": f"{resource.kind}List",
        "apiVersion": resource.api_version,
        "metadata": metadata,
        "items": [{field: value for field, value in item.items() if field not in _IMPLIED} for item in shown],
    }


_IMPLIED = ("kind", "apiVersion")  # a list's own kind implies them, so the real one leaves them out of the items
_REQUIREMENT = re.compile(r"\s*(!?)\s*([\w./-]+)\s*(?:(==|=|!=)\s*([\w.-]*)|\s(in|notin)\s*\(([^)]*)\))?\s*")
_FIELDS = {
    "Pod": ("metadata.name", "metadata.namespace", "spec.nodeName", "status.phase"),
    "Event": (
        *("metadata.name", "metadata.namespace", "reason", "type"),
        *(f"involvedObject.{field}" for field in ("kind", "namespace", "name", "uid")),
    ),
}


def select_labels(items: Iterable[Json], selector: str) -> list[Json]:
    """The objects that a label selector chooses: `a=b,c!=d,e in (f,g),h,!i`.

    Raises:
        ApiError: 400, the selector is none.
    """
    chosen = list(items)
    for part in re.split(r",(?![^(]*\))", selector) if selector.strip() else []:
        match = _REQUIREMENT.fullmatch(part)
        if match is None:
            raise ApiError(400, "BadRequest", f"unable to parse requirement: {part!r}")
        negated, label, operator, value, word, values = match.groups()
        values_of_word = {one.strip() for one in values.split(",")} if word else set()
        wanted = {value} if operator else values_of_word
        positive = not negated and operator != "!=" and word != "notin"
        chosen = [
            one
            for one in chosen
            for found in [one["metadata"].get("labels", {}).get(label)]
            if (found in wanted if wanted else found is not None) == positive
        ]
    return chosen


def select_fields(items: Iterable[Json], kind: str, selector: str) -> list[Json]:
    """The objects that a field selector chooses; only the fields that Kubernetes knows for that kind.

    Raises:
        ApiError: 400, the selector is none or names another field.
    """
    chosen = list(items)
    for part in filter(None, selector.split(",")):
        match = re.fullmatch(r"([\w.]+)(==|=|!=)(.*)", part)
        if match is None:
            raise ApiError(400, "BadRequest", f"invalid selector: {part!r}; can't understand it")
        if match[1] not in _FIELDS.get(kind, ("metadata.name", "metadata.namespace")):
            raise ApiError(400, "BadRequest", f"field label not supported: {match[1]}")
        chosen = [one for one in chosen if (_field(one, match[1]) == match[3]) == (match[2] != "!=")]
    return chosen


def _field(item: Json, path: str) -> str:
    value: Any = item
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value)

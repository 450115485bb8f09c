"""Answers to list calls: labels and fields that select, and pages."""

import base64
import json
import re
from collections.abc import Iterable
from typing import Any

from testbeds.sandbox.cluster.objects import APPLICATIONS, ApiError, Json, Resource


def page(items: list[Json], chosen: list[Json], resource: Resource, limit: int, token: str, version: str) -> Json:
    """Answer a list call with at most `limit` of the chosen items (0: no limit), from behind `token`.

    A page that is full has a token while any item is left, chosen or not, so the last page can be empty. How many
    remain is said only of lists that nothing narrows. All pages state the version of the first one, though without a
    history a later page shows its objects as they are now.
    """
    start = ""
    if token:
        try:
            place = json.loads(base64.urlsafe_b64decode(token))
            start, version = place["start"], place["version"]
        except (ValueError, KeyError, TypeError) as error:
            raise ApiError(400, "BadRequest", f"invalid continue token: continue key is not valid: {error}") from error
    rest = [item for item in chosen if item["metadata"]["name"] > start]
    shown = rest[:limit] if limit else rest
    metadata: Json = {"resourceVersion": version}
    last = shown[-1]["metadata"]["name"] if limit and len(shown) == limit else None
    if last is not None and items[-1]["metadata"]["name"] > last:
        metadata["continue"] = base64.urlsafe_b64encode(
            json.dumps({"start": last, "version": version}).encode()
        ).decode()
        metadata |= {"remainingItemCount": len(rest) - len(shown)} if len(chosen) == len(items) else {}
    implied = () if resource is APPLICATIONS else _IMPLIED
    return {
        "kind": f"{resource.kind}List",
        "apiVersion": resource.api_version,
        "metadata": metadata,
        "items": [{field: value for field, value in item.items() if field not in implied} for item in shown],
    }


_IMPLIED = ("kind", "apiVersion")  # left out of the items of Kubernetes's own lists, as the list's kind implies them
_REQUIREMENT = re.compile(r"\s*(!?)\s*([\w./-]+)\s*(?:(==|=|!=)\s*([\w.-]*)|\s(in|notin)\s*\(([^)]*)\))?\s*")
_FIELDS = {
    "Pod": ("metadata.name", "metadata.namespace", "spec.nodeName", "status.phase"),
    "Event": (
        *("metadata.name", "metadata.namespace", "reason", "type"),
        *(f"involvedObject.{field}" for field in ("kind", "namespace", "name", "uid")),
    ),
}


def select_labels(items: Iterable[Json], selector: str) -> list[Json]:
    """Choose objects by a label selector: `a=b,c!=d,e in (f,g),h,!i`.

    Raises:
        ApiError: 400, the selector is none.
    """
    chosen = list(items)
    for part in re.split(r",(?![^(]*\))", selector) if selector.strip() else []:
        match = _REQUIREMENT.fullmatch(part)
        if match is None:
            raise ApiError(400, "BadRequest", f"unable to parse requirement: {part!r}")
        negated, label, operator, value, word, values = match.groups()
        values_of_word = {value.strip() for value in values.split(",")} if word else set()
        wanted = {value} if operator else values_of_word
        positive = not negated and operator != "!=" and word != "notin"
        chosen = [
            item
            for item in chosen
            for value in [item["metadata"].get("labels", {}).get(label)]
            if (value in wanted if wanted else value is not None) == positive
        ]
    return chosen


def select_fields(items: Iterable[Json], kind: str, selector: str) -> list[Json]:
    """Choose objects by a field selector; only by the fields that Kubernetes knows for that kind.

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
        chosen = [item for item in chosen if (_field(item, match[1]) == match[3]) == (match[2] != "!=")]
    return chosen


def _field(item: Json, path: str) -> str:
    value: Any = item
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value)

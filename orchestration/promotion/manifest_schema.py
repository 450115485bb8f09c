"""Whether an object is valid by the OpenAPI schema that an API server publishes of its kind.

It finds what the API server's decoder refuses: unknown fields (of a server-side apply), wrong types and missing
fields; and of custom resources the bounds and patterns, which stand in their schema. What Kubernetes
checks in code, such as that a selector matches its template, only a dry run finds.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from orchestration.promotion.json_reading import Json, items_of, mapping_at
from orchestration.promotion.problems import DependencyError, Problem

_KINDS = "x-kubernetes-group-version-kind"
_QUANTITY = {
    "oneOf": [
        {"type": "number"},
        {
            "type": "string",
            "pattern": r"^\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?\s*$",
        },
    ]
}
"""The grammar is in Quantity's own description; blanks around it are cut off (apimachinery: quantity.go)."""
_EITHER = {"oneOf": [{"type": "integer"}, {"type": "string"}]}
_REPLACED = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": _QUANTITY,
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": _EITHER,
}
"""What the published schemas say too broadly; older API servers say `string` of both (kube-openapi, before 2022)."""
_BUILT_IN = "io.k8s.api."
"""How the names of Kubernetes' own kinds begin; in their schemas, a default is only the type's empty value."""
_NOT_REQUIRED = frozenset({"lun", "seconds", "serviceName", "value"})
"""What the schemas of Kubernetes' own kinds require and the API server does not (`serviceName`: before 1.34)."""
_SHOWN = 60


def schema_name(schemas: Json, api_version: str, kind: str) -> str | None:
    """Return the name of a kind's schema among those of its API; None when the API has no such kind."""
    group, _, version = api_version.rpartition("/")
    wanted = (group, version, kind)
    for name, schema in schemas.items():
        kinds = items_of(schema, _KINDS) if isinstance(schema, Mapping) else ()
        if any((each.get("group"), each.get("version"), each.get("kind")) == wanted for each in kinds):
            return str(name)
    return None


def faults(document: Json, schemas: Json, name: str, *, strict: bool) -> list[str]:
    """Say what is wrong with an object, each with the field's path.

    Args:
        document: the object, as values of JSON.
        schemas: the schemas of its API, by name.
        name: which of them is the object's.
        strict: whether an unknown field is wrong, too; it is dropped otherwise.

    Raises:
        DependencyError: a schema refers to one that is not there.
    """
    from referencing.exceptions import Unresolvable

    components = {"schemas": {**schemas, **{key: value for key, value in _REPLACED.items() if key in schemas}}}
    root = {"allOf": [{"$ref": f"#/components/schemas/{name}"}], "components": components}
    given = {key: value for key, value in document.items() if key != "status"}  # the API server ignores it
    validator = _validator_class(strict, name.startswith(_BUILT_IN))(root)
    try:
        errors = list(validator.iter_errors(_without_nulls(given)))
    except Unresolvable as error:
        next_step = "Look at what the API server publishes: kubectl get --raw /openapi/v3."
        problem = Problem(f"the schema {name}", "all schemas that it names", f"no {error.ref}", next_step)
        raise DependencyError(problem) from error
    return [f"{_path(error.absolute_path)}{_described(error)}" for error in errors]


def _without_nulls(value: Any) -> Any:
    """Leave out what is null: for the API server, such a field is not there."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _path(parts: Any) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    return f"{path}: " if path else ""


def _described(error: Any) -> str:
    """Say what is wrong with one value: in few words where a person knows them, and else in the library's."""
    value = repr(error.instance)
    shown = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}..."
    if error.validator == "type":
        return f"expected {_article(error.validator_value)}, found {shown}"
    if error.validator in ("oneOf", "anyOf"):
        return f"found {shown}, which is none of what may stand there"
    return str(error.message) if len(error.message) <= 3 * _SHOWN else f"{error.message[: 3 * _SHOWN]}..."


def _article(kind: object) -> str:
    return f"{'an' if str(kind)[0] in 'aeio' else 'a'} {kind}"


@cache
def _validator_class(strict: bool, is_built_in: bool) -> Any:
    """Make the validator; OpenAPI 3.0 is JSON Schema's fourth draft, but for what Kubernetes means otherwise.

    The library takes a tenth of a second to import, which only those pay for whom a schema decides.
    """
    from jsonschema import Draft4Validator, ValidationError  # type: ignore[import-untyped]  # no stubs in the lock
    from jsonschema.validators import extend  # type: ignore[import-untyped]

    known: Mapping[str, Any] = Draft4Validator.VALIDATORS

    def fields(validator: Any, properties: Json, instance: Any, schema: Json) -> Iterator[Any]:
        yield from known["properties"](validator, properties, instance, schema)
        if not strict or schema.get("type") != "object" or not isinstance(instance, Mapping):
            return  # a schema without a type adds a condition to another one (structural schemas of CRDs)
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            for name in (name for name in instance if name not in properties):
                yield ValidationError(f"the field {name!r} is unknown", validator="unknown")

    def required(validator: Any, names: list[str], instance: Any, schema: Json) -> Iterator[Any]:
        for name in names if isinstance(instance, Mapping) else ():
            field = mapping_at(schema, "properties", name)
            default = "default" in field or field.get("nullable")  # a null counts as given, and was left out
            if name not in instance and not (name in _NOT_REQUIRED if is_built_in else default):
                yield ValidationError(f"the field {name!r} is missing")

    def kind(validator: Any, types: Any, instance: Any, schema: Json) -> Iterator[Any]:
        either = schema.get("x-kubernetes-int-or-string") and isinstance(instance, int | str)
        if instance is not None and not either:  # a null in a list is that type's empty value
            yield from known["type"](validator, types, instance, schema)

    def pattern(validator: Any, expression: str, instance: Any, schema: Json) -> Iterator[Any]:
        if "[:" in expression:  # [[:alnum:]] is a class to Go, and something else to Python
            return
        try:
            re.compile(expression)
        except re.error:  # Go's expressions have forms that Python's have not
            return
        yield from known["pattern"](validator, expression, instance, schema)

    def choice(validator: Any, values: list[Any], instance: Any, schema: Json) -> Iterator[Any]:
        if instance != "" or not is_built_in:  # for Kubernetes' own kinds, an empty text is no value
            yield from known["enum"](validator, values, instance, schema)

    own = {"properties": fields, "required": required, "type": kind, "pattern": pattern, "enum": choice}
    return extend(Draft4Validator, own)

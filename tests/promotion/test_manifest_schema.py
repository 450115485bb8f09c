"""What a schema finds wrong with a manifest. A real Kubernetes 1.34 was asked about each of these by a dry run."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from orchestration.promotion.manifest_schema import faults, schema_name
from orchestration.promotion.problems import DependencyError
from orchestration.promotion.yaml_text import read_stream
from orchestration.promotion.yaml_values import value_of
from testbeds.common.tools import CHECKOUT
from testbeds.sandbox.cluster import api

SCHEMAS = json.loads((Path(api.__file__).parent / "openapi/apis-apps-v1.json").read_text())["components"]["schemas"]
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: iris, namespace: ml-apps}
spec:
  replicas: 2
  selector: {matchLabels: {app: iris}}
  template:
    metadata: {labels: {app: iris}}
    spec:
      containers:
        - name: model-server
          image: ghcr.io/acme/iris:v1
          ports: [{containerPort: 8080}]
          resources: {limits: {cpu: 1, memory: 512Mi}}
"""
CONTAINER = "spec.template.spec.containers[0]"
MEMORY = f"{CONTAINER}.resources.limits.memory"
NOTHING = "which is none of what may stand there"


def found(document: Any, *, strict: bool = True) -> list[str]:
    name = schema_name(SCHEMAS, document["apiVersion"], document["kind"])
    assert name is not None
    return faults(document, SCHEMAS, name, strict=strict)


def edited(old: str, new: str) -> Any:
    assert DEPLOYMENT.count(old) == 1
    return value_of(read_stream(DEPLOYMENT.replace(old, new).encode()).documents[0].root)


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ("containerPort: 8080", "containerPort: 8080, prot: TCP", f"{CONTAINER}.ports[0]: the field 'prot' is unknown"),
        ("  replicas: 2", "  replica: 2", "spec: the field 'replica' is unknown"),
        ("kind: Deployment", "kind: Deployment\nfoo: 1", "the field 'foo' is unknown"),
        ("replicas: 2", 'replicas: "2"', "spec.replicas: expected an integer, found '2'"),
        ("replicas: 2", "replicas: 2.5", "spec.replicas: expected an integer, found 2.5"),
        (
            "matchLabels: {app: iris}",
            "matchLabels: {app: yes}",
            "spec.selector.matchLabels.app: expected a string, found True",
        ),
        ("  selector: {matchLabels: {app: iris}}\n", "", "spec: the field 'selector' is missing"),
        ("- name: model-server\n          image", "- image", f"{CONTAINER}: the field 'name' is missing"),
        ("containerPort: 8080", "containerPort: null", f"{CONTAINER}.ports[0]: the field 'containerPort' is missing"),
        ("512Mi", "512 MB", f"{MEMORY}: found '512 MB', {NOTHING}"),
        ("512Mi", "512mb", f"{MEMORY}: found '512mb', {NOTHING}"),
        (
            "ports:",
            "env: [{name: A, value: 1}]\n          ports:",
            f"{CONTAINER}.env[0].value: expected a string, found 1",
        ),
        (
            "replicas: 2",
            "replicas: 2\n  strategy: {rollingUpdate: {maxSurge: 1.5}}",
            f"spec.strategy.rollingUpdate.maxSurge: found 1.5, {NOTHING}",
        ),
    ],
)
def test_what_the_api_server_cannot_decode_is_found(old: str, new: str, wrong: str) -> None:
    """Unknown and missing fields, and values of another type, each with its path."""
    assert found(edited(old, new)) == [wrong]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("iris:v1", "iris:v2"),
        ("cpu: 1", "cpu: 0.5"),
        ("cpu: 1", "cpu: 1e3"),
        ("cpu: 1", "cpu: 100m"),
        ("cpu: 1", "cpu: ' 100m '"),
        ("replicas: 2", "replicas: 2.0"),
        ("replicas: 2", "replicas: 2\n  strategy: {rollingUpdate: {maxSurge: 25%, maxUnavailable: 0}}"),
        ("template:\n    metadata: {", "template:\n    metadata: {creationTimestamp: null, "),
        ("spec:\n  replicas", "status: {}\nspec:\n  replicas"),
        ("ports:", "args: [~, a]\n          ports:"),
        ("ports:", 'env: [{name: A, value: "yes"}, {name: B}]\n          ports:'),
        ("ports:", "livenessProbe: {httpGet: {port: http, httpHeaders: [{name: X}]}}\n          ports:"),
        ("ports:", "lifecycle: {preStop: {sleep: {}}}\n          ports:"),
        ("containers:", "volumes: [{name: v, configMap: {name: x, defaultMode: 0644}}]\n      containers:"),
    ],
)
def test_what_the_api_server_takes_is_valid(old: str, new: str) -> None:
    """Numbers and texts where both may stand, nulls, and what is required on paper alone."""
    assert found(edited(old, new)) == []


def test_an_empty_text_is_no_value_of_kubernetes_own_kinds() -> None:
    """Their schemas list the values of some fields, and the API server puts the default in an empty one's place."""
    schemas = copy.deepcopy(SCHEMAS)
    schemas["io.k8s.api.core.v1.Container"]["properties"]["imagePullPolicy"]["enum"] = ["Always", "Never"]
    for value, wrong in (
        ('""', []),
        ("Always", []),
        ("always", [f"{CONTAINER}.imagePullPolicy: 'always' is not one of ['Always', 'Never']"]),
    ):
        document = edited("ports:", f"imagePullPolicy: {value}\n          ports:")
        assert faults(document, schemas, "io.k8s.api.apps.v1.Deployment", strict=True) == wrong


def test_an_unknown_field_may_be_dropped() -> None:
    """By a patch, which is how Argo CD applies by default, it is no error; a wrong type still is."""
    assert found(edited("  replicas: 2", "  replica: 2"), strict=False) == []
    assert found(edited("replicas: 2", "replicas: two"), strict=False) != []


def test_a_status_that_tools_leave_in_a_stateful_set_is_ignored() -> None:
    """Its schema requires fields of a status that is sent; `serviceName` was required before 1.34."""
    older = copy.deepcopy(SCHEMAS)
    older["io.k8s.api.apps.v1.StatefulSetSpec"]["required"].append("serviceName")
    document = edited("kind: Deployment", "kind: StatefulSet\nstatus: {}")
    name = schema_name(older, "apps/v1", "StatefulSet")
    assert name is not None
    assert faults(document, older, name, strict=True) == []


def test_a_schema_that_names_a_missing_one_is_the_clusters_fault() -> None:
    """Nothing is known of the manifest then."""
    part = {name: schema for name, schema in SCHEMAS.items() if not name.endswith(".DeploymentSpec")}
    with pytest.raises(DependencyError, match=r"found no /components/schemas/.*DeploymentSpec"):
        faults(edited("iris:v1", "iris:v2"), part, "io.k8s.api.apps.v1.Deployment", strict=True)


def test_a_kind_that_the_api_does_not_have_is_told() -> None:
    """By group, version and kind, as each schema says which it is."""
    assert schema_name(SCHEMAS, "apps/v1", "Rollout") is None
    assert schema_name(SCHEMAS, "apps/v1beta1", "Deployment") is None


ROLLOUT: dict[str, Any] = {
    "type": "object",
    "x-kubernetes-group-version-kind": [{"group": "argoproj.io", "version": "v1alpha1", "kind": "Rollout"}],
    "properties": {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"allOf": [{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}]},
        "spec": {
            "type": "object",
            "required": ["mode", "protocol", "nothing"],
            "properties": {
                "mode": {"type": "string", "enum": ["a", "b"]},
                "protocol": {"type": "string", "default": "TCP"},
                "port": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "cpu": {"x-kubernetes-int-or-string": True, "type": "string", "pattern": "^[0-9]+m?$"},
                "weight": {"type": "integer", "minimum": 0, "maximum": 100, "exclusiveMaximum": True},
                "odd": {"type": "string", "pattern": "^\\p{L}+$"},
                "class": {"type": "string", "pattern": "^[[:alpha:]]+$"},
                "nothing": {"type": "string", "nullable": True},
                "free": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": True,
                    "properties": {"n": {"type": "integer"}},
                },
            },
            "anyOf": [{"required": ["port"], "properties": {"mode": {"enum": ["a"]}}}, {"required": ["weight"]}],
        },
    },
}


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        ({"mode": "a", "port": 80, "odd": "1", "class": "abc", "nothing": None}, []),
        ({"mode": "b", "weight": 99, "cpu": 1, "free": {"n": 1, "more": []}}, []),
        ({"mode": "a", "port": "http", "cpu": "x"}, ["spec.cpu: 'x' does not match '^[0-9]+m?$'"]),
        ({"mode": "c", "weight": 1}, ["spec.mode: 'c' is not one of ['a', 'b']"]),
        ({"port": 80}, ["spec: the field 'mode' is missing"]),
        ({"mode": "a", "weight": 100}, ["spec.weight: 100 is greater than or equal to the maximum of 100"]),
        ({"mode": "a", "port": 1, "free": {"n": "x"}}, ["spec.free.n: expected an integer, found 'x'"]),
        ({"mode": "a", "port": 1, "extra": 1}, ["spec: the field 'extra' is unknown"]),
        ({"mode": "b", "port": [1]}, None),
    ],
)
def test_a_custom_resources_bounds_are_its_schemas(spec: dict[str, Any], wrong: list[str] | None) -> None:
    """Defaults and nulls count, fields may be open or both number and text, and Go's own expressions refuse nothing."""
    schemas = {"io.argoproj.v1alpha1.Rollout": ROLLOUT, **SCHEMAS}
    document = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "iris"}, "spec": spec}
    name = schema_name(schemas, "argoproj.io/v1alpha1", "Rollout")
    assert name == "io.argoproj.v1alpha1.Rollout"
    said = faults(document, schemas, name, strict=True)
    assert said == wrong if wrong is not None else said


@pytest.mark.parametrize(
    "file",
    [
        *(f"manifests/applications/{name}/deployment.yaml" for name in ("iris-classifier", "wine-quality")),
        *(f"testbeds/known_servers/{name}/deployment.yaml" for name in ("fastapi", "kserve", "mlserver")),
        "manifests/platform/monitoring/prometheus.yaml",
    ],
)
def test_manifests_that_run_are_valid(file: str) -> None:
    """Those of this project have been applied by a real API server."""
    for document in read_stream((CHECKOUT / file).read_bytes()).documents:
        value = value_of(document.root)
        if value["apiVersion"] == "apps/v1":
            assert found(value) == []

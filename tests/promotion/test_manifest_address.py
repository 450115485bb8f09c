"""Setting a model's address in a manifest: in a variable, an argument or a storageUri, and not a byte beside it."""

import pytest

from orchestration.promotion.deployed import Slot
from orchestration.promotion.manifest import (
    CurrentImage,
    Edited,
    EditRefused,
    Unchanged,
    read_image,
    read_variable,
    set_image,
)
from orchestration.promotion.manifest_place import Selector

VARIABLE, ARGUMENT, STORAGE_URI = Slot("variable", "MODEL_URI"), Slot("argument", "--model-uri"), Slot("storageUri")
OLD, NEW = "models:/iris/2", "models:/iris/7"
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: iris, namespace: ml} # the model
spec:
  template:
    spec:
      initContainers:
        - {name: other, image: "a/b:1", env: [{name: MODEL_URI, value: "models:/other/1"}]}
      containers:
        - name: server
          image: ghcr.io/acme/server:1
"""
INFERENCE_SERVICE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: iris, namespace: ml}
spec:
  predictor:
    minReplicas: 2
    model:
      modelFormat: {name: mlflow} # not the version
      storageUri: models:/iris/2
"""


def selector(slot: Slot, kind: str = "Deployment") -> Selector:
    return Selector("iris.yaml", kind, "ml", "iris", "server", slot=slot)


def with_lines(*lines: str) -> bytes:
    return (DEPLOYMENT + "".join(f"          {line}\n" for line in lines)).encode()


@pytest.mark.parametrize(
    ("slot", "lines"),
    [
        (
            VARIABLE,
            ["env:", "  - {name: A, value: b}", "  - name: MODEL_URI # which", "    value: models:/iris/2 # now"],
        ),
        (VARIABLE, ["env: [{value: 'models:/iris/2', name: MODEL_URI}]"]),
        (VARIABLE, ["env:", '  - {name: MODEL_URI, value: "models:/iris/2"}', "envFrom: [{configMapRef: {name: m}}]"]),
        (ARGUMENT, ["args: [serve, --model-uri=models:/iris/2, --port=8080]"]),
        (ARGUMENT, ["command:", "  - serve", "  - '--model-uri=models:/iris/2'"]),
        (ARGUMENT, ["command: [serve]", "args:", "  - --model-uri", "  - models:/iris/2 # now", "  - --verbose"]),
        (ARGUMENT, ["command: [serve, --model-uri]", "args: ['models:/iris/2']"]),
    ],
)
def test_only_the_address_changes(slot: Slot, lines: list[str]) -> None:
    """In each form, the address is read, and an edit replaces it and leaves every other byte."""
    content = with_lines(*lines)
    found = read_image(content, selector(slot))
    assert isinstance(found, CurrentImage)
    assert found.value == OLD
    edited = set_image(content, selector(slot), NEW, expected=OLD)
    assert isinstance(edited, Edited)
    assert (edited.old, edited.content) == (OLD, content.replace(OLD.encode(), NEW.encode()))
    assert isinstance(set_image(edited.content, selector(slot), NEW), Unchanged)


@pytest.mark.parametrize("model", ["model", "sklearn", "huggingface"])
def test_the_storage_uri_of_an_inference_service_is_an_address(model: str) -> None:
    """The `storageUri` of a predictor's model is read and replaced, also in KServe's older form."""
    manifest = INFERENCE_SERVICE.replace("    model:", f"    {model}:")
    chosen = selector(STORAGE_URI, "InferenceService")
    edited = set_image(manifest.encode(), chosen, NEW)
    assert isinstance(edited, Edited)
    assert edited.content.decode() == manifest.replace(OLD, NEW)


@pytest.mark.parametrize(
    ("slot", "lines", "found"),
    [
        (VARIABLE, [], "no variable MODEL_URI in env"),
        (VARIABLE, ["env: [{name: OTHER, value: models:/iris/2}]"], "no variable MODEL_URI in env"),
        (
            VARIABLE,
            ["env:", "  - {name: MODEL_URI, value: models:/iris/2}", "  - {name: MODEL_URI, value: models:/iris/1}"],
            "2 variables MODEL_URI in env, at lines 13, 14",
        ),
        (
            VARIABLE,
            ["env: [{name: MODEL_URI, valueFrom: {configMapKeyRef: {name: m, key: u}}}]"],
            "without a value of its own (valueFrom)",
        ),
        (
            VARIABLE,
            ["env: [{name: MODEL_URI, value: models:/iris/2, valueFrom: {configMapKeyRef: {name: m, key: u}}}]"],
            "without a value of its own (valueFrom)",
        ),
        (VARIABLE, ["env: [{name: MODEL_URI, value: models:/iris/$(NUMBER)}]"], "made of other variables"),
        (VARIABLE, ["env: [{name: MODEL_URI, value: {a: b}}]"], "more than a text"),
        (VARIABLE, ['env: [{name: MODEL_URI, value: ""}]'], "an empty address"),
        (VARIABLE, ["env: [{name: MODEL_URI, value: &shared models:/iris/2}]"], "the anchor &shared"),
        (VARIABLE, ["env: [{name: MODEL_URI, value: /opt/model}]"], "'/opt/model'"),
        (VARIABLE, ["env: [{name: MODEL_URI, value: 's3://me:secret@acme/iris'}]"], "s3://"),
        (VARIABLE, ["env: [{name: MODEL_URI, value: 'models:/iris/2?x=1'}]"], "'models:/iris/2?x=1'"),
        (VARIABLE, ["env: [{name: MODEL_URI, value: >-", "  models:/iris/2}]"], "not YAML"),
        (VARIABLE, ["env:", "  - name: MODEL_URI", "    value: >-", "      models:/iris/2"], "a block"),
        (ARGUMENT, [], "no argument --model-uri in command or args"),
        (ARGUMENT, ["args: [--model-uri=models:/iris/2, --model-uri, models:/iris/1]"], "2 arguments --model-uri"),
        (ARGUMENT, ["args: [serve, --model-uri]"], "argument --model-uri without a value after it"),
        (ARGUMENT, ["args: ['serve --model-uri=models:/iris/2']"], "no argument --model-uri"),
        (ARGUMENT, ["args: [--model-uri, {a: b}]"], "more than a text"),
        (STORAGE_URI, [], "no match"),
    ],
)
def test_what_has_no_one_place_is_refused(slot: Slot, lines: list[str], found: str) -> None:
    """A value that is missing, there twice, elsewhere, shared or not an address of its own is refused, unread."""
    for outcome in (read_image(with_lines(*lines), selector(slot)), set_image(with_lines(*lines), selector(slot), NEW)):
        assert isinstance(outcome, EditRefused)
        assert found in outcome.problem.found
        assert "secret" not in str(outcome.problem)


@pytest.mark.parametrize(
    "address",
    ["models:/iris/7\n", "models:/iris/7 # x", "models:/iris/7?a=b", "s3://me:secret@acme/iris", 'x"', "a/b:v1", ""],
)
def test_only_an_address_is_written(address: str) -> None:
    """A text with control characters, blanks, a query or a login never gets into a file, nor does an image."""
    content = with_lines("env: [{name: MODEL_URI, value: models:/iris/2}]")
    outcome = set_image(content, selector(VARIABLE), address)
    assert isinstance(outcome, EditRefused)
    assert "as the new address" in outcome.problem.found
    assert "secret" not in str(outcome.problem)


def test_an_address_that_someone_else_changed_is_not_overwritten() -> None:
    """With an expected address, a file that has another one is refused, and the refusal names both."""
    content = with_lines("env: [{name: MODEL_URI, value: models:/iris/3}]")
    outcome = set_image(content, selector(VARIABLE), NEW, expected=OLD)
    assert isinstance(outcome, EditRefused)
    assert (outcome.problem.expected, outcome.problem.found) == (f"the address {OLD}", "models:/iris/3")


def test_two_predictors_are_one_too_many() -> None:
    """When two documents match, neither is edited."""
    outcome = read_image(
        f"{INFERENCE_SERVICE}---\n{INFERENCE_SERVICE}".encode(), selector(STORAGE_URI, "InferenceService")
    )
    assert isinstance(outcome, EditRefused)
    assert "2 matches" in outcome.problem.found
    bare = INFERENCE_SERVICE.replace("      storageUri: models:/iris/2\n", "")
    assert isinstance(read_image(bare.encode(), selector(STORAGE_URI, "InferenceService")), EditRefused)


def test_another_variable_beside_the_address_is_read() -> None:
    """Beside an argument, the container's own `MODEL_URI` can be read, as beside an image."""
    content = with_lines("args: [--model-uri=models:/iris/2]", "env: [{name: MODEL_URI, value: models:/iris/9}]")
    variable = read_variable(content, selector(ARGUMENT), "MODEL_URI")
    assert variable is not None
    assert variable.value == "models:/iris/9"

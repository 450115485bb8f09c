"""Where a file has the image, or the model's address: in a container of a workload, or at a YAML path."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from orchestration.promotion.deployed import IMAGE, Slot, find_argument
from orchestration.promotion.manifest_fields import Field, split_image
from orchestration.promotion.policy import Policy
from orchestration.promotion.workload_kinds import JUDGED, POD_TEMPLATE, WITH_STORAGE_URI
from orchestration.promotion.yaml_text import (
    Document,
    MappingNode,
    Node,
    RefusedError,
    ScalarNode,
    SequenceNode,
    Stream,
    get,
    is_text_without_quotes,
    items,
    text_of,
)

# Where each kind has the pod's specification: those that can be judged, and others in whose manifests a person may set
# an image.
_POD_SPECS: dict[str, tuple[str, ...]] = {
    **{kind: judged.pod_spec for kind, judged in JUDGED.items()},
    "CronJob": ("spec", "jobTemplate", *POD_TEMPLATE),
    "Job": POD_TEMPLATE,
    "Pod": ("spec",),
    "ReplicaSet": POD_TEMPLATE,
    "ReplicationController": POD_TEMPLATE,
}
_FRAMEWORKS = (
    "huggingface",
    "lightgbm",
    "onnx",
    "paddle",
    "pmml",
    "pytorch",
    "sklearn",
    "tensorflow",
    "triton",
    "xgboost",
)
"""Fields of KServe's `PredictorSpec` (serving.kserve.io/v1beta1, 0.15) that hold a model, as `model` does."""
_STEP = re.compile(
    r"(?P<key>[A-Za-z0-9_-]+)(?:\[(?:(?P<index>[0-9]{1,4})|(?P<by>[A-Za-z0-9_-]+)=(?P<value>[^\[\]=]+))\])?(?:\.|$)"
)


@dataclass(frozen=True)
class Selector:
    """Which image, or which address, of a file is meant; a part that is None matches anything."""

    file: str
    """The file's name, for messages alone."""
    kind: str | None = None
    namespace: str | None = None
    name: str | None = None
    container: str | None = None
    yaml_path: str | None = None
    """With a path, the other parts describe the live workload and are not looked for in the file."""
    repository: str | None = None
    """Whose version a file has that gives no repository beside it."""
    slot: Slot = IMAGE

    @classmethod
    def of(cls, policy: Policy, slot: Slot | None = None) -> Self:
        """Return the selector of a policy's manifest: of what the policy deploys, unless another slot is meant."""
        target, slot = policy.manifest, slot or policy.slot
        names = (target.kind, target.namespace, target.name, target.container)
        repository = policy.images.repository if policy.deploys == "image" else None
        return cls(target.path, *names, target.yaml_path, repository, slot)

    @property
    def what(self) -> str:
        """What is meant, as a person calls it: `the image`, `the value of variable MODEL_URI`."""
        return (
            "the image"
            if self.slot == IMAGE
            else "the storageUri"
            if _is_uri(self.slot)
            else f"the value of {self.slot}"
        )

    def __str__(self) -> str:
        if self.yaml_path is not None:
            return self.yaml_path
        where = f"{self.kind or 'any workload'} {self.namespace or '*'}/{self.name or '*'}"
        return f"predictor of {where}" if _is_uri(self.slot) else f"container {self.container or '*'} of {where}"


def _is_uri(slot: Slot) -> bool:
    return slot.kind == "storageUri"


@dataclass(frozen=True)
class Place:
    """The scalars that hold the image: the whole of it in one, or its tag and digest apart; or an address in one."""

    fields: tuple[Field, ...]
    repository: str | None = None
    """For a tag or a digest: the repository of the image; None when nothing gives it."""
    container: Node | None = None
    """What holds a whole image, or an address: a container, unless a path leads to another kind of file."""
    before: str = ""
    """What stands before it in its scalar: `--model-uri=` before an address, `iris=` before a whole image."""

    @property
    def node(self) -> ScalarNode:
        """The first of the scalars."""
        return self.fields[0].node


def find_place(stream: Stream, selector: Selector) -> Place:
    """Find the scalars that a selector means.

    Raises:
        RefusedError: none or several match, or a scalar is shared, tagged or written over several lines.
    """
    if selector.slot.holds_address:
        return _place_of_address(stream, selector)
    if selector.yaml_path is not None:
        path = _by_path(stream, selector.yaml_path)
    else:
        path = _with_image(_by_container(stream, selector), selector)
    scalar = path[-1]
    if not isinstance(scalar, ScalarNode):
        finding = "a mapping (or a template)" if isinstance(scalar, MappingNode) else "a list"
        raise RefusedError(finding, line=scalar.line, expected=f"the image of {selector}, as a scalar")
    if selector.yaml_path is None:
        _require_plain(stream, [*path])
        return Place((Field(scalar, "whole"),), container=path[-2])
    key, siblings = _siblings(path, _STEP.findall(selector.yaml_path)[-1][0])
    split = split_image(key, scalar, siblings)
    for field in split.fields:
        _require_plain(stream, [*path[:-1], field.node])
    if split.fields[0].part == "whole":
        return Place(split.fields, container=path[-2], before=split.before)
    if "<<" in siblings:
        finding = "a merge key (<<), which may supply a digest or a repository"
        raise RefusedError(finding, line=siblings["<<"].line)
    return Place(split.fields, split.repository or selector.repository)


def _place_of_address(stream: Stream, selector: Selector) -> Place:
    """Find the one scalar that holds the model's address; nothing is ever added to a file."""
    path = _by_container(stream, selector)
    slot, container = selector.slot, path[-1]
    if slot.kind == "variable":
        found, before = _variable_path(path, slot.name, selector), ""
    elif slot.kind == "argument":
        found, before = _argument_path(path, slot.name, selector)
    else:
        uri = get(container, "storageUri")
        if uri is None:
            raise _missing(selector, "no storageUri", container.line)
        found, before = [*path, uri], ""
    scalar = found[-1]
    if not isinstance(scalar, ScalarNode):
        raise RefusedError("more than a text", line=scalar.line, expected=f"{selector.what} of {selector}, as a scalar")
    _require_plain(stream, found, "address")
    if "$(" in scalar.value:
        finding = "a value that is made of other variables, $(NAME)"
        raise RefusedError(finding, line=scalar.line, expected=f"{selector.what} of {selector}, as it is")
    return Place((Field(scalar, "address"),), container=container, before=before)


def _variable_path(path: list[Node], name: str, selector: Selector) -> list[Node]:
    """Return the path to the value of a variable in a container's `env`."""
    variables = get(path[-1], "env")
    entries = [entry for entry in items(variables) if text_of(get(entry, "name")) == name]
    if variables is None or len(entries) != 1:
        lines = ", ".join(str(entry.line) for entry in entries)
        found = f"{len(entries)} variables {name} in env, at lines {lines}" if entries else f"no variable {name} in env"
        raise _missing(selector, found, entries[1].line if entries else path[-1].line)
    (entry,) = entries
    value = get(entry, "value")
    if value is None or get(entry, "valueFrom") is not None:
        raise _missing(selector, f"variable {name} without a value of its own (valueFrom)", entry.line)
    return [*path, variables, entry, value]


def _argument_path(path: list[Node], name: str, selector: Selector) -> tuple[list[Node], str]:
    """Return the path to the text that holds an argument's value, and what stands before the value in it."""
    lists = [group for key in ("command", "args") if (group := get(path[-1], key)) is not None]
    texts = [(group, text) for group in lists for text in items(group)]
    values = [text.value if isinstance(text, ScalarNode) else "" for _, text in texts]
    found = list(find_argument(values, name))
    if len(found) != 1:
        lines = ", ".join(str(texts[min(at, len(texts) - 1)][1].line) for at, _ in found)
        several = f"{len(found)} arguments {name}, at lines {lines}"
        raise _missing(selector, several if found else f"no argument {name} in command or args", path[-1].line)
    ((at, before),) = found
    if at == len(texts):
        raise _missing(selector, f"argument {name} without a value after it", texts[-1][1].line)
    group, text = texts[at]
    return [*path, group, text], before


def _missing(selector: Selector, found: str, line: int) -> RefusedError:
    next_step = f"Let the file have {selector.slot} once there, with the address that serves now, and commit that."
    return RefusedError(found, line=line, expected=f"exactly one {selector.slot} of {selector}", next_step=next_step)


def _require_plain(stream: Stream, path: Sequence[Node], what: str = "image") -> None:
    """Refuse a scalar that is shared, tagged, empty, not text for YAML, or not on one line.

    Args:
        stream: The file.
        path: The nodes from the document's root to the scalar.
        what: What it holds, in words.
    """
    for node in path:
        if node.anchor is not None:
            raise RefusedError(f"the anchor &{node.anchor}, by which an alias may share the {what}", line=node.line)
        if node.tag is not None and not node.tag.startswith("tag:yaml.org,2002:"):
            raise RefusedError(f"the tag {node.tag}", line=node.line)
    scalar = path[-1]
    assert isinstance(scalar, ScalarNode), "only scalars are edited"
    source = stream.source(scalar)
    if scalar.tag is not None:
        raise RefusedError(f"an {what} with a YAML tag ({source.split()[0]})", line=scalar.line)
    if "\n" in source or "\r" in source:
        raise RefusedError(f"an {what} that is written as a block or over several lines", line=scalar.line)
    if scalar.value == "":
        raise RefusedError(f"an empty {what}", line=scalar.line, next_step=f"Write the {what} that is running there.")
    if not (scalar.style or is_text_without_quotes(scalar.value)):
        raise RefusedError(
            f"{scalar.value} without quotes, which YAML does not read as text",
            line=scalar.line,
            next_step="Put it in quotes by hand: without them, 1.10 is the number 1.1.",
        )


def literal_variable(place: Place, name: str) -> ScalarNode | None:
    """Return the value that the container at a place gives a variable in its `env`.

    None when it does not set it, or when the value is elsewhere: `valueFrom`, another variable (`$(NAME)`), a merge
    key. Of two variables of one name the later one counts, as for the kubelet.
    """
    try:
        entries = [entry for entry in items(get(place.container, "env")) if text_of(get(entry, "name")) == name]
        value = get(entries[-1], "value") if entries and get(entries[-1], "valueFrom") is None else None
    except RefusedError:
        return None
    return value if isinstance(value, ScalarNode) and "$(" not in value.value else None


def _by_container(stream: Stream, selector: Selector) -> list[Node]:
    """Return the nodes from a document's root down to the one container, or predictor, that matches."""
    candidates: list[list[Node]] = []
    examined: list[str] = []
    for above in _resources(stream.documents):
        resource = above[-1]
        kind = text_of(get(resource, "kind"))
        if kind is None or (kind not in _POD_SPECS and selector.kind != kind):
            continue
        metadata = get(resource, "metadata")
        name, namespace = text_of(get(metadata, "name")), text_of(get(metadata, "namespace"))
        described = f"{kind} {namespace or '-'}/{name} (line {resource.line})"
        if selector.kind not in (None, kind):
            examined.append(described)
            continue
        # A document without a namespace is deployed to the Application's, so it may be the one that is meant.
        if selector.name not in (None, name) or (namespace is not None and selector.namespace not in (None, namespace)):
            examined.append(described)
            continue
        if kind not in _POD_SPECS:
            raise RefusedError(
                f"{described}, a kind whose containers incumbent cannot find",
                line=resource.line,
                expected=f"one of {', '.join(sorted(_POD_SPECS))}",
                next_step="Name the field with manifest.yaml_path in the policy.",
            )
        if _is_uri(selector.slot):
            examined.append(described)
            candidates += _predictors(above) if kind == WITH_STORAGE_URI else []
            continue
        for path in _containers(above, _POD_SPECS[kind]):
            label = text_of(get(path[-1], "name"))
            examined.append(f"container {label} of {described}")
            if label is not None and selector.container in (None, label):
                candidates.append(path)
    if len(candidates) != 1:
        lines = ", ".join(str(path[-1].line) for path in candidates)
        others = "; ".join(described[:200] for described in examined[:10])
        none = f"no match, only {others}" if examined else "no match"
        raise RefusedError(
            f"{len(candidates)} matches, at lines {lines}" if candidates else none,
            line=candidates[1][-1].line if candidates else None,
            expected=f"exactly one {selector}",
            next_step="Name the kind, namespace, name and container that you mean, or correct the file.",
        )
    return candidates[0]


def _with_image(path: list[Node], selector: Selector) -> list[Node]:
    image = get(path[-1], "image")
    if image is None:
        raise RefusedError("a container without an image", line=path[-1].line, expected=f"the image of {selector}")
    return [*path, image]


def _predictors(above: list[Node]) -> Iterator[list[Node]]:
    """Yield the path to the model of an InferenceService's predictor, which has its address as `storageUri`.

    KServe still takes the older form, in which the model stands under its framework's name.
    """
    spec = get(above[-1], "spec")
    predictor = get(spec, "predictor")
    for key in ("model", *_FRAMEWORKS):
        model = get(predictor, key)
        if spec is not None and predictor is not None and model is not None:
            yield [*above, spec, predictor, model]


def _resources(documents: Sequence[Document]) -> Iterator[list[Node]]:
    """Yield the path to each document's root, and to each item of a document that is a List."""
    for document in documents:
        root = document.root
        yield [root]
        if (text_of(get(root, "kind")) or "").endswith("List"):
            group = get(root, "items")
            if group is not None:
                yield from ([root, group, item] for item in items(group))


def _containers(above: list[Node], keys: Sequence[str]) -> Iterator[list[Node]]:
    """Yield the path to each container and init container; a name is unique among both."""
    spec = list(above)
    for key in keys:
        below = get(spec[-1], key)
        if below is None:
            return
        spec.append(below)
    for key in ("containers", "initContainers"):
        group = get(spec[-1], key)
        if group is not None:
            yield from ([*spec, group, container] for container in items(group))


def _by_path(stream: Stream, path: str) -> list[Node]:
    steps = list(_STEP.finditer(path))
    if not steps or "".join(step[0] for step in steps) != path or path.endswith("."):
        raise RefusedError(
            f"the path {path!r}",
            expected="a YAML path such as images[name=iris].newTag or image.tag",
            next_step="Correct manifest.yaml_path in the policy.",
        )
    paths = [nodes for document in stream.documents if (nodes := _follow(document.root, steps)) is not None]
    if len(paths) != 1:
        raise RefusedError(
            f"{len(paths)} documents that have this path",
            expected=f"exactly one document with {path}",
            next_step="Correct manifest.yaml_path in the policy, or the file.",
        )
    return paths[0]


def scalar_paths(stream: Stream) -> Iterator[str]:
    """Yield the paths to the scalars of a file that a `yaml_path` can name; a list's elements by their `name`."""
    for document in stream.documents:
        yield from _paths_below(document.root, "")


def _paths_below(node: Node, path: str) -> Iterator[str]:
    if isinstance(node, ScalarNode):
        yield path
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            yield from _paths_below(value, f"{path}.{key.value}".lstrip("."))
    else:
        for element in items(node):
            name = text_of(get(element, "name")) if isinstance(element, MappingNode) else None
            if name is not None:
                yield from _paths_below(element, f"{path}[name={name}]")


def _follow(root: Node, steps: Sequence[re.Match[str]]) -> list[Node] | None:
    nodes = [root]
    for number, step in enumerate(steps):
        _require_no_text(nodes[-1], steps[number - 1]["key"] if number else "")
        below = get(nodes[-1], step["key"])
        if below is None:
            return None
        nodes.append(below)
        if step["index"] is None and step["by"] is None:
            continue
        elements = items(below)
        if step["index"] is not None:
            chosen = list(elements[int(step["index"]) :][:1])
        else:
            chosen = [element for element in elements if text_of(get(element, step["by"])) == step["value"]]
        if len(chosen) > 1:
            raise RefusedError(f"{len(chosen)} elements with {step['by']}={step['value']}", line=chosen[1].line)
        if not chosen:
            return None
        nodes.append(chosen[0])
    return nodes


def _require_no_text(node: Node, key: str) -> None:
    """Refuse a path that leads into a text: what looks like YAML there is one scalar, edited only as a whole."""
    if not isinstance(node, ScalarNode) or not ("\n" in node.value or (key == "values" and node.value)):
        return
    into = "Turn it into a mapping by hand, and commit that."
    if key == "values":
        into = "Move what is in it to valuesObject, a mapping that Argo CD reads the same way, and commit that."
    raise RefusedError(f"a text at {key}", line=node.line, expected=f"a mapping at {key}", next_step=into)


def _siblings(path: Sequence[Node], key: str) -> tuple[str, Mapping[str, Node]]:
    """Return the name of a path's last field, and the fields beside it.

    An entry of an Application's Helm parameters is a field by its name: `image.tag` beside `image.repository`.
    """
    parent = path[-2]
    parameter = text_of(get(parent, "name")) if key == "value" else None
    if parameter is None or len(path) < 3 or not isinstance(path[-3], SequenceNode):
        return key, {name.value: value for name, value in parent.value} if isinstance(parent, MappingNode) else {}
    above, _, field = parameter.rpartition(".")
    beside = {}
    for entry in items(path[-3]):
        of, _, name = (text_of(get(entry, "name")) or "").rpartition(".")
        value = get(entry, "value")
        if of == above and value is not None:
            beside[name] = value
    return field, beside

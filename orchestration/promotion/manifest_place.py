"""Where a file has the image: in a container of a workload, or at a YAML path."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from orchestration.promotion.policy import ManifestTarget
from orchestration.promotion.yaml_text import (
    Document,
    MappingNode,
    Node,
    RefusedError,
    ScalarNode,
    Stream,
    get,
    is_text_without_quotes,
    items,
    text_of,
)

# Where each kind has the pod's specification.
_TEMPLATE = ("spec", "template", "spec")
_POD_SPECS: dict[str, tuple[str, ...]] = {
    "DaemonSet": _TEMPLATE,
    "Deployment": _TEMPLATE,
    "Job": _TEMPLATE,
    "ReplicaSet": _TEMPLATE,
    "ReplicationController": _TEMPLATE,
    "Rollout": _TEMPLATE,
    "StatefulSet": _TEMPLATE,
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
    "InferenceService": ("spec", "predictor"),
    "Pod": ("spec",),
}
_STEP = re.compile(
    r"(?P<key>[A-Za-z0-9_-]+)(?:\[(?:(?P<index>[0-9]{1,4})|(?P<by>[A-Za-z0-9_-]+)=(?P<value>[^\[\]=]+))\])?(?:\.|$)"
)
Part = Literal["whole", "tag", "digest"]
_PARTS: dict[str, Part] = {"newTag": "tag", "tag": "tag", "digest": "digest"}
_NAME_FIELDS = frozenset({"name", "newName", "registry", "repository"})


@dataclass(frozen=True)
class Selector:
    """Which image of a file is meant; a part that is None matches anything."""

    file: str
    """The file's name, for messages alone."""
    kind: str | None = None
    namespace: str | None = None
    name: str | None = None
    container: str | None = None
    yaml_path: str | None = None
    """With a path, the other parts describe the live workload and are not looked for in the file."""

    @classmethod
    def of(cls, target: ManifestTarget) -> Self:
        """Return the selector of a policy's manifest."""
        return cls(target.path, target.kind, target.namespace, target.name, target.container, target.yaml_path)

    def __str__(self) -> str:
        if self.yaml_path is not None:
            return self.yaml_path
        where = f"{self.namespace or '*'}/{self.name or '*'}"
        return f"container {self.container or '*'} of {self.kind or 'any workload'} {where}"


@dataclass(frozen=True)
class Place:
    """The one scalar that holds the image, or the part of it that the file keeps apart."""

    node: ScalarNode
    part: Part = "whole"
    repository: str | None = None
    """For a part: the repository that the file gives beside it; None when it gives none."""
    container: Node | None = None
    """What holds a whole image: a container, unless a path leads to another kind of file."""


def find_place(stream: Stream, selector: Selector) -> Place:
    """Find the scalar that a selector means.

    Raises:
        RefusedError: none or several match, or the scalar is shared, tagged or written over several lines.
    """
    path = _by_path(stream, selector.yaml_path) if selector.yaml_path is not None else _by_container(stream, selector)
    scalar = path[-1]
    if not isinstance(scalar, ScalarNode):
        finding = "a mapping (or a template)" if isinstance(scalar, MappingNode) else "a list"
        raise RefusedError(finding, line=scalar.line, expected=f"the image of {selector}, as a scalar")
    for node in path:
        if node.anchor is not None:
            raise RefusedError(f"the anchor &{node.anchor}, by which an alias may share the image", line=node.line)
        if node.tag is not None and not node.tag.startswith("tag:yaml.org,2002:"):
            raise RefusedError(f"the tag {node.tag}", line=node.line)
    source = stream.source(scalar)
    if scalar.tag is not None:
        raise RefusedError(f"an image with a YAML tag ({source.split()[0]})", line=scalar.line)
    if "\n" in source or "\r" in source:
        raise RefusedError("an image that is written as a block or over several lines", line=scalar.line)
    if scalar.value == "":
        raise RefusedError("an empty image", line=scalar.line, next_step="Write the image that is running there.")
    if not (scalar.style or is_text_without_quotes(scalar.value)):
        raise RefusedError(
            f"{scalar.value} without quotes, which YAML does not read as text",
            line=scalar.line,
            next_step="Put it in quotes by hand: without them, 1.10 is the number 1.1.",
        )
    if selector.yaml_path is None:
        return Place(scalar, container=path[-2])
    return _place_of_field(_STEP.findall(selector.yaml_path)[-1][0], scalar, path[-2])


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
    """Return the nodes from a document's root down to the image of the one container that matches."""
    candidates: list[list[Node]] = []
    examined: list[str] = []
    for above in _resources(stream.documents):
        resource = above[-1]
        kind = text_of(get(resource, "kind"))
        if kind is None or selector.kind not in (None, kind) or (kind not in _POD_SPECS and selector.kind is None):
            continue
        metadata = get(resource, "metadata")
        name, namespace = text_of(get(metadata, "name")), text_of(get(metadata, "namespace"))
        described = f"{kind} {namespace or '-'}/{name} (line {resource.line})"
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
    (path,) = candidates
    image = get(path[-1], "image")
    if image is None:
        raise RefusedError("a container without an image", line=path[-1].line, expected=f"the image of {selector}")
    return [*path, image]


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


def _follow(root: Node, steps: Sequence[re.Match[str]]) -> list[Node] | None:
    nodes = [root]
    for step in steps:
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


def _place_of_field(field: str, node: ScalarNode, parent: Node) -> Place:
    """Say what a path's last field holds, and which repository is beside it (Kustomize `images[]`, Helm values)."""
    if field in _NAME_FIELDS:
        raise RefusedError(
            f"the field {field}, which holds a name and not a version",
            line=node.line,
            expected="a path to the whole image, its tag or its digest",
            next_step="Let manifest.yaml_path end in newTag, tag, digest, or the field of the whole image.",
        )
    part = _PARTS.get(field, "whole")
    if part == "whole":
        return Place(node, container=parent)
    rivals = ("digest", "tagSuffix") if part == "tag" else ("newTag", "tag", "tagSuffix")
    for rival in rivals:
        beside = get(parent, rival)
        if text_of(beside) is not None:
            raise RefusedError(
                f"{rival} beside {field}, which make up the image together",
                line=beside.line if beside is not None else None,
                expected="the version in one field",
                next_step=f"Remove {rival} from the file; newTag and tag may hold tag@digest.",
            )
    registry, repository = text_of(get(parent, "registry")), text_of(get(parent, "repository"))
    if repository is None:
        repository = text_of(get(parent, "newName")) or text_of(get(parent, "name"))
    return Place(node, part, f"{registry}/{repository}" if registry and repository else repository)

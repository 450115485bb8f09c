"""`python -m bootstrap new-model`: everything that a model on edge needs, made from a model that is there already.

The scaffold has no templates of its own: its files are those of another model, with the names replaced, so that they
cannot fall behind what the platform's models have. Lists get a copy of that model's entry.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bootstrap.owner import FILE, MODEL_NAME, Owner, parse_owner, read_owner
from bootstrap.places import follow, nodes_at, places
from orchestration.promotion.alert_rules import alert_rules
from orchestration.promotion.images import ImageRef, parse_image
from orchestration.promotion.manifest import Edited, EditRefused, set_image
from orchestration.promotion.manifest_place import Selector
from orchestration.promotion.policy import parse_policy
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.yaml_text import MappingNode, Node, ScalarNode, items, read_stream

_PORTS = range(30808, 30850)
"""The NodePorts of models on edge: what docs/clusters.md lets through in the tailnet."""
_APPLICATIONS, _POLICIES = "manifests/applications", "policies"
_KUSTOMIZATION = "argocd-apps/kustomization.yaml"
_LIST = f"{_POLICIES}/Kustomization"
"""The policies that Dagster on Kubernetes reads."""
_ACCESS = "manifests/platform/access"
_RIGHTS = {f"{_ACCESS}/control-plane/incumbent.yaml": 1, f"{_ACCESS}/dagster/dagster.yaml": 2}
"""The files with rights on Applications, each with the number of roles that name them."""
_SCRAPING = "manifests/platform/monitoring/config/scrape-models.yml"
_RULES = "manifests/platform/monitoring/rules/slos.yml"
_K3D = "testbeds/homelab/k3d/edge.yaml"
_NODE_PORT = re.compile(r"nodePort: (\d+)")


@dataclass(frozen=True)
class NewModel:
    """What a person says of a model that is to be served."""

    name: str
    """Of its Deployment, Service, Application and folder."""
    image: str
    """The image that serves first, with a tag or a digest."""
    registered_model: str
    """Its name in MLflow."""
    like: str
    """The model whose files are taken."""


def scaffold(root: Path, model: NewModel) -> Iterator[str]:
    """Write everything that the model needs into a checkout.

    Yields:
        Each file that was written, for a person, and what to do next.

    Raises:
        InvalidInputError: the name is taken or wrong, or the image is none; nothing was written.
    """
    owner = read_owner(root)
    _require_new(root, model, owner)
    image = _require_image(model.image)
    new_port = _free_port(root)
    content = dict(_own_files(root, model, image, new_port))
    content |= _lists(root, model, new_port)
    settings = _with_model((root / FILE).read_text(encoding="utf-8"), owner, model.name, image.repository)
    content[FILE] = settings.encode()
    table = places(parse_owner(settings))
    for file, text in content.items():
        content[file], _ = follow(file, text, table)
    content[_RULES] = _rules(root, content).encode()
    for file, text in sorted(content.items()):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(text)
        yield f"{file}: written"
    yield from _next_steps(model, new_port, _policies_in(content))


def _require_new(root: Path, model: NewModel, owner: Owner) -> None:
    if not MODEL_NAME.fullmatch(model.name):
        expected = "lower-case letters, digits and dashes, 63 at most, as Kubernetes takes them"
        raise InvalidInputError(Problem("name of the model", expected, repr(model.name), "Choose another name."))
    if model.like not in owner.models:
        known = f"a model of {FILE}: {', '.join(owner.models)}"
        raise InvalidInputError(Problem("--like", known, repr(model.like), "Name one of these."))
    taken = [f"{_APPLICATIONS}/{model.name}", f"argocd-apps/{model.name}-app.yaml"]
    taken += [_renamed(file, model) for file in _policies_of(root, model.like)]
    found = [file for file in taken if (root / file).exists()]
    found += [f"{FILE}, models"] if model.name in owner.models else []
    if found:
        expected = "no model of that name, so that nothing is overwritten"
        raise InvalidInputError(Problem(f"model {model.name}", expected, ", ".join(found), "Choose another name."))


def _require_image(text: str) -> ImageRef:
    image = parse_image(text)
    if image is None or (image.tag is None and image.digest is None) or "/" not in image.repository:
        expected = "the image that serves first, such as ghcr.io/you/fraud:1.4.0"
        raise InvalidInputError(
            Problem("--image", expected, repr(text), "Give it with its registry and a tag or digest.")
        )
    return image


def _free_port(root: Path) -> int:
    texts = (path.read_text(encoding="utf-8") for path in (root / "manifests").rglob("*.yaml"))
    taken = {int(port) for text in texts for port in _NODE_PORT.findall(text)}
    free = next((port for port in _PORTS if port not in taken), None)
    if free is None:
        expected = f"a free NodePort from {_PORTS.start} to {_PORTS.stop - 1}"
        raise InvalidInputError(
            Problem("manifests", expected, "none", "Remove a model, or give one of them another port.")
        )
    return free


def _own_files(root: Path, model: NewModel, image: ImageRef, port: int) -> Iterator[tuple[str, bytes]]:
    """Yield the files that only this model has: manifests, Application and policies."""
    manifests = [path.relative_to(root).as_posix() for path in (root / _APPLICATIONS / model.like).iterdir()]
    for file in sorted([*manifests, f"argocd-apps/{model.like}-app.yaml"]):
        text = _renamed((root / file).read_text(encoding="utf-8"), model)
        content = _NODE_PORT.sub(f"nodePort: {port}", text).encode()
        if file.endswith("/deployment.yaml"):
            content = _with_image(_renamed(file, model), content, image)
        yield _renamed(file, model), content
    for file in _policies_of(root, model.like):
        text = _renamed((root / file).read_text(encoding="utf-8"), model)
        text = re.sub(r"^model: .*$", lambda _: f"model: {model.registered_model}", text, flags=re.MULTILINE)
        text = re.sub(r"(?m)^(service: .*?url: \S+?:)\d+", rf"\g<1>{port}", text)
        text = re.sub(r"(?m)^(image: .*?repository: )[^\s,}]+", lambda match: f"{match[1]}{image.repository}", text)
        yield _renamed(file, model), text.encode()


def _with_image(file: str, content: bytes, image: ImageRef) -> bytes:
    edit = set_image(content, Selector(file, container="model-server"), str(image))
    if isinstance(edit, EditRefused):
        raise InvalidInputError(edit.problem)
    return edit.content if isinstance(edit, Edited) else content


def _lists(root: Path, model: NewModel, port: int) -> dict[str, bytes]:
    """Return the files that list models, with one more: rights, policies, applications, scraping and edge's ports."""
    old_port = _port_of(root, model.like)
    names = {f"{model.like}-app.yaml": f"{model.name}-app.yaml"}
    service = {f"edge:{old_port}": f"edge:{port}", model.like: model.name}
    published = {f":{old_port}:{old_port}": f":{port}:{port}"}
    jobs = "scrape_configs[job_name=edge-services].static_configs"
    return {
        **{file: _with_application(root, file, roles, model) for file, roles in _RIGHTS.items()},
        _LIST: _with_policies(root, model),
        _KUSTOMIZATION: _with_entry(root, _KUSTOMIZATION, "resources", names),
        _SCRAPING: _with_entry(root, _SCRAPING, jobs, service),
        _K3D: _with_entry(root, _K3D, "ports", published),
    }


def _with_policies(root: Path, model: NewModel) -> bytes:
    """Let Dagster on Kubernetes read the model's policies, too: each is named after the one that it was made of.

    Raises:
        InvalidInputError: that one is not in the list.
    """
    text = (root / _LIST).read_text(encoding="utf-8")
    for file in _policies_of(root, model.like):
        name = file.removeprefix(f"{_POLICIES}/")
        new = _renamed(name, model)
        text, count = re.subn(rf"(?m)^( +- ){re.escape(name)}\n", rf"\g<0>\g<1>{new}\n", text)
        if count != 1:
            raise InvalidInputError(Problem(_LIST, f"{name} once", f"{count} times", f"Write {new} into it by hand."))
    return text.encode()


def _with_application(root: Path, file: str, roles: int, model: NewModel) -> bytes:
    """Let the rights on Applications name one more.

    Raises:
        InvalidInputError: they are not written as they were.
    """
    text = (root / file).read_text(encoding="utf-8")
    changed, count = re.subn(r"(?m)^ +resourceNames:.*\n(?:( +- ).*\n)+", rf"\g<0>\g<1>{model.name}\n", text)
    if count != roles:
        expected = f"lists resourceNames of the Applications that the pipeline may read, an entry a line: {roles}"
        raise InvalidInputError(Problem(file, expected, str(count), f"Write {model.name} into it by hand."))
    return changed.encode()


def _with_entry(root: Path, file: str, path: str, replaced: Mapping[str, str]) -> bytes:
    """Copy the entry of a list that has the first of some texts, with these replaced, to the list's end.

    Raises:
        InvalidInputError: there is no such entry, or the copy would change something else.
    """
    text = (root / file).read_text(encoding="utf-8")
    wanted = next(iter(replaced))
    entries = [entry for node in nodes_at(_root(text), path) for entry in items(node)]
    like = [entry for entry in entries if any(wanted in scalar.value for scalar in _scalars_in(entry))]
    if len(like) != 1:
        expected = f"one entry with {wanted} in the list {path}"
        raise InvalidInputError(Problem(file, expected, f"{len(like)}", f"Write the model into {file} by hand."))
    lines = text.splitlines(keepends=True)
    first, last = _line(text, like[0].start), _line(text, _end(like[0]))
    copy = "".join(lines[first : last + 1])
    for old, new in replaced.items():
        copy = copy.replace(old, new)
    end = _line(text, _end(entries[-1])) + 1
    return "".join((*lines[:end], copy, *lines[end:])).encode()


def _with_model(text: str, owner: Owner, name: str, repository: str) -> str:
    """Return homelab.yaml's text with one more model; the repository is shortened if it is in the owner's registry."""
    short = repository.removeprefix(f"{owner.registry}/")
    (models,) = nodes_at(_root(text), "models")
    assert isinstance(models, MappingNode), "the settings were read a moment ago"
    key, value = models.value[-1]
    lines = text.splitlines(keepends=True)
    end = _line(text, value.end) + 1
    indent = " " * (key.start - text.rfind("\n", 0, key.start) - 1)
    return "".join((*lines[:end], f"{indent}{name}: {short if '/' not in short else repository}\n", *lines[end:]))


def _rules(root: Path, new: Mapping[str, bytes]) -> str:
    """Return the alerts of all policies, as `incumbent rules` prints them."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (root / _POLICIES).glob("*.yaml")}
    texts |= {Path(file).stem: new[file].decode() for file in _policies_in(new)}
    return alert_rules([parse_policy(name, texts[name]) for name in sorted(texts)])


def _policies_in(files: Iterable[str]) -> list[str]:
    return [file for file in files if file.startswith(f"{_POLICIES}/") and file != _LIST]


def _policies_of(root: Path, model: str) -> list[str]:
    """Return the files of the policies that promote into a model's folder."""
    found = []
    for path in sorted((root / _POLICIES).glob("*.yaml")):
        policy = parse_policy(path.stem, path.read_text(encoding="utf-8"))
        if policy.manifest.path.startswith(f"{_APPLICATIONS}/{model}/"):
            found.append(path.relative_to(root).as_posix())
    return found


def _port_of(root: Path, model: str) -> str:
    match = _NODE_PORT.search((root / _APPLICATIONS / model / "service.yaml").read_text(encoding="utf-8"))
    if match is None:
        expected, step = "a NodePort, which the new model's is made from", "Name another model with --like."
        raise InvalidInputError(Problem(f"{_APPLICATIONS}/{model}/service.yaml", expected, "none", step))
    return match[1]


def _renamed(text: str, model: NewModel) -> str:
    return re.sub(rf"(?<![\w-]){re.escape(model.like)}(?!\w)", model.name, text)


def _root(text: str) -> Node:
    return read_stream(text.encode()).documents[0].root


def _end(node: Node) -> int:
    """Return where the last text of a node ends; a block's own end is behind the comments that follow it."""
    return max(scalar.end for scalar in _scalars_in(node))


def _scalars_in(node: Node) -> Iterator[ScalarNode]:
    if isinstance(node, ScalarNode):
        yield node
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            yield key
            yield from _scalars_in(value)
    else:
        for element in items(node):
            yield from _scalars_in(element)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position)


def _next_steps(model: NewModel, port: int, policies: list[str]) -> Iterator[str]:
    yield f"It serves at NodePort {port} of edge. Next:"
    yield f"- Set the bounds in {', '.join(policies)}: they are those of {model.like}."
    yield f"- Look at the port, the probes and the resources in {_APPLICATIONS}/{model.name}/deployment.yaml."
    yield f"- Let edge publish the port: Docker does so when it makes a node, so create edge again from {_K3D}."
    accounts = f"python -m bootstrap mlflow-accounts --model {model.registered_model}=EXPERIMENT"
    yield f"- Give the pipeline its rights in MLflow: {accounts}"
    yield f"- Commit and push; put {_APPLICATIONS}/{model.name} onto the models' branch, too. Argo CD brings the rest."

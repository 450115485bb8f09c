"""Every place that follows from an owner's settings, and how a file is brought in agreement with them.

A place is a scalar at a path of a YAML file, or a text in a page. Only the part that is the owner's is replaced, where
it stands, so that comments, order and what a promotion wrote stay as they are (decision 2). What does not look like
such a place is refused and never overwritten.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

from bootstrap.owner import FILE, Owner
from orchestration.promotion.manifest import splice
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.redact import redact
from orchestration.promotion.yaml_text import (
    Document,
    MappingNode,
    Node,
    RefusedError,
    ScalarNode,
    Stream,
    items,
    read_stream,
    text_of,
)

_OURS = ("spec.source.path", r"(manifests/(?!applications/).*|argocd-apps)")
_SERVING = ("spec.source.path", r"manifests/applications/.*")
"""Of Applications: the platform's, and the models'. Others, such as one of a chart, keep their addresses."""
_PROJECTS, _SERVING_PROJECTS = ("metadata.name", r"(?!models$|kserve$).*"), ("metadata.name", "models|kserve")
_URL = r"(?P<value>https?://\S+)"
_HOST = r"(?P<value>[A-Za-z0-9.-]+)"
_IMAGE = r"(?P<value>[^\s:@]+(?::\d+/[^\s:@]+)?)(?:[:@]\S+)?"
_STEP = re.compile(r"(?P<key>[^.\[\]]+)(?:\[(?:(?P<all>\*)|(?P<index>\d+)|(?P<by>[^=\]]+)=(?P<name>[^\]]+))\])?")
_POD = "spec.template.spec"


@dataclass(frozen=True)
class Place:
    """Where one value of the settings stands in other files."""

    what: str
    """What stands there, in words."""
    value: str
    """What should stand there."""
    files: str
    """A file below the checkout, or a pattern of names in a folder and below it, such as `policies/*.yaml`."""
    path: str = ""
    """The path of the scalar in each document, such as `spec.ports[name=http].port` or `args[*]`; none in a page."""
    form: str = r"(?P<value>\S+)"
    """What the scalar must look like as a whole, or what is searched in a page; its group `value` is replaced."""
    kind: str | None = None
    """The kind of the documents that have it; None for every document."""
    only: tuple[str, str] | None = None
    """A path and the form of what stands there, in the documents that have it."""
    starts: str = ""
    """How the scalars that are meant start, where a list holds others beside them."""
    optional: bool = False
    """Whether a document may lack it."""


@dataclass(frozen=True)
class Difference:
    """A place that does not have what the settings say."""

    file: str
    line: int
    what: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.what} is {redact(self.found)}, and {FILE} says {self.wanted}"


def places(owner: Owner) -> tuple[Place, ...]:
    """Return every place, with what the settings say."""
    models = (place for model in owner.models for place in _of_model(owner, model))
    return (*_of_repository(owner), *_of_platform(owner), *_of_dagster(owner), *models, *_of_clusters(owner))


def follow(file: str, content: bytes, table: Sequence[Place]) -> tuple[bytes, list[Difference]]:
    """Bring a file's content in agreement with the settings.

    Args:
        file: Its path below the checkout, with slashes.
        content: What it has.
        table: The places of the settings.

    Returns:
        The new content, and the places that differed.

    Raises:
        InvalidInputError: something stands in a place that does not look like it; nothing of it is overwritten.
    """
    differences: list[Difference] = []
    for place in table:
        if fnmatchcase(file, place.files):
            try:
                content, found = _in_yaml(file, content, place) if place.path else _in_page(file, content, place)
            except RefusedError as refused:
                where = file if refused.line is None else f"{file}, line {refused.line}"
                problem = Problem(where, refused.expected, refused.found, refused.next_step)
                raise InvalidInputError(problem) from refused
            differences += found
    return content, differences


def find_scalar(document: Document, path: str) -> ScalarNode:
    """Return the scalar at a path of a document.

    Raises:
        RefusedError: there is none.
    """
    for node in nodes_at(document.root, path):
        if isinstance(node, ScalarNode):
            return node
    raise RefusedError(f"no setting {path}", line=document.root.line)


def _of_repository(owner: Owner) -> tuple[Place, ...]:
    files, workflows = "argocd-apps/*.yaml", ".github/workflows/*.yml"
    source, kind = "spec.source", "Application"
    serving, models, sources = owner.serving_repository, owner.serving.branch, "spec.sourceRepos[0]"
    return (
        Place("the repository", owner.repository, files, f"{source}.repoURL", _URL, kind, _OURS),
        Place("the branch", owner.branch, files, f"{source}.targetRevision", kind=kind, only=_OURS),
        Place("the repository", owner.repository, files, sources, _URL, "AppProject", _PROJECTS),
        Place("the models' repository", serving, files, f"{source}.repoURL", _URL, kind, _SERVING),
        Place("the models' branch", models, files, f"{source}.targetRevision", kind=kind, only=_SERVING),
        Place("the models' repository", serving, files, sources, _URL, "AppProject", _SERVING_PROJECTS),
        Place("the branch", owner.branch, ".github/workflows/ci.yml", "on.push.branches[0]"),
        Place("the models' branch", models, workflows, "jobs.*.env.INCUMBENT_GIT_BRANCH", optional=True),
    )


def _of_platform(owner: Owner) -> tuple[Place, ...]:
    platform, plane, storage = "manifests/platform", owner.control_plane, owner.storage
    monitoring, dispatcher = f"{platform}/monitoring", f"{platform}/dispatcher"
    prometheus, alertmanager = f"{monitoring}/prometheus.yaml", f"{monitoring}/alertmanager.yaml"
    mlflow = f"{platform}/mlflow/mlflow.yaml"
    args, name = f"{_POD}.containers[*].args[*]", "the control plane's name"
    external, size = rf"--web.external-url=http://{_HOST}:\d+", "spec.resources.requests.storage"
    claim = "PersistentVolumeClaim"
    sizes = {
        mlflow: storage.mlflow,
        f"{platform}/mlflow/backup.yaml": storage.mlflow_backup,
        prometheus: storage.prometheus,
        f"{dispatcher}/dispatcher.yaml": storage.dispatcher,
        f"{platform}/dagster/postgresql.yaml": storage.dagster,
    }
    web = "--web.external-url="
    return (
        Place("edge's address", owner.edge.address, prometheus, f"{_POD}.hostAliases[0].ip", kind="Deployment"),
        Place("the control plane's address", plane.address, prometheus, f"{_POD}.hostAliases[1].ip", kind="Deployment"),
        Place(name, plane.host, prometheus, f"{_POD}.hostAliases[1].hostnames[0]", kind="Deployment"),
        Place(name, plane.host, prometheus, args, external, "Deployment", starts=web),
        Place(name, plane.host, alertmanager, args, external, "Deployment", starts=web),
        Place(
            "the page of the runbooks",
            owner.runbooks_page,
            f"{monitoring}/config/prometheus.yml",
            "global.external_labels.runbooks",
            _URL,
        ),
        *_of_scraping(owner, f"{monitoring}/config"),
        Place(
            "the names of MLflow",
            owner.allowed_hosts,
            mlflow,
            args,
            r"--allowed-hosts=(?P<value>\S+)",
            "Deployment",
            starts="--allowed-hosts=",
        ),
        Place("the storage class", storage.storage_class, f"{platform}/*.yaml", "spec.storageClassName", kind=claim),
        *(Place("a claim's size", value, file, size, kind=claim) for file, value in sizes.items()),
        Place("the repository at GitHub", owner.github_repository, f"{dispatcher}/config/dispatcher.yml", "repository"),
        Place("the branch", owner.branch, f"{dispatcher}/config/dispatcher.yml", "ref"),
        Place("GitHub's API", owner.github.api, f"{dispatcher}/config/dispatcher.yml", "api", _URL),
        Place(
            "the companion's image",
            owner.companion,
            f"{dispatcher}/dispatcher.yaml",
            f"{_POD}.containers[name=dispatcher].image",
            _IMAGE,
            "Deployment",
        ),
    )


def _of_scraping(owner: Owner, config: str) -> Iterator[Place]:
    port, api = str(owner.edge.api_port), r"(?:https://)?edge:(?P<value>\d+)"
    what, starts = "the port of edge's API", "edge:"
    clusters, models = f"{config}/scrape-clusters.yml", f"{config}/scrape-models.yml"
    bounds, prometheus = "manifests/platform/access/control-plane/network.yaml", ("metadata.name", "prometheus")
    egress = "spec.egress[4].ports[0].port"  # docs/network.md's row from Prometheus to edge
    yield Place(what, port, bounds, egress, r"(?P<value>\d+)", "NetworkPolicy", prometheus)
    jobs = "scrape_configs[job_name=edge-kube-state-metrics]"
    yield Place(what, port, clusters, f"{jobs}.static_configs[*].targets[*]", api)
    for file in (clusters, models):
        yield Place(what, port, file, "scrape_configs[*].kubernetes_sd_configs[*].api_server", api)
        yield Place(what, port, file, "scrape_configs[*].relabel_configs[*].replacement", api, starts=starts)
    for place, policy, rule in (("control-plane", "prometheus", 4), ("dagster", "pipeline", 0)):
        file, only = f"manifests/platform/access/{place}/network.yaml", ("metadata.name", policy)
        yield Place(what, port, file, f"spec.egress[{rule}].ports[0].port", r"(?P<value>\d+)", "NetworkPolicy", only)
    yield Place(what, port, "docs/network.md", form=r"\| (?P<value>\d+), 30808-30849 \|")
    host = owner.control_plane.host
    yield Place(
        "the control plane's name",
        host,
        f"{config}/scrape-platform.yml",
        "scrape_configs[job_name=incumbent].static_configs[*].targets[*]",
        rf"{_HOST}:\d+",
    )


def _of_dagster(owner: Owner) -> tuple[Place, ...]:
    folder = "manifests/platform/dagster"
    what, settings = "the pipeline's image", f"{folder}/config/settings.env"
    parts = ("code-server", "companion", "daemon", "webserver")
    return (
        *(
            Place(what, owner.pipeline, f"{folder}/{part}.yaml", f"{_POD}.containers[*].image", _IMAGE, "Deployment")
            for part in parts
        ),
        Place(what, owner.pipeline, f"{folder}/kustomization.yaml", "images[0].name"),
        Place("MLflow's address", owner.mlflow_inside, settings, form=r"MLFLOW_TRACKING_URI=(?P<value>https?://\S+)"),
        Place(
            "the models' repository",
            owner.serving_repository,
            settings,
            form=r"INCUMBENT_GIT_URL=(?P<value>https?://\S+)",
        ),
        Place("the models' branch", owner.serving.branch, settings, form=r"INCUMBENT_GIT_BRANCH=(?P<value>\S+)"),
    )


def _of_model(owner: Owner, model: str) -> tuple[Place, ...]:
    image, folder = owner.image(model), f"manifests/applications/{model}"
    what, of_model = f"the image of {model}", ("manifest.path", rf"{folder}/.*")
    policies = ("policies/*.y*ml", "testbeds/homelab/policies/*.yaml", "testbeds/sandbox/policies/*.yaml")
    tracking = f"{_POD}.containers[*].env[name=MLFLOW_TRACKING_URI].value"
    container = f"{_POD}.containers[name=model-server].image"
    return (
        Place(what, image, f"{folder}/deployment.yaml", container, _IMAGE, "Deployment"),
        Place(
            "MLflow's address",
            owner.mlflow_url,
            f"{folder}/deployment.yaml",
            tracking,
            _URL,
            "Deployment",
            optional=True,
        ),
        *(Place(what, image, file, "image.repository", only=of_model, optional=True) for file in policies),
        *_of_kserve(owner, model),
    )


def _of_kserve(owner: Owner, model: str) -> Iterator[Place]:
    """The one model that is also an InferenceService."""
    if model == "iris-classifier":
        file, path = (
            "manifests/applications/iris-classifier-kserve/inference-service.yaml",
            "spec.predictor.containers[*].image",
        )
        yield Place(f"the image of {model}", owner.image(model), file, path, _IMAGE, "InferenceService")


def _of_clusters(owner: Owner) -> tuple[Place, ...]:
    """k3d's files, where models answer, and the pages' commands."""
    edge, plane = owner.edge, owner.control_plane
    service, on_edge = rf"https?://{_HOST}(?::\d+)?(?:/.*)?", ("cluster", "edge")
    k3d = "testbeds/homelab/k3d"
    published = r"(?P<value>[0-9.]+):\d+:\d+"
    addresses = {"edge": ("edge's address", edge.address), "gcp": ("the control plane's address", plane.address)}
    rows: list[Place] = []
    for name, (what, address) in addresses.items():
        rows += (Place(what, address, f"{k3d}/{name}.yaml", path) for path in ("kubeAPI.host", "kubeAPI.hostIP"))
        rows.append(Place(what, address, f"{k3d}/{name}.yaml", "ports[*].port", published))
    page = "docs/clusters.md"
    return (
        *rows,
        Place("the port of edge's API", str(edge.api_port), f"{k3d}/edge.yaml", "kubeAPI.hostPort", r"(?P<value>\d+)"),
        Place("the control plane's address", plane.address, f"{k3d}/edge.yaml", "hostAliases[0].ip"),
        Place("the control plane's name", plane.host, f"{k3d}/edge.yaml", "hostAliases[0].hostnames[0]"),
        *(
            Place("edge's address", edge.address, file, "service.url", service, only=on_edge)
            for file in ("policies/*.y*ml", "testbeds/homelab/policies/*.yaml")
        ),
        Place("the port of edge's API", str(edge.api_port), page, form=r'"tcp:(?P<value>\d+)", "tcp:30808'),
        Place("the control plane's name", plane.host, page, form=r"--tls-san=(?P<value>\S+) --tls-san="),
        Place("the control plane's address", plane.address, page, form=r"--tls-san=\S+ --tls-san=(?P<value>\S+)"),
    )


def _in_page(file: str, content: bytes, place: Place) -> tuple[bytes, list[Difference]]:
    text = content.decode("utf-8")
    matches = list(re.finditer(place.form, text))
    if not matches:
        raise _missing(place, None, f"no text of the form {place.form}")
    differences = []
    for match in reversed(matches):
        start, end = match.span("value")
        if match["value"] != place.value:
            line = text.count("\n", 0, start) + 1
            differences.append(Difference(file, line, place.what, match["value"], place.value))
            text = f"{text[:start]}{place.value}{text[end:]}"
    return text.encode(), differences[::-1]


def _in_yaml(file: str, content: bytes, place: Place) -> tuple[bytes, list[Difference]]:
    stream, differences = _read(content), []
    for number in range(len(stream.documents)):
        changes: list[tuple[ScalarNode, str]] = []
        for node in _scalars(stream.documents[number], place):
            match = re.fullmatch(place.form, node.value)
            if match is None:
                raise _missing(place, node.line, f"{redact(node.value)!r}, which does not look like it")
            if match["value"] != place.value:
                start, end = match.span("value")
                changes.append((node, f"{node.value[:start]}{place.value}{node.value[end:]}"))
                differences.append(Difference(file, node.line, place.what, match["value"], place.value))
        if changes:
            content = splice(stream, changes)
            stream = _read(content)  # the documents behind it have moved
    return content, differences


@lru_cache(maxsize=4)
def _read(content: bytes) -> Stream:
    """Parse a file once for all of its places."""
    return read_stream(content)


def _scalars(document: Document, place: Place) -> list[ScalarNode]:
    """Return the scalars of a document that are a place; none where the document has nothing to do with it."""
    root = document.root
    if place.kind is not None and text_of(_one(root, "kind")) != place.kind:
        return []
    if place.only is not None:
        path, form = place.only
        if not any(re.fullmatch(form, text_of(node) or "") for node in nodes_at(root, path)):
            return []
    found = [node for node in nodes_at(root, place.path) if isinstance(node, ScalarNode)]
    meant = {id(node): node for node in found if node.value.startswith(place.starts)}  # by an alias, one has two paths
    if not meant and not place.optional:
        raise _missing(place, root.line, f"nothing at {place.path}")
    return list(meant.values())


def nodes_at(root: Node, path: str) -> Iterator[Node]:
    """Yield the nodes at a path, as `Place.path` writes it; where a part of the path is missing, there are none."""
    nodes: Sequence[Node] = [root]
    for step in _STEP.finditer(path):
        below = [child for node in nodes for child in _below(node, step["key"])]
        if step["all"]:
            below = [element for node in below for element in items(node)]
        elif step["index"] is not None:
            below = [element for node in below for element in list(items(node))[int(step["index"]) :][:1]]
        elif step["by"] is not None:
            elements = [element for node in below for element in items(node)]
            below = [each for each in elements if text_of(_one(each, step["by"])) == step["name"]]
        nodes = below
    yield from nodes


def _below(node: Node, key: str) -> list[Node]:
    if not isinstance(node, MappingNode):
        return []
    return [value for name, value in node.value if key in ("*", name.value)]


def _one(node: Node, key: str) -> Node | None:
    return next(iter(_below(node, key)), None)


def _missing(place: Place, line: int | None, found: str) -> RefusedError:
    return RefusedError(
        found,
        line=line,
        expected=f"a place for {place.what}",
        next_step="Correct it by hand, or take the place out of the table in bootstrap/places.py if it is not meant.",
    )

"""Which files of a Git repository an Argo CD Application reads, by its sources and by what the repository holds."""

import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from orchestration.promotion.cluster_status import ApplicationSource, ApplicationStatus
from orchestration.promotion.ports import RepositoryAddress
from orchestration.promotion.repository_address import is_same_repository
from orchestration.promotion.yaml_text import MappingNode, RefusedError, get, items, read_stream, text_of

ReadFile = Callable[[str], bytes | None]
"""Returns a file of the branch by its path; None when there is none."""

_KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_MOST_FOLDERS = 50
"""How many folders of a Kustomize build are followed; large ones have a dozen."""
_HARMLESS = frozenset(
    {
        *("apiVersion", "kind", "metadata", "resources", "bases", "crds", "openapi"),
        *("namespace", "namePrefix", "nameSuffix", "images", "replicas", "commonAnnotations", "buildMetadata"),
        *("configMapGenerator", "secretGenerator", "generatorOptions", "sortOptions"),
        *("version", "kubeVersion", "apiVersions", "commonAnnotationsEnvsubst", "forceCommonAnnotations"),
    }
)
"""Fields of a kustomization, or of `spec.source.kustomize`, that leave a manifest as valid as it is."""
_OPEN = re.compile(r"\*\*|\*|\?|\[[^]]*\]|\$\{\w+\}|\$\w+|\{[^}]*\}")
"""What is open in the name of a value file: patterns, and variables of Argo CD's build environment."""


def as_one_source(application: ApplicationStatus, address: RepositoryAddress, path: str) -> ApplicationStatus:
    """Return an Application with the revisions of our source, if it has several and one of them is ours.

    Args:
        application: as Argo CD has it.
        address: the GitOps repository and its branch.
        path: the path of the file that promotions edit.
    """
    ours = [at for at, source in enumerate(application.sources) if has_file(source, address, path, application)]
    if len(ours) != 1:
        return application
    at, count = ours[0], len(application.sources)
    return replace(
        application,
        source=application.sources[at],
        sync_revision=_at(application.sync_revisions, at, count),
        operation_revision=_at(application.operation_revisions, at, count),
    )


def _at(revisions: Sequence[str | None], at: int, count: int) -> str | None:
    """Return one source's revision; None unless there is one for each, because then their places mean nothing."""
    return revisions[at] if len(revisions) == count else None


def has_file(source: ApplicationSource, address: RepositoryAddress, path: str, application: ApplicationStatus) -> bool:
    """Whether one of several sources is this repository, and may have the file among what it reads or gives to others.

    Args:
        source: one of the Application's sources.
        address: the GitOps repository and its branch.
        path: the path of the file.
        application: as Argo CD has it.
    """
    if source.chart or not is_same_repository(source.repository, address.url):
        return False
    named = any(may_be(name, path) for name in value_files(source, application))
    return named or (not _is_only_values(source) and is_below(path, source.path))


def _is_only_values(source: ApplicationSource) -> bool:
    return bool(source.ref) and not source.path


def is_below(path: str, folder: str) -> bool:
    """Whether a path is in a folder of the repository, or in one below it."""
    folder = posixpath.normpath(folder.strip("/") or ".")
    return folder == "." or path.startswith(f"{folder}/")


def value_files(source: ApplicationSource, application: ApplicationStatus) -> set[str]:
    """The value files in a source's repository, its own and those that others take from it by its ref.

    Returns:
        Their paths, some of which may hold patterns and variables (`may_be`).
    """
    places = (place for reader in sources_of(application) for place in value_places(reader, application))
    return {path for place, path in places if place is source}


def value_places(
    reader: ApplicationSource, application: ApplicationStatus
) -> list[tuple[ApplicationSource | None, str]]:
    """Tell where each value file of a source is, in the order in which they are read.

    Returns:
        The source in whose repository it is, and its path there; None for one at an address of its own.
    """
    by_ref = {f"${source.ref}": source for source in application.sources if source.ref}
    places: list[tuple[ApplicationSource | None, str]] = []
    for file in reader.value_files:
        first, _, rest = file.partition("/")
        if first in by_ref:
            places.append((by_ref[first], posixpath.normpath(rest)))
        elif "://" in file or (first.startswith("$") and not first.startswith("$ARGOCD_")):
            places.append((None, file))
        else:
            places.append((reader, file[1:] if file.startswith("/") else _joined(reader.path, file)))
    return places


def sources_of(application: ApplicationStatus) -> tuple[ApplicationSource, ...]:
    """All sources of an Application, whether it has one or several."""
    return application.sources or ((application.source,) if application.source is not None else ())


def may_be(name: str, path: str) -> bool:
    """Whether a value file's name, such as `envs/*.yaml` or `$ARGOCD_APP_NAME/values.yaml`, may stand for a path."""
    pieces = re.split(f"({_OPEN.pattern})", name)  # every second piece is open
    broad = (re.escape(piece) if at % 2 == 0 else ".*" if piece == "**" else "[^/]*" for at, piece in enumerate(pieces))
    return re.fullmatch("".join(broad), path) is not None


def _joined(folder: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(folder.strip("/"), path))


def is_open(source: ApplicationSource, application: ApplicationStatus, path: str) -> bool:
    """Whether nothing tells if a file is read: a plugin decides, or a pattern of value files may stand for it."""
    by_plugin = source.has_plugin or application.source_type == "Plugin"
    return by_plugin or any(may_be(name, path) for name in value_files(source, application))


def is_built(source: ApplicationSource, application: ApplicationStatus, path: str, read: ReadFile) -> bool:
    """Whether a file is surely part of what is built from a source."""
    if path in value_files(source, application):
        return True
    if _is_only_values(source):
        return False
    if has_kustomization(source, read):
        return _kustomize_reaches(source.path, path, read)
    if not is_below(path, source.path):
        return False
    folder = posixpath.normpath(source.path.strip("/") or ".")
    is_chart = read(_joined(folder, "Chart.yaml")) is not None
    return is_chart or source.recurses or (posixpath.dirname(path) or ".") == folder


def has_kustomization(source: ApplicationSource, read: ReadFile) -> bool:
    """Whether a source's folder is built by Kustomize."""
    return _kustomization(source.path, read) is not None


def _kustomization(folder: str, read: ReadFile) -> tuple[str, bytes] | None:
    for name in _KUSTOMIZATIONS:
        path = _joined(folder, name)
        content = read(path)
        if content is not None:
            return path, content
    return None


def what_renders(source: ApplicationSource, application: ApplicationStatus, path: str, read: ReadFile) -> str:
    """Tell what makes another manifest of a file than it holds, as a clause; empty when Argo CD applies what it holds.

    A kustomization may set names, namespaces, images, counts of replicas and annotations; none makes it invalid.
    """
    is_chart = read(_joined(source.path, "Chart.yaml")) is not None
    if application.source_type == "Helm" or source.chart or is_chart or path in value_files(source, application):
        return "Helm renders it"
    if is_open(source, application, path):
        return "a plugin, or a pattern of value files, decides what becomes of it"
    if not is_built(source, application, path, read):
        return f"whether {path} is part of what is built is not known"
    changes = {f"spec.source.kustomize.{field}" for field in source.kustomize_fields - _HARMLESS}
    for _, _, content in _kustomizations(source.path, read) if has_kustomization(source, read) else ():
        changes |= _fields_of(content) - _HARMLESS
    return f"Kustomize changes it ({', '.join(sorted(changes))})" if changes else ""


def _fields_of(kustomization: bytes) -> set[str]:
    try:
        roots = [document.root for document in read_stream(kustomization).documents]
    except RefusedError:
        return {"a kustomization that cannot be read"}
    return {key.value for root in roots if isinstance(root, MappingNode) for key, _ in root.value}


def _kustomize_reaches(folder: str, path: str, read: ReadFile) -> bool:
    """Whether a Kustomize build in a folder reads a file, by what each kustomization names."""
    for here, file, content in _kustomizations(folder, read):
        if path == file or path in _paths_named(here, content):
            return True
    return False


def _kustomizations(folder: str, read: ReadFile) -> Iterator[tuple[str, str, bytes]]:
    """Yield each kustomization that a build in a folder reads: its folder, its path and its content."""
    due, seen = [_joined(folder, ".")], set[str]()
    while due and len(seen) < _MOST_FOLDERS:
        here = due.pop()
        found = _kustomization(here, read) if here not in seen else None
        seen.add(here)
        if found is None:
            continue
        yield here, *found
        due += _paths_named(here, found[1]) - seen


def _paths_named(here: str, kustomization: bytes) -> set[str]:
    return {_joined(here, name) for name in _named_in(kustomization) if "://" not in name}


def _named_in(kustomization: bytes) -> Iterator[str]:
    try:
        documents = read_stream(kustomization).documents
    except RefusedError:
        return
    for document in documents:
        for field in ("resources", "bases", "components", "patchesStrategicMerge", "patches", "patchesJson6902"):
            for entry in items(get(document.root, field)):
                yield text_of(entry) or text_of(get(entry, "path")) or ""
        for chart in items(get(document.root, "helmCharts")):
            yield text_of(get(chart, "valuesFile")) or ""
            yield from (text_of(file) or "" for file in items(get(chart, "additionalValuesFiles")))

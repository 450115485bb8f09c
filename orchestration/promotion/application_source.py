"""Whether an Argo CD Application deploys the file that a promotion edits, and sets no other image over it."""

import re
from collections.abc import Callable, Iterator

from orchestration.promotion.application_files import (
    ReadFile,
    as_one_source,
    has_file,
    has_kustomization,
    is_below,
    is_built,
    is_open,
    sources_of,
    value_places,
)
from orchestration.promotion.cluster_status import ApplicationSource, ApplicationStatus
from orchestration.promotion.images import parse_image
from orchestration.promotion.looks import Look, fits, noted, refused, waits
from orchestration.promotion.policy import ManifestTarget, Policy
from orchestration.promotion.ports import RepositoryAddress
from orchestration.promotion.problems import Problem
from orchestration.promotion.repository_address import is_same_repository
from orchestration.promotion.yaml_text import MappingNode, Node, RefusedError, read_stream

IsOurs = Callable[[str], bool]
"""Tells whether a commit is on the branch."""

SOURCE = "its source"
_IMAGE_FIELDS = frozenset({"digest", "image", "name", "newName", "newTag", "registry", "repository", "tag"})


def look_at_source(
    policy: Policy, application: ApplicationStatus, address: RepositoryAddress, is_ours: IsOurs, read: ReadFile
) -> Look:
    """Find out whether Argo CD deploys what a promotion edits: this repository, this branch, and the file.

    Args:
        policy: names the file.
        application: as Argo CD has it.
        address: the GitOps repository and its branch.
        is_ours: tells whether a commit is on the branch.
        read: reads a file at the head of the branch.
    """
    target = policy.manifest
    one = as_one_source(application, address, target.path)
    source, compared = one.source, one.sync_revision
    subject = f"Application {policy.argocd.namespace}/{policy.argocd.application}"
    if application.hydrates:
        found = "a source hydrator, which deploys commits of its own"
        next_step = f"Deploy the branch itself: set spec.source in {application.is_changed_in}."
        return refused(SOURCE, Problem(subject, "a source whose commits are deployed", found, next_step))
    if source is None:
        return refused(SOURCE, _no_single_source(subject, application, address, target))

    def follows() -> bool:
        return compared is not None and is_ours(compared)

    problem = _repository_problem(subject, source, address, follows)
    if compared is None and (problem is not None or application.sources):
        expected = f"a commit that Argo CD has compared of {source.repository}"
        found = f"no such commit; the Application is {application.sync_status}"
        next_step = "Look at its conditions in Argo CD. The promotion goes on by itself once it has compared one."
        return waits(SOURCE, Problem(subject, expected, found, next_step))
    problem = (
        problem
        or _reverted(subject, application, target)
        or _override(subject, policy, one, read)
        or _place_problem(subject, source, application, target, read)
    )
    if problem is not None:
        return refused(SOURCE, problem)
    another = "" if is_same_repository(source.repository, address.url) else ", by another address"
    finding = f"{source.path or '.'} on {source.revision or 'HEAD'} of {source.repository}{another}"
    if application.made_by:
        finding += f"; made by {application.made_by}"
    if _is_in_the_application(target) or is_built(source, application, target.path, read):
        return fits(SOURCE, finding)
    taken = f", or of what {application.made_by} takes," if application.made_by else ""
    return noted(SOURCE, f"{finding}; whether {target.path} is part of what is built there{taken} is not known")


def _no_single_source(
    subject: str, application: ApplicationStatus, address: RepositoryAddress, target: ManifestTarget
) -> Problem:
    if not application.sources:
        return Problem(subject, "a source", "no source", "Correct argocd in the policy.")
    ours = [source for source in application.sources if is_same_repository(source.repository, address.url)]
    found = f"{len(application.sources)} sources, {len(ours)} of them from there and none with it"
    if len([source for source in ours if has_file(source, address, target.path, application)]) > 1:
        found = f"{len(application.sources)} sources, several of them with it"
    expected = f"exactly one source from {address.url} with {target.path}"
    next_step = f"Correct manifest.path in the policy, or the sources in {application.is_changed_in}."
    return Problem(subject, expected, found, next_step)


def _repository_problem(
    subject: str, source: ApplicationSource, address: RepositoryAddress, follows: Callable[[], bool]
) -> Problem | None:
    """What is wrong with where a source reads; another address may lead there as well, which its commits show."""
    if not is_same_repository(source.repository, address.url) and not follows():
        next_step = "Set INCUMBENT_GIT_URL to the repository that Argo CD reads."
        return Problem(subject, f"the repository {address.url}", source.repository, next_step)
    if source.revision not in (address.branch, f"refs/heads/{address.branch}") and (
        source.revision not in ("", "HEAD") or not follows()
    ):
        next_step = "Set INCUMBENT_GIT_BRANCH to the branch that Argo CD follows (spec.source.targetRevision)."
        return Problem(subject, f"the branch {address.branch}", source.revision or "HEAD", next_step)
    return None


def _is_in_the_application(target: ManifestTarget) -> bool:
    """Whether the file is the manifest of the Application, or of its ApplicationSet, which another one deploys."""
    return re.match(r"(spec\.template\.)?spec\.sources?(\[[^]]+\])?\.", target.yaml_path or "") is not None


def _reverted(subject: str, application: ApplicationStatus, target: ManifestTarget) -> Problem | None:
    """What an ApplicationSet would undo: an edit of the manifest of an Application that it makes."""
    made_by, path = application.made_by, target.yaml_path or ""
    if not made_by or not _is_in_the_application(target) or path.startswith("spec.template."):
        return None
    next_step = f"Let manifest name the file with {made_by}, with manifest.yaml_path spec.template.{path}."
    expected = f"an Application whose manifest is {target.path}"
    return Problem(subject, expected, f"one that {made_by} makes, which reverts edits of it", next_step)


def _override(subject: str, policy: Policy, application: ApplicationStatus, read: ReadFile) -> Problem | None:
    """What wins over the image in the file: the Application's own settings, or a later value file."""
    target = policy.manifest
    if policy.slot.holds_address or _is_in_the_application(target):
        return None  # an Application sets images and values, and no field of a container
    if _may_be_generated_from(target.path, application, read):
        return None
    for number, source in enumerate(sources_of(application)):
        where = f"spec.sources[{number}]" if application.sources else "spec.source"
        for at, entry in enumerate(source.kustomize_images):
            if _names(entry) & _image_names(policy, read):
                place = f"{where}.kustomize.images[{at}]"
                can_be_edited = (
                    parse_image(entry.rpartition("=")[2]) is not None
                )  # iris=*:v1 keeps a name from elsewhere
                found, path = f"{place}, which sets {entry} over it", place if can_be_edited else ""
                return _overridden(subject, target, application, found, place, path)
        for kind, name in (*source.helm_values, *(("values", path) for path in _paths_in(source.helm_text.encode()))):
            if _is_image_value(name, target.yaml_path):
                place = f"{where}.helm.{kind}"
                path = f"{place}[name={name}].value" if kind == "parameters" else f"{where}.helm.valuesObject.{name}"
                found = f"{place}, which sets {name} over it"
                return _overridden(subject, target, application, found, f"{name} from {place}", path)
        problem = _overridden_by_file(subject, target, source, application, read)
        if problem is not None:
            return problem
    return None


def _may_be_generated_from(path: str, application: ApplicationStatus, read: ReadFile) -> bool:
    """Whether an ApplicationSet may take what it writes into the Application from a file, as from a generator's.

    The Application does not say so. It is surely not so of a file that the Application's own source builds.
    """
    source = application.source
    return bool(application.made_by) and source is not None and not is_built(source, application, path, read)


def _overridden(
    subject: str, target: ManifestTarget, application: ApplicationStatus, found: str, remove: str, path: str
) -> Problem:
    """Say what to remove, or which path of the Application's manifest to edit in place of the file, if one can be."""
    made_by = application.made_by
    kind, prefix = (made_by, "spec.template.") if made_by else ("the Application", "")
    next_step = f"Remove {remove} in {application.is_changed_in}."
    if path:
        next_step += (
            f" Or, if the manifest of {kind} is in the repository, let manifest.path name that file, with "
            f"manifest.yaml_path {prefix}{path}."
        )
    return Problem(subject, f"the image from {target.path}", found, next_step)


def _overridden_by_file(
    subject: str, target: ManifestTarget, reader: ApplicationSource, application: ApplicationStatus, read: ReadFile
) -> Problem | None:
    """What a value file of our source sets that is read after the file: of two, the later one wins."""
    ours = [path for place, path in value_places(reader, application) if place is application.source]
    if target.path not in ours:
        return None
    for path in ours[ours.index(target.path) + 1 :]:
        content = read(path) if path != target.path else None
        name = next((name for name in _paths_in(content or b"") if _is_image_value(name, target.yaml_path)), None)
        if name is not None:
            next_step = f"Remove {name} from {path}, or let manifest name that file."
            found = f"{path}, a later value file, which sets {name} over it"
            return Problem(subject, f"the image from {target.path}", found, next_step)
    return None


def _names(entry: str) -> set[str]:
    """The repositories in an entry of `kustomize.images`: `name=repository:tag`, `name:tag`, `name@digest`."""
    references = (parse_image(part) for part in entry.split("="))
    return {reference.repository for reference in references if reference is not None}


def _image_names(policy: Policy, read: ReadFile) -> set[str]:
    """By which names Kustomize may know the image: as the file has it, as its transformer finds it, as it becomes."""
    target = policy.manifest
    by_path = re.findall(r"\[name=([^\]]+)\]", target.yaml_path or "")
    content = read(target.path) or b""
    in_file = re.findall(rb"^\s*(?:- )?image:\s*[\"']?([^\s\"'#]+)", content, re.MULTILINE)
    references = (parse_image(text.decode("utf-8", "replace")) for text in in_file)
    return {policy.images.repository, *by_path, *(found.repository for found in references if found is not None)}


def _is_image_value(name: str, yaml_path: str | None) -> bool:
    """Whether a Helm value is the one at a path of the file, holds it, or is another part of the same image."""
    if yaml_path is None:
        return False
    if name == yaml_path or yaml_path.startswith(f"{name}.") or name.startswith(f"{yaml_path}."):
        return True
    (above, _, field), (path_above, _, path_field) = name.rpartition("."), yaml_path.rpartition(".")
    return above == path_above != "" and {field, path_field} <= _IMAGE_FIELDS


def _paths_in(text: bytes) -> Iterator[str]:
    """The paths of the values in a YAML text; none of what cannot be read, which Argo CD refuses as well."""
    try:
        documents = read_stream(text).documents if text.strip() else ()
    except RefusedError:
        return
    for document in documents:
        yield from _paths_below(document.root)


def _paths_below(node: Node, above: str = "") -> Iterator[str]:
    if not isinstance(node, MappingNode) or not node.value:
        yield above
        return
    for key, value in node.value:
        yield from _paths_below(value, f"{above}.{key.value}" if above else key.value)


def _place_problem(
    subject: str, source: ApplicationSource, application: ApplicationStatus, target: ManifestTarget, read: ReadFile
) -> Problem | None:
    path = target.path
    if (
        _is_in_the_application(target)
        or is_open(source, application, path)
        or is_built(source, application, path, read)
    ):
        return None
    if not is_below(path, source.path):
        if application.made_by:  # a generator of the ApplicationSet may read it
            return None
        next_step = "Correct manifest.path in the policy. With Kustomize or Helm, let it be a file that this builds."
        found = f"a source in {source.path}" if source.path else "a source without a path"
        return Problem(subject, f"a source that builds {path}", found, next_step)
    if has_kustomization(source, read):
        return None
    found = f"plain manifests in {source.path}, without those in folders below"
    next_step = (
        f"Set spec.source.directory.recurse in {application.is_changed_in}, or correct manifest.path in the policy."
    )
    return Problem(subject, f"a source that reads {path}", found, next_step)

"""Finding the file, and the field in it, that promotions to a live application would edit."""

from collections.abc import Iterator, Sequence

from orchestration.promotion.application_files import sources_of, value_files
from orchestration.promotion.cluster_status import ApplicationSource, ApplicationStatus, WorkloadStatus
from orchestration.promotion.deployed import IMAGE, is_same
from orchestration.promotion.images import parse_image
from orchestration.promotion.live_value import live_value
from orchestration.promotion.manifest import CurrentImage, read_image
from orchestration.promotion.manifest_place import Selector, scalar_paths
from orchestration.promotion.platform import PlatformInParts
from orchestration.promotion.policy_draft import PolicyDraft
from orchestration.promotion.ports import GitOpsRepository, RepositoryAddress
from orchestration.promotion.problems import ProblemError
from orchestration.promotion.repository_address import is_same_repository
from orchestration.promotion.yaml_text import RefusedError, read_stream

_ENDINGS = (".yaml", ".yml")
_KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_VERSIONS = ("digest", "tag", "image", "version")
"""What the last field of a path to an image is called, in part."""


def find_manifest(
    platform: PlatformInParts, application: ApplicationStatus, draft: PolicyDraft, workload: WorkloadStatus | None
) -> None:
    """Find the file on the branch that has the container's image, or the model's address.

    Kustomize and Helm values win over what they are applied to, so a field of theirs with the image that is live is the
    one to edit.

    Args:
        platform: the platform.
        application: as Argo CD has it.
        draft: gets the path, or what is left open.
        workload: what is live; None when it is not known.
    """
    expected = f"the file with the {draft.kind}"
    if workload is None or not draft.container:
        draft.leave_open("manifest.path", f"{expected}, relative to the repository (the workload is not known)")
        return
    try:
        git = repository_of(platform, draft)
        head = git.fetch()
        if not _our_sources(application, git.address()):
            reason = f"none of its {len(application.sources)} sources is {git.address().url}"
            draft.leave_open("manifest.path", f"{expected}, relative to the repository ({reason})")
            return
        files = files_of(git, head, application)
        live = live_value(workload, draft.container, draft.slot)
        fields = list(_fields_with(live, git, head, _with_values(application, files))) if draft.slot == IMAGE else []
        names = (draft.kind, draft.namespace, draft.workload, draft.container)
        selector = Selector("", *names, slot=draft.slot)
        workloads = [path for path in files if _has_image(git.read_file(head, path), selector)]
    except ProblemError as error:
        draft.leave_open("manifest.path", because(expected, error))
        return
    found = fields or [(path, "") for path in workloads]
    if len(found) == 1:
        draft.path, draft.yaml_path = found[0]
        return
    folders = " or ".join(source.path or "." for source in _our_sources(application, git.address()))
    among = ", ".join(" ".join(filter(None, each)) for each in found) or f"no single one under {folders}"
    draft.leave_open("manifest.path", f"{expected}, relative to the repository ({among}); for Helm, with yaml_path")


def repository_of(platform: PlatformInParts, draft: PolicyDraft) -> GitOpsRepository:
    """Return a client of the repository that a draft's promotions would edit."""
    return platform.git() if draft.git is None else platform.git_of(draft.name, draft.git)


def files_of(git: GitOpsRepository, head: str, application: ApplicationStatus) -> Sequence[str]:
    """List the YAML files on the branch that an application reads or may read, in the order of their names.

    Args:
        git: the GitOps repository.
        head: the commit at the head of its branch.
        application: as Argo CD has it.
    """
    files: set[str] = set()
    for source in _our_sources(application, git.address()):
        files |= value_files(source, application)
        if source.path or not source.ref:  # without a path it only gives value files to the other sources
            files |= {*git.list_files(head, source.path)}
    return sorted(path for path in files if path.endswith((*_ENDINGS, *_KUSTOMIZATIONS)))


def because(meaning: str, error: ProblemError) -> str:
    """Say what belongs into a field, and why it was not found."""
    return f"{meaning} ({error.problem.subject}: {' '.join(error.problem.found.split())})"


def _our_sources(application: ApplicationStatus, address: RepositoryAddress) -> list[ApplicationSource]:
    """The sources in the GitOps repository; a single one counts by whatever address Argo CD reads it."""
    if application.source is not None:
        return [application.source]
    ours = (source for source in application.sources if is_same_repository(source.repository, address.url))
    return [source for source in ours if not source.chart]


def _with_values(application: ApplicationStatus, files: Sequence[str]) -> list[str]:
    """The files that set images by fields: kustomizations, and the value files that the application names."""
    named = {path for source in sources_of(application) for path in value_files(source, application)}
    return [path for path in files if path in named or path.endswith(_KUSTOMIZATIONS)]


def _fields_with(live: str, git: GitOpsRepository, head: str, files: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each file with the path to a field by which it sets the image that is live; of tag and digest, the tag."""
    running = parse_image(live)
    repository = running.repository if running is not None else None
    for file in files:
        content = git.read_file(head, file) or b""
        try:
            paths = list(scalar_paths(read_stream(content)))
        except RefusedError:
            continue
        seen: set[int] = set()
        for path in sorted(paths, key=lambda each: "digest" in each.lower()):
            if not any(word in path.rpartition(".")[2].lower() for word in _VERSIONS):
                continue
            image = read_image(content, Selector(file, yaml_path=path, repository=repository))
            if isinstance(image, CurrentImage) and is_same(live, image.value) and image.line not in seen:
                seen.add(image.line)
                yield file, path


def _has_image(content: bytes | None, selector: Selector) -> bool:
    return content is not None and isinstance(read_image(content, selector), CurrentImage)

"""Before a commit: would the API server apply what is committed?

Where the account may patch the workload, the API server tries it, admission included; else the schema that it publishes
decides. Either takes two requests. A dry run puts the file on top of what the cluster has, so it tells what the commit
will do only while Argo CD has brought the file there as it is; otherwise the schema decides, too.

The dry run is done as Argo CD applies: by a patch, or by a server-side apply where the sync options say so. Another
account does it, which admission may treat otherwise. So a refusal counts only when the file as it is, which Argo CD has
applied, is not refused as well.
"""

from functools import partial

from orchestration.promotion.application_files import ReadFile, what_renders
from orchestration.promotion.cluster_json import SERVER_SIDE
from orchestration.promotion.cluster_status import ApplicationStatus
from orchestration.promotion.json_reading import Json, mapping_at, text_of
from orchestration.promotion.looks import Bearing, Look
from orchestration.promotion.manifest import EditRefused, read_document
from orchestration.promotion.manifest_look import as_deployed, look_at_schema, look_at_trial, not_checked
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Cluster, GitOpsRepository
from orchestration.promotion.problems import DependencyError
from orchestration.promotion.rights import right_to_try
from orchestration.promotion.workload_kinds import JUDGED

_OPTIONS = "argocd.argoproj.io/sync-options"
_NOT_SERVER_SIDE = "ServerSideApply=false"


def try_manifest(
    cluster: Cluster, git: GitOpsRepository, policy: Policy, application: ApplicationStatus, head: str, content: bytes
) -> Look:
    """Find out whether a file's workload is valid and would be applied.

    Args:
        cluster: the cluster of the policy.
        git: the GitOps repository.
        policy: names the file and the workload.
        application: the policy's Application, as one with a single source.
        head: the head of the branch.
        content: the file as it would be committed.

    Raises:
        DependencyError: the cluster does not answer.
    """
    path = policy.manifest.path

    def read(name: str) -> bytes | None:
        return content if name == path else git.read_file(head, name)

    document = _plain_manifest(policy, application, content, read)
    if isinstance(document, str):
        return not_checked(document)
    server_side, applied = _applies_server_side(application, document), _applied(git, policy, application, head)
    by_schema = partial(_by_schema, cluster, policy, document, applied=applied, strict=server_side)
    if applied is None:
        return by_schema(instead="Argo CD has not synced the file as it is")
    right = right_to_try(policy)
    if not cluster.may(right):
        return by_schema(instead=f"the account may not {right}")
    trial = partial(cluster.try_to_apply, JUDGED[policy.manifest.kind].plural, server_side=server_side)
    try:
        refusal = trial(as_deployed(policy, document))
        if refusal is None or (document != applied and trial(as_deployed(policy, applied)) is None):
            return look_at_trial(policy, refusal)
    except DependencyError:
        # An API server answers 500 also to what it cannot decode.
        look = by_schema(instead="the dry run had no answer")
        if look.bearing is Bearing.REFUSED:
            return look
        raise
    return by_schema(instead=f"a dry run refuses what Argo CD has applied: {refusal}")


def _by_schema(
    cluster: Cluster, policy: Policy, document: Json, *, applied: Json | None, strict: bool, instead: str
) -> Look:
    known, api = JUDGED[policy.manifest.kind], text_of(document, "apiVersion") or ""
    schemas, usual = cluster.schemas(api), f"{known.group}/{known.version}"
    publishes = schemas is not None or (api != usual and cluster.schemas(usual) is not None)
    return look_at_schema(
        policy, document, schemas, applied=applied, strict=strict, publishes=publishes, instead=instead
    )


def _plain_manifest(policy: Policy, application: ApplicationStatus, content: bytes, read: ReadFile) -> Json | str:
    """Return the workload in a file that Argo CD applies as it stands; else why there is none, as a clause."""
    path, kind = policy.manifest.path, policy.manifest.kind
    document = read_document(content, policy)
    if isinstance(document, EditRefused):
        return f"{document.problem.subject} has {document.problem.found}"
    if not isinstance(document, dict) or document.get("kind") != kind or not text_of(document, "apiVersion"):
        return f"{path} is not the manifest of the {kind}"
    if application.source is None:
        return "the Application has several sources, and which one has the file is not known"
    return what_renders(application.source, application, path, read) or document


def _applies_server_side(application: ApplicationStatus, document: Json) -> bool:
    """Whether Argo CD has the API server apply it; what the object's annotation says goes before the Application's."""
    said = text_of(mapping_at(document, "metadata", "annotations"), _OPTIONS) or ""
    options = [option.strip() for option in said.split(",")]
    return _NOT_SERVER_SIDE not in options and (application.applies_server_side or SERVER_SIDE in options)


def _applied(git: GitOpsRepository, policy: Policy, application: ApplicationStatus, head: str) -> Json | None:
    """Return the workload that Argo CD has brought to the cluster as the branch has it; None when it has not."""
    revision, path = application.sync_revision, policy.manifest.path
    if application.sync_status != "Synced" or revision is None or not git.is_ancestor(revision, head):
        return None
    content = git.read_file(head, path)
    if content is None or content != git.read_file(revision, path):
        return None
    document = read_document(content, policy)
    return document if isinstance(document, dict) else None

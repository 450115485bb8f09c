"""Whether the live workload that a policy names is there, and has the image that its file says."""

from orchestration.promotion.cluster_status import ApplicationStatus, WorkloadStatus
from orchestration.promotion.deployed import is_same
from orchestration.promotion.live_value import live_value
from orchestration.promotion.looks import Look, fits, refused, waits
from orchestration.promotion.policy import Policy
from orchestration.promotion.problems import Problem
from orchestration.promotion.workload_kinds import JUDGED

WORKLOAD = "workload"
CONTAINER = "container"
LIVE_IMAGE = "live image"
_WAITING = "The promotion then goes on by itself."


def look_at_workload(policy: Policy, application: ApplicationStatus | None, workload: WorkloadStatus | None) -> Look:
    """Find out whether the workload exists and can roll out; one that Argo CD has yet to make is waited for.

    Args:
        policy: names the workload.
        application: as Argo CD has it; None when that is not known.
        workload: as the cluster has it; None when the cluster has none of that name.
    """
    target = policy.manifest
    subject = f"{target.kind} {target.namespace}/{target.name}"
    if workload is None:
        return _missing(policy, application, subject)
    if workload.never_rolls_out is not None:
        next_step = f"Correct it in {target.path}, or name the workload that runs the pods in the policy."
        expected = "a workload that rolls a new image out by itself"
        return refused(WORKLOAD, Problem(subject, expected, workload.never_rolls_out, next_step))
    if workload.wanted < 1:
        next_step = f"Give it a replica. {_WAITING}"
        return waits(WORKLOAD, Problem(subject, "a replica that can be judged", "no wanted replicas", next_step))
    if workload.paused:
        next_step = f"Resume it (spec.paused). {_WAITING}"
        return waits(WORKLOAD, Problem(subject, "a rollout that goes on", "a paused rollout", next_step))
    ready = sum(pod.ready for pod in workload.new_pods)
    return fits(WORKLOAD, f"{subject} has {ready} of {workload.wanted} pods ready")


def _missing(policy: Policy, application: ApplicationStatus | None, subject: str) -> Look:
    target = policy.manifest
    expected = "the workload that the policy names"
    kinds = f"{JUDGED[target.kind].plural},pods"
    look = f"To see what is there: kubectl --context {policy.cluster} -n {target.namespace} get {kinds}."
    if application is None:
        next_step = f"Correct manifest in the policy. {look}"
        return refused(WORKLOAD, Problem(subject, expected, "no such workload", next_step))
    state = f"the Application is {application.sync_status} and {application.health_status}"
    if (target.kind, target.namespace, target.name) in application.resources:
        if application.sync_status == "Synced":
            where = application.destination or "another cluster"
            found = f"no such workload in {policy.cluster}, while Argo CD has it in {where}"
            next_step = f"If it was deleted, Argo CD brings it back; if not, correct cluster in the policy. {look}"
            return waits(WORKLOAD, Problem(subject, expected, found, next_step))
        last = f", its last sync {application.operation_phase}" if application.operation_phase else ""
        found = f"no such workload yet; {state}{last}"
        return waits(WORKLOAD, Problem(subject, expected, found, f"Let Argo CD make it. {_WAITING}"))
    if not application.resources:
        next_step = f"Let Argo CD sync it for the first time. {_WAITING}"
        found = f"no such workload yet; {state}, without resources"
        return waits(WORKLOAD, Problem(subject, expected, found, next_step))
    others = [each for each in application.resources if each[0] == target.kind]
    if not others:
        deployed = sorted({kind for kind, _, _ in application.resources})
        found = f"no {target.kind} in its Application, only {', '.join(deployed)}"
        return refused(WORKLOAD, Problem(subject, expected, found, "Correct manifest.kind or argocd in the policy."))
    likely = _likeliest(others, target.name)
    names = ", ".join(f"{namespace}/{name}" for _, namespace, name in others)
    found = f"no such workload; its Application deploys {target.kind} {names}"
    _, namespace, name = likely
    next_step = (
        f"If {namespace}/{name} is meant (Kustomize may add a prefix), set manifest.name: {name} and "
        f"manifest.namespace: {namespace}, with manifest.yaml_path for where the file has the image."
    )
    return refused(WORKLOAD, Problem(subject, expected, found, next_step))


def _likeliest(resources: list[tuple[str, str, str]], name: str) -> tuple[str, str, str]:
    """The resource whose name holds the policy's, or the first one."""
    return next((each for each in resources if name in each[2]), resources[0])


def look_at_container(policy: Policy, workload: WorkloadStatus) -> Look:
    """Find out whether the workload has the container."""
    name = policy.manifest.container
    if name in workload.images:
        return fits(CONTAINER, f"{name} has {workload.images[name]}")
    found = f"only {', '.join(workload.images) or 'containers without a name'}"
    next_step = "Correct manifest.container in the policy."
    return refused(CONTAINER, Problem(str(workload), f"a container {name}", found, next_step))


def look_at_port(workload: WorkloadStatus, port: int | Problem) -> Look:
    """Say at which port pods are asked; while that is not one port, the promotion waits."""
    what = f"pods of {workload}"
    return waits(what, port.then(_WAITING)) if isinstance(port, Problem) else fits(what, f"asked at port {port}")


def look_at_live_image(
    policy: Policy, application: ApplicationStatus, workload: WorkloadStatus, in_file: str | None
) -> Look:
    """Find out whether the workload has the image of the file, where Argo CD says that it has brought it there.

    When it has another one, something sets the image besides the file, and a commit would change nothing.

    Args:
        policy: names the file and the container.
        application: as Argo CD had it before the workload was read.
        workload: as the cluster has it.
        in_file: the image in the file at the commit that Argo CD has compared; None when that is not known.
    """
    live = live_value(workload, policy.manifest.container, policy.slot)
    if application.sync_status != "Synced":
        return fits(LIVE_IMAGE, f"{live}, while the Application is {application.sync_status}")
    if in_file is None:
        return fits(LIVE_IMAGE, f"{live}; what the file has at the commit that Argo CD compared is not known")
    is_part = live.endswith((f":{in_file}", f"@{in_file}"))  # of a file that has the tag or the digest alone
    if is_part or is_same(live, in_file):
        return fits(LIVE_IMAGE, f"{live}, as {policy.manifest.path} says")
    problem = Problem(
        str(workload),
        f"{in_file}, which {policy.manifest.path} has at the commit that is synced",
        live,
        "Something else sets the image: a kustomization's images, values of Helm, ignoreDifferences, or another file. "
        f"Let manifest in {policy.name}.yaml name what does, or remove that. {_WAITING}",
    )
    return waits(LIVE_IMAGE, problem)

"""A StatefulSet on the stand-in, read by the pipeline's own adapter and judged by its five conditions."""

from orchestration.adapters.argocd import ArgoCDApplications
from orchestration.adapters.clusters import KubernetesCluster
from orchestration.promotion.cluster_status import WorkloadStatus
from orchestration.promotion.images import parse_image
from orchestration.promotion.rollout_assessment import Progressing, RolledOut, assess
from orchestration.promotion.rollout_conditions import Expected, Revision
from tests.sandbox.cluster.conftest import DEPLOYMENT_TEXT, REPOSITORY, Running

STATEFUL_SET = "".join(
    line.replace("kind: Deployment", "kind: StatefulSet")
    for line in DEPLOYMENT_TEXT.splitlines(keepends=True)
    if not line.startswith(("  progressDeadlineSeconds", "  strategy"))
)


def bring(running: Running, image: str) -> str:
    """Push a StatefulSet of that image in place of what is there, and return the commit."""
    running.platform.write("manifests/iris/deployment.yaml", STATEFUL_SET.replace("IMAGE", image))
    commit = running.platform.push()
    running.refresh()
    return commit


def seen(running: Running, image: str, commit: str) -> object:
    """Judge the rollout of that image by one look."""
    reference = parse_image(image)
    assert reference is not None
    assert reference.digest is not None
    expected = Expected(commit, reference, "model-server", frozenset((reference.digest,)))
    application = ArgoCDApplications(running.cluster.kubeconfig, "gcp").application("argocd", "iris")
    return assess(application, read(running), expected, lambda at: Revision.OURS if at == commit else Revision.OTHER)


def read(running: Running) -> WorkloadStatus | None:
    return KubernetesCluster(running.cluster.kubeconfig, "edge").workload("StatefulSet", "ml", "iris")


def published(running: Running, tag: str, **environment: str) -> str:
    return f"{REPOSITORY}:{tag}@{running.platform.images.publish(tag, **environment)}"


def test_a_stateful_set_is_rolled_out_pod_by_pod(running: Running) -> None:
    """The pods keep their names, the new ones are told by their revision, and all conditions hold at the end."""
    first, second = published(running, "v1"), published(running, "v2")
    commit = bring(running, first)
    running.cluster.wait_for("the first image", lambda: isinstance(seen(running, first, commit), RolledOut))
    commit = bring(running, second)
    assert isinstance(seen(running, second, commit), Progressing)
    running.cluster.wait_for("the second image", lambda: isinstance(seen(running, second, commit), RolledOut))
    workload = read(running)
    assert workload is not None
    assert [pod.name for pod in workload.new_pods] == ["iris-0", "iris-1"]
    assert workload.template_hash == running.pods[0]["metadata"]["labels"]["controller-revision-hash"]
    assert workload.old_pods == ()


def test_a_rollback_waits_for_a_pod_that_never_becomes_ready(running: Running) -> None:
    """With `OrderedReady` the image before alone does not mend it: the reason names the pods that are left."""
    good, bad = published(running, "v1"), published(running, "v2", CRASH="1")
    commit = bring(running, good)
    running.cluster.wait_for("the good image", lambda: isinstance(seen(running, good, commit), RolledOut))
    bring(running, bad)

    def crashed() -> bool:
        states = [state.get("lastState", {}) for state in running.container_states(bad)]
        return any("terminated" in state for state in states)

    running.cluster.wait_for("the crash", crashed)
    commit = bring(running, good)

    def waits_for() -> str:
        outcome = seen(running, good, commit)
        return outcome.waiting_for if isinstance(outcome, Progressing) else ""

    running.cluster.wait_for("the old pods", lambda: waits_for() == "1 of 2 pods are updated")
    assert running.container_states(bad)

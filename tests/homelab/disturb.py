"""What goes wrong on a homelab, each as a context that puts things right again: outages, and what people do."""

import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbeds.common.processes import wait_until
from testbeds.homelab import clusters
from testbeds.story.look import Git
from tests.homelab.lab import SETTLE_SECONDS, Lab
from tests.scenarios.people import commit_and_push

ARGOCD = "argocd"
NODE = "k3d-edge-agent-0"
"""The node of edge that goes away."""
_OTHER_NODE = "k3d-edge-server-0"
_COMMIT_EVERY_SECONDS = 1.0
_UNANSWERED_SECONDS = 5


@contextmanager
def frozen_api(lab: Lab, cluster: str) -> Iterator[None]:
    """The API server of a cluster takes connections and answers none: SIGSTOP."""
    docker = lab.homelab.docker
    clusters.freeze_api(docker, cluster)
    try:
        yield
    finally:
        clusters.thaw_api(docker, cluster)


@contextmanager
def without_node(lab: Lab) -> Iterator[None]:
    """One of edge's two nodes loses its power, as the cluster has noticed; it is ready again afterwards."""
    docker = lab.homelab.docker
    _forget_the_unanswered(lab)
    docker.run("kill", NODE)
    try:
        wait_until(lambda: not _is_ready(lab, NODE), SETTLE_SECONDS, f"{NODE} is not ready")
        yield
    finally:
        docker.run("start", NODE)
    wait_until(lambda: _is_ready(lab, NODE), SETTLE_SECONDS, f"{NODE} is ready again")


def _forget_the_unanswered(lab: Lab) -> None:
    """Let the node that stays forget at once a connection that nobody answered, and not after 120 s.

    Until then a client that comes by the same port again, as one that asks all the time does, is led to the dead pod.
    """
    setting = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_syn_sent"
    lab.homelab.docker.run("exec", _OTHER_NODE, "sh", "-c", f"echo {_UNANSWERED_SECONDS} >{setting}")


@contextmanager
def on_that_node_alone(lab: Lab) -> Iterator[None]:
    """New pods are placed on the node that will go away."""
    lab.homelab.edge.run("cordon", _OTHER_NODE)
    try:
        yield
    finally:
        lab.homelab.edge.run("uncordon", _OTHER_NODE)


def _is_ready(lab: Lab, node: str) -> bool:
    found = lab.homelab.edge.read("node", node, "default")
    conditions = {one["type"]: one["status"] for one in found["status"]["conditions"]} if found else {}
    return conditions.get("Ready") == "True"


@contextmanager
def without_argocds(lab: Lab, workload: str) -> Iterator[None]:
    """One of Argo CD's parts (`deployment/argocd-repo-server`, ...) is stopped, and started again."""
    gcp = lab.homelab.gcp
    name = workload.partition("/")[2]

    def gone() -> bool:
        return not gcp.items("pods", ARGOCD, f"app.kubernetes.io/name={name}")

    gcp.run("scale", workload, f"--namespace={ARGOCD}", "--replicas=0")
    try:
        wait_until(gone, SETTLE_SECONDS, f"{workload} is stopped")
        yield
    finally:
        gcp.run("scale", workload, f"--namespace={ARGOCD}", "--replicas=1")
    gcp.run("rollout", "status", workload, f"--namespace={ARGOCD}", "--timeout=110s", seconds=120)


@contextmanager
def auto_sync_off(lab: Lab) -> Iterator[None]:
    """Somebody takes `automated` out of the Application in Git, where it must be: root would put it back elsewhere."""
    name = lab.homelab.policy.argocd.application
    file = f"argocd-apps/{name}-app.yaml"
    with tempfile.TemporaryDirectory() as folder:
        git = Git(lab.environment, Path(folder))
        before = (git.folder / file).read_text(encoding="utf-8")
        after, times = re.subn(r"    automated:\n(?:      .*\n)+", "", before)
        assert times == 1, f"{file} has {times} times `automated`"

    def put(content: str, message: str, automated: bool) -> None:
        with tempfile.TemporaryDirectory() as folder:
            git = Git(lab.environment, Path(folder))
            (git.folder / file).write_text(content, encoding="utf-8")
            commit_and_push(git, message)
        what = f"auto-sync of {name} is {'on' if automated else 'off'}"
        wait_until(lambda: _asked_for(lab, name, automated), SETTLE_SECONDS, what)

    put(after, f"Sync {name} by hand for a while", automated=False)
    try:
        yield
    finally:
        put(before, f"Sync {name} by itself again", automated=True)


def _asked_for(lab: Lab, application: str, automated: bool) -> bool:
    """Whether the live Application syncs as it should; root is asked to look until it does."""
    found = "automated" in lab.application(application)["spec"].get("syncPolicy", {})
    if found != automated:
        lab.refresh("root")
    return found == automated


@contextmanager
def shorter(lab: Lab, **deadlines: str) -> Iterator[None]:
    """The policy with other times, such as `rollout="30s"`; the pipeline reads policies anew in each run."""
    file = Path(lab.environment.settings()["INCUMBENT_POLICIES"]) / f"{lab.environment.policy}.yaml"
    before = after = file.read_text(encoding="utf-8")
    for name, value in deadlines.items():
        pattern = {"rollout": r"(?<=^rollout: \{deadline: )\w+", "judge_within": r"(?<=^  judge_within: )\w+"}[name]
        after, times = re.subn(pattern, value, after, flags=re.MULTILINE)
        assert times == 1, f"{file} has {times} times {name}"
    file.write_text(after, encoding="utf-8")
    try:
        yield
    finally:
        file.write_text(before, encoding="utf-8")


@contextmanager
def somebody_commits_all_the_time(lab: Lab) -> Iterator[list[int]]:
    """A second committer pushes other files each second; yields how many pushes there were so far, as one item."""
    pushes, stop = [0], threading.Event()
    failed: list[Exception] = []

    def go_on() -> None:
        try:
            with tempfile.TemporaryDirectory() as folder:
                git = Git(lab.environment, Path(folder))
                while not stop.wait(_COMMIT_EVERY_SECONDS):
                    note = git.folder / "notes" / "diary.txt"
                    note.parent.mkdir(exist_ok=True)
                    note.write_text(f"entry {pushes[0]}\n", encoding="utf-8")
                    commit_and_push(git, f"Note {pushes[0]}")
                    pushes[0] += 1
                    stop.wait(1.0)
        except (OSError, RuntimeError) as error:
            failed.append(error)

    committer = threading.Thread(target=go_on, name="a second committer")
    committer.start()
    try:
        yield pushes
    finally:
        stop.set()
        committer.join()
    assert failed == [], "the second committer must not be stopped by the pipeline"

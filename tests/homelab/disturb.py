"""Disturbances of a homelab, each as a context that ends by undoing it: outages, and what people do."""

import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbeds.common.processes import wait_until
from testbeds.homelab import clusters
from testbeds.story.look import Git
from testbeds.story.pushing import commit_and_push
from tests.homelab.lab import SETTLE_SECONDS, Lab

ARGOCD = "argocd"
NODE = "k3d-edge-agent-0"
"""The node of edge that fails."""
_OTHER_NODE = "k3d-edge-server-0"
_COMMIT_EVERY_SECONDS = 1.0
_UNANSWERED_SECONDS = 5


@contextmanager
def frozen_api(lab: Lab, cluster: str) -> Iterator[None]:
    """Stop the API server of a cluster with SIGSTOP, so that it accepts connections and answers none."""
    docker = lab.homelab.docker
    clusters.freeze_api(docker, cluster)
    try:
        yield
    finally:
        clusters.thaw_api(docker, cluster)


@contextmanager
def without_node(lab: Lab) -> Iterator[None]:
    """Kill one of edge's two nodes and wait until the cluster has noticed; afterwards wait until it is ready again."""
    docker = lab.homelab.docker
    _forget_unanswered_connections(lab)
    docker.run("kill", NODE)
    try:
        wait_until(lambda: not _is_ready(lab, NODE), SETTLE_SECONDS, f"{NODE} is not ready")
        yield
    finally:
        docker.run("start", NODE)
    wait_until(lambda: _is_ready(lab, NODE), SETTLE_SECONDS, f"{NODE} is ready again")


def _forget_unanswered_connections(lab: Lab) -> None:
    """Let the other node forget an unanswered connection after 5 s instead of 120 s.

    Until then, a client that reuses the port, as one that sends requests all the time does, is led to the dead pod.
    """
    setting = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_syn_sent"
    lab.homelab.docker.run("exec", _OTHER_NODE, "sh", "-c", f"echo {_UNANSWERED_SECONDS} >{setting}")


@contextmanager
def new_pods_on_that_node(lab: Lab) -> Iterator[None]:
    """Have new pods placed on the node that will fail, and on no other."""
    lab.homelab.edge.run("cordon", _OTHER_NODE)
    try:
        yield
    finally:
        lab.homelab.edge.run("uncordon", _OTHER_NODE)


def _is_ready(lab: Lab, node: str) -> bool:
    document = lab.homelab.edge.read("node", node, "default")
    conditions = document["status"]["conditions"] if document else ()
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


@contextmanager
def without_argocd_part(lab: Lab, workload: str) -> Iterator[None]:
    """Stop one of Argo CD's parts (`deployment/argocd-repo-server`, ...), and start it again afterwards."""
    gcp = lab.homelab.gcp
    name = workload.partition("/")[2]

    def stopped() -> bool:
        return not gcp.items("pods", ARGOCD, f"app.kubernetes.io/name={name}")

    gcp.run("scale", workload, f"--namespace={ARGOCD}", "--replicas=0")
    try:
        wait_until(stopped, SETTLE_SECONDS, f"{workload} is stopped")
        yield
    finally:
        gcp.run("scale", workload, f"--namespace={ARGOCD}", "--replicas=1")
    gcp.run("rollout", "status", workload, f"--namespace={ARGOCD}", "--timeout=110s", seconds=120)


@contextmanager
def auto_sync_off(lab: Lab) -> Iterator[None]:
    """Remove `automated` from the Application in Git; root would undo a change anywhere else."""
    name = lab.homelab.policy.argocd.application
    file = f"argocd-apps/{name}-app.yaml"
    with tempfile.TemporaryDirectory() as folder:
        git = Git(lab.homelab.trunk, Path(folder))
        before = (git.folder / file).read_text(encoding="utf-8")
        after, count = re.subn(r"    automated:\n(?:      .*\n)+", "", before)
        assert count == 1, f"{file} has `automated` {count} times"

    def is_automated() -> bool:
        return "automated" in lab.application(name)["spec"].get("syncPolicy", {})

    def put(content: str, message: str, automated: bool) -> None:
        with tempfile.TemporaryDirectory() as folder:
            git = Git(lab.homelab.trunk, Path(folder))
            (git.folder / file).write_text(content, encoding="utf-8")
            commit_and_push(git, message)
        what = f"auto-sync of {name} is {'on' if automated else 'off'}"
        lab.refresh_until("root", lambda: is_automated() == automated, what)

    put(after, f"Sync {name} by hand for a while", automated=False)
    try:
        yield
    finally:
        put(before, f"Sync {name} automatically again", automated=True)


@contextmanager
def shorter_deadlines(lab: Lab, **deadlines: str) -> Iterator[None]:
    """Change the policy's deadlines, such as `rollout="30s"`; the pipeline reads policies again in each run."""
    file = Path(lab.environment.settings()["INCUMBENT_POLICIES"]) / f"{lab.environment.policy}.yaml"
    before = after = file.read_text(encoding="utf-8")
    for name, value in deadlines.items():
        pattern = {"rollout": r"(?<=^rollout: \{deadline: )\w+", "judge_within": r"(?<=^  judge_within: )\w+"}[name]
        after, count = re.subn(pattern, value, after, flags=re.MULTILINE)
        assert count == 1, f"{file} has {name} {count} times"
    file.write_text(after, encoding="utf-8")
    try:
        yield
    finally:
        file.write_text(before, encoding="utf-8")


@contextmanager
def constant_commits(lab: Lab) -> Iterator[list[int]]:
    """Have a second committer push other files every second or two.

    Yields:
        A list whose only item is the number of pushes so far.
    """
    pushes, stop = [0], threading.Event()
    failures: list[Exception] = []

    def keep_committing() -> None:
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
            failures.append(error)

    committer = threading.Thread(target=keep_committing, name="a second committer")
    committer.start()
    try:
        yield pushes
    finally:
        stop.set()
        committer.join()
    assert failures == [], "the pipeline must not keep the second committer from pushing"

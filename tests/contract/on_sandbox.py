"""The contract on a stand-in cluster of its own, with a real image registry and a Git repository in a folder."""

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from testbeds.common.processes import Processes, wait_until
from testbeds.common.services import HOST, answers, free_ports
from testbeds.sandbox.cluster.handle import start_cluster
from testbeds.sandbox.cluster.kubeconfig import write_kubeconfig
from testbeds.sandbox.images import publish_image
from testbeds.sandbox.services import start_registry
from tests.contract.content import write_all
from tests.contract.manifests import application
from tests.contract.place import BRANCH, REGISTRY, STEADY, TROUBLED, Place, Repository
from tests.sandbox.cluster.conftest import POD_COMMAND

_PATH = "contract/model"


@contextlib.contextmanager
def contract_place(folder: Path) -> Iterator[Place]:
    """Run a stand-in that follows the branch, until the block ends."""
    processes = Processes(folder / "state")
    try:
        (port,) = free_ports(1)
        registry_url = f"http://{HOST}:{port}"
        registry = start_registry(processes, folder, port)
        wait_until(lambda: answers(f"{registry_url}/v2/"), 30, "the registry answers", registry)

        def publish(tag: str, environment: Mapping[str, str]) -> str:
            return publish_image(registry_url, _PATH, tag, environment)

        bare, cluster_state = folder / "gitops.git", folder / "cluster"
        subprocess.run(["git", "init", "--quiet", "--bare", f"--initial-branch={BRANCH}", bare], check=True)
        repository = Repository(folder, str(bare), None)
        place = Place(
            kubeconfig=cluster_state / "kubeconfig.yaml",
            stranger=cluster_state / "stranger.yaml",
            wrong=folder / "wrong.yaml",
            repository=repository,
            image_repository=f"{REGISTRY}/{_PATH}",
            publish=publish,
            targets=lambda: _targets(place),
        )
        write_all(place)
        options = ["--branch", BRANCH]
        for name in (STEADY, TROUBLED):
            repository.write(f"argocd-apps/{name}.yaml", application(name, str(bare), "default"))
            options += ["--application", f"argocd-apps/{name}.yaml"]
        repository.push(first=True)
        mirrors = {REGISTRY: registry_url}
        with start_cluster(
            cluster_state, bare.as_uri(), oci_mirrors=mirrors, pod_command=POD_COMMAND, options=options
        ) as cluster:
            write_kubeconfig(place.wrong, cluster.url, "nobody's")
            yield place
    finally:
        processes.stop_all()


def _targets(place: Place) -> list[dict[str, str]]:
    groups = place.edge.get("/sandbox/prometheus/targets").document
    return [{name: value for name, value in group["labels"].items() if not name.startswith("__")} for group in groups]

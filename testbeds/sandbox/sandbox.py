"""The whole sandbox: everything that the pipeline talks to, on one machine, with a baseline that serves.

Nothing in it needs root, Docker or a network beyond loopback once the tools are there. The pipeline is given URLs and
a kubeconfig, here as anywhere else.
"""

import json
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from orchestration.promotion.policy import Policy
from testbeds.common.dagster import Dagster
from testbeds.common.guardian import MARK
from testbeds.common.processes import Processes, Service, await_end, wait_until
from testbeds.common.services import BRANCH, HOST, answers, free_ports, start_training
from testbeds.common.state import (
    POLICY,
    baseline_images,
    lock,
    published_models,
    read_policies,
    read_policy,
    render_policies,
)
from testbeds.common.tools import CHECKOUT, find_tool
from testbeds.sandbox import services
from testbeds.sandbox.services import Cluster, Git
from testbeds.training.publish import Published

_POLICIES = CHECKOUT / "testbeds" / "sandbox" / "policies"
_START_SECONDS = 180.0
_ENTRIES_KEPT = ("logs", ".lock", "sandbox.id")
_ENTRIES_REOPENED = (*_ENTRIES_KEPT, "mlflow", "registry", "git", "dagster", "models.jsonl", "ports.json")


class Sandbox:
    """The sandbox in a state folder, which one sandbox at a time may use.

    A start begins anew in the folder. With `reopen` it continues with what an earlier sandbox left there, provided that
    one had started completely, and at the same ports as far as these are still free.
    """

    mlflow_url: str
    registry_url: str
    prometheus_url: str
    service_url: str
    git: Git
    cluster: Cluster
    policy: Policy
    processes: Processes
    dagster: Dagster

    def __init__(self, state: Path, *, reopen: bool = False) -> None:
        self.state = state.resolve()
        self._reopen = reopen
        self._ports = self.state / "ports.json"
        """Written when everything has started, and so the sign that a state is complete."""
        self._training: Service | None = None
        self._results = self.state / "models.jsonl"
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything, and return when the baseline answers at `service_url` and all models are published.

        Raises:
            ProblemError: something does not come up, or another sandbox uses the state folder.
        """
        for tool in ("docker-registry", "prometheus"):
            find_tool(tool)
        self._lock = lock(self.state, "sandbox", "End that process, or choose another folder (--state).")
        self.processes = Processes(self.state)
        reopened = self._reopen and self._ports.exists()
        ports = json.loads(self._ports.read_text(encoding="utf-8")) if reopened else []
        _clear(self.state, _ENTRIES_REOPENED if reopened else _ENTRIES_KEPT)
        ports = free_ports(5, ports)
        mlflow_port, registry_port, prometheus_port, dagster_port, code_port = ports
        self.mlflow_url = f"http://{HOST}:{mlflow_port}"
        self.registry_url = f"http://{HOST}:{registry_port}"
        self.prometheus_url = f"http://{HOST}:{prometheus_port}"
        mlflow = services.start_mlflow(self.processes, self.state, mlflow_port)  # first: it takes longest
        registry = services.start_registry(self.processes, self.state, registry_port)
        wait_until(lambda: answers(f"{self.registry_url}/v2/"), _START_SECONDS, "the OCI registry answers", registry)
        if not reopened:
            self._training = start_training(
                self.processes,
                self._results,
                program="testbeds.sandbox.publish_models",
                registry_url=self.registry_url,
                mlflow_url=self.mlflow_url,
                baselines=baseline_images(),
            )
        self.git = services.start_git(self.processes, self.state, secrets.token_urlsafe(24))
        wait_until(lambda: answers(f"{self.mlflow_url}/health"), _START_SECONDS, "MLflow answers", mlflow)
        # Not earlier: the kubelet's back-off would grow until the baseline's image is published.
        self.cluster = services.start_cluster(
            self.processes,
            self.state,
            self.git,
            registry_url=self.registry_url,
            mlflow_url=self.mlflow_url,
            policies=read_policies(_POLICIES),
        )
        prometheus = services.start_prometheus(self.processes, self.state, self.cluster, prometheus_port)
        self.policy = render_policies(_POLICIES, self.state / "policies", self._url_of)
        self.service_url = self.policy.service.url
        wait_until(lambda: answers(f"{self.prometheus_url}/-/ready"), _START_SECONDS, "Prometheus is ready", prometheus)
        wait_until(lambda: self.models() or None, _START_SECONDS, "the baseline's image is published", self._training)
        self.dagster = Dagster(self.processes, self.state / "dagster", dagster_port, code_port)
        dagster_home = self.dagster.lay_out()
        for policy in read_policies(self.state / "policies"):
            serving = partial(answers, f"{policy.service.url}/health")
            wait_until(serving, _START_SECONDS, f"{policy.model} serves", self.cluster.service)
        if self._training is not None:
            await_end(self._training, _START_SECONDS, "all models are trained and published")
        await_end(dagster_home, _START_SECONDS, "Dagster's databases are laid out")
        self.settings_file.write_text(_shell_settings(self.environment()), encoding="utf-8")
        self._ports.write_text(json.dumps(ports), encoding="utf-8")

    def stop(self) -> None:
        """End everything. The state folder stays, so that it can be examined."""
        if hasattr(self, "processes"):
            self.processes.stop_all()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def models(self, policy: str = POLICY) -> dict[str, Published]:
        """Read what has been published of a policy's model so far, by its names in the story (`version 1`, ...)."""
        return published_models(self._results, read_policy(_POLICIES, policy).model)

    @property
    def settings_file(self) -> Path:
        """The settings as a file that a shell reads with `source`, for the command line."""
        return self.state / "settings.sh"

    def _url_of(self, port: int) -> str:
        """Return where a node port of the cluster answers."""
        return f"http://{HOST}:{self.cluster.node_ports[port]}"

    def environment(self) -> dict[str, str]:
        """Return the pipeline's settings, and the mark by which a process with these settings ends with the sandbox."""
        return {
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "INCUMBENT_POLICIES": str(self.state / "policies"),
            "INCUMBENT_GIT_URL": self.git.url,
            "INCUMBENT_GIT_BRANCH": BRANCH,
            "INCUMBENT_GIT_TOKEN_FILE": str(self.git.token_file),
            "INCUMBENT_KUBECONFIG": str(self.cluster.kubeconfig),
            "INCUMBENT_ARGOCD_CONTEXT": "gcp",
            "PROMETHEUS_URL": self.prometheus_url,
            "INCUMBENT_OCI_MIRRORS": f"ghcr.io={self.registry_url}",
            "INCUMBENT_STATE": str(self.state / "incumbent"),
            "DAGSTER_HOME": str(self.state / "dagster"),
            MARK: self.processes.identity,
        }


def _shell_settings(settings: Mapping[str, str]) -> str:
    """Return the settings in a shell's words, and the folder of `incumbent` and `dagster` on its PATH.

    The mark is left out: a person's editor, started in that shell, is not the sandbox's to end.
    """
    lines = [f"export {name}={shlex.quote(value)}" for name, value in settings.items() if name != MARK]
    return "\n".join([*lines, f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"', ""])


def _clear(state: Path, kept: Collection[str]) -> None:
    """Remove what an earlier sandbox left, except what this one uses."""
    for name in os.listdir(state):  # noqa: PTH208  names are what is compared
        path = state / name
        if name in kept:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

"""The whole homelab: two clusters that Argo CD keeps, with a baseline that serves and all versions published.

It outlives the process that starts it. The pipeline is given URLs and a kubeconfig, here as everywhere.
"""

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bootstrap.kubectl import Kubectl
from bootstrap.secrets import PIPELINE, TRAINING
from orchestration.promotion.images import ImageRef
from orchestration.promotion.policy import Policy
from orchestration.promotion.problems import Problem, ProblemError
from testbeds.common.processes import Processes, await_end, wait_until
from testbeds.common.services import start_training
from testbeds.common.state import (
    baseline_images,
    lock,
    published_models,
    read_policies,
    read_policy,
)
from testbeds.homelab import alerts, bootstrap, clusters, gitops, settings
from testbeds.homelab.docker import Docker
from testbeds.homelab.images import publish_companion, publish_model
from testbeds.homelab.progress import Say
from testbeds.homelab.settings import EDGE, GCP, STATE
from testbeds.homelab.supply import Supply, find_supply
from testbeds.homelab.waiting import await_all, silent
from testbeds.training.publish import Published

_KEPT = (".lock", "training", "host")
"""What remains in the state when its homelab has ended: the lock, and the logs of programs on the machine."""
_SECONDS = 240.0
_WELL_SECONDS = 20.0
"""A homelab that is not well after this time is started anew."""


@dataclass(frozen=True)
class Homelab:
    """A running homelab, in its state folder."""

    state: Path
    supply: Supply
    policy: Policy

    mlflow_url = settings.MLFLOW_URL
    prometheus_url = settings.PROMETHEUS_URL
    alertmanager_url = settings.ALERTMANAGER_URL
    registry_url = settings.REGISTRY_URL
    service_url = settings.service_url(settings.SERVICE_PORTS[0])
    git_url = gitops.URL

    @classmethod
    def open(cls, state: Path = STATE) -> "Homelab":
        """Open the running homelab.

        Raises:
            ProblemError: no homelab was started completely, or its clusters do not answer.
        """
        if not _sign(state).exists():
            raise _not_up(state, "no homelab that has started completely")
        homelab = cls(state, find_supply(), read_policy(state / "policies"))
        os.environ.update(homelab.mlflow_login())  # for the MLflow clients of this process
        for cluster in (homelab.gcp, homelab.edge):
            try:
                cluster.run("get", "--raw", "/readyz", seconds=10)
            except ProblemError as error:
                raise _not_up(state, str(error)) from error
        return homelab

    @classmethod
    def up(cls, say: Say, state: Path = STATE) -> "Homelab":
        """Open the running homelab if it is well, or else start a new one and remove what is left of a broken one.

        Raises:
            ProblemError: something does not come up, or another process is starting or ending the homelab.
        """
        with lock(state, "homelab", "Wait until that process has started or ended the homelab."):
            if (running := _well(state, say)) is not None:
                return running
            began = time.monotonic()
            supply = find_supply()
            say(f"images and programs: {supply.name}")
            clusters.remove_earlier(supply, state, say)
            _clear(state)
            homelab = _start(supply, state, say)
            os.environ.update(homelab.mlflow_login())
            _sign(state).write_text(json.dumps({"supply": supply.name}) + "\n", encoding="utf-8")
            say(f"the homelab is up: {time.monotonic() - began:.0f} s")
            return homelab

    @staticmethod
    def down(say: Say, state: Path = STATE) -> None:
        """End the homelab, if there is one, and leave nothing of it but the folder with its logs."""
        with lock(state, "homelab", "Wait until that process has started or ended the homelab."):
            clusters.stop(find_supply(), state, say)
            _clear(state)

    def lose_control_plane(self, say: Say) -> None:
        """Delete the cluster gcp with its disks: Argo CD, the registry and its backups, monitoring, every Secret."""
        clusters.lose(self.supply, self.docker, self.state, GCP, say)

    def rebuild_control_plane(self, backup: Path, say: Say) -> None:
        """Bring it back as docs/clusters.md says: from Git, a registry's backup, and the tokens that people keep.

        Afterwards the pipeline's kubeconfig and login are new ones, and whatever runs with the old ones must be
        restarted.

        Raises:
            ProblemError: something does not come up.
        """
        clusters.replace(self.supply, self.docker, self.state, GCP, say)
        bootstrap.make_secrets(self.gcp, say, alerts.github_token_file(self.state).read_text(encoding="utf-8"))
        alerts.restart_receiver(self.docker, self.gcp, self.state)
        _bring_platform(self, say, backup)
        _await_platform(self, say)
        bootstrap.forget_fetches(self.gcp)
        _write_login(self.state, bootstrap.mlflow_login(self.gcp, PIPELINE))
        os.environ.update(self.mlflow_login())

    @property
    def docker(self) -> Docker:
        return Docker(self.supply.docker, self.supply.environment())

    @property
    def kubeconfig(self) -> Path:
        """The pipeline's kubeconfig: contexts gcp and edge, with no more rights than the pipeline needs."""
        return self.state / "kubeconfig"

    @property
    def admin_kubeconfig(self) -> Path:
        return self.state / "admin.kubeconfig"

    @property
    def gcp(self) -> Kubectl:
        """The control plane, with all rights."""
        return Kubectl(self.supply.kubectl, self.admin_kubeconfig, GCP)

    @property
    def edge(self) -> Kubectl:
        """The cluster of the models, with all rights."""
        return Kubectl(self.supply.kubectl, self.admin_kubeconfig, EDGE)

    @property
    def git_token_file(self) -> Path:
        return gitops.token_file(self.state)

    @property
    def trunk(self) -> gitops.Trunk:
        """What follows the branch that the pipeline's token cannot push to."""
        return gitops.Trunk(self.state)

    def mlflow_login(self) -> dict[str, str]:
        """Return the pipeline's account as environment variables for MLflow's clients."""
        return dict(json.loads(_login_file(self.state).read_text(encoding="utf-8")))

    def models(self) -> dict[str, Published]:
        """Read what has been published of the policy's model, by its names in the story (`version 1`, ...)."""
        return published_models(_results(self.state), self.policy.model)

    def publish(self, version_uri: str, tag: str, **faults: str) -> str:
        """Push an image of a registered version under that tag, with these faults, and return its digest."""
        repository = self.policy.images.repository.partition("/")[2]
        return publish_model(self.mlflow_url, self.registry_url, version_uri, tag, faults, repository=repository)

    def environment(self) -> dict[str, str]:
        """Return the pipeline's settings."""
        return {
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            **self.mlflow_login(),
            "INCUMBENT_POLICIES": str(self.state / "policies"),
            "INCUMBENT_GIT_URL": self.git_url,
            "INCUMBENT_GIT_BRANCH": settings.OWNER.serving.branch,
            "INCUMBENT_GIT_TOKEN_FILE": str(self.git_token_file),
            "INCUMBENT_KUBECONFIG": str(self.kubeconfig),
            "INCUMBENT_ARGOCD_CONTEXT": GCP,
            "PROMETHEUS_URL": self.prometheus_url,
            "INCUMBENT_OCI_MIRRORS": f"ghcr.io={self.registry_url}",
            "INCUMBENT_STATE": str(self.state / "incumbent"),
        }


def _start(supply: Supply, state: Path, say: Say) -> Homelab:
    """Start everything in an empty state."""
    gitops.create(state)
    clusters.start(supply, state, say)
    homelab = Homelab(state, supply, gitops.write_policies(state / "policies"))
    policies = read_policies(state / "policies")
    gitops.start_server(homelab.docker, state)
    bootstrap.make_secrets(homelab.gcp, say)
    alerts.start_receiver(homelab.docker, homelab.gcp, state)
    alerts.start_github(homelab.docker, homelab.gcp, state)
    _write_login(state, bootstrap.mlflow_login(homelab.gcp, PIPELINE))
    processes = Processes(state / "training")
    try:
        training = start_training(  # models are fitted while the platform comes up
            processes,
            _results(state),
            program="testbeds.homelab.publish_models",
            registry_url=homelab.registry_url,
            mlflow_url=homelab.mlflow_url,
            baselines=_baselines(),
            login=bootstrap.mlflow_login(homelab.gcp, TRAINING),
        )
        gcp, edge = homelab.gcp, homelab.edge
        publish_companion(homelab.registry_url, say)
        bootstrap.fetch_early(edge, settings.PYTHON_IMAGE)  # the base of the models' images
        _bring_platform(homelab, say)
        wait_until(lambda: _all_published(state, policies), _SECONDS, "the baselines' images are published", training)
        bootstrap.pull_now(edge)
        _await_platform(homelab, say)
        for cluster in (gcp, edge):
            bootstrap.forget_fetches(cluster)
        for policy in policies:
            await_all(f"{policy.model} answers", partial(silent, f"{policy.service.url}/health"), _SECONDS, say)
        await_end(training, _SECONDS, "all models are trained and published")
    finally:
        processes.stop_all()
    return homelab


def _bring_platform(homelab: Homelab, say: Say, backup: Path | None = None) -> None:
    """Install Argo CD on a control plane that has its Secrets, and let root bring the rest.

    Args:
        homelab: the clusters, and what runs beside them.
        say: takes the lines of progress.
        backup: what the registry begins with; without it, it begins empty.
    """
    gcp, edge = homelab.gcp, homelab.edge
    bootstrap.install_argocd(gcp, homelab.supply.manifest("argocd", say), say)
    bootstrap.fetch_early(gcp, settings.MLFLOW_IMAGE)
    await_all("the Git server answers", lambda: silent(gitops.HEALTH_URL), _SECONDS, say)
    await_all("the receiver of alerts answers", lambda: silent(alerts.HEALTH_URL), _SECONDS, say)
    await_all("the stand-in for GitHub answers", lambda: silent(alerts.GITHUB_HEALTH_URL), _SECONDS, say)
    bootstrap.register(gcp, edge, gitops.readers_token_file(homelab.state).read_text(encoding="utf-8"), say)
    if backup is not None:
        bootstrap.restore_backup(gcp, backup, say)
    bootstrap.start_root(gcp, gitops.content(homelab.state), say)
    bootstrap.make_mlflow_accounts(gcp, say)
    bootstrap.give_prometheus_its_account(gcp, edge, say)


def _await_platform(homelab: Homelab, say: Say) -> None:
    """Write the pipeline's kubeconfig, and wait until every application is well and monitoring answers."""
    gcp, edge = homelab.gcp, homelab.edge
    bootstrap.write_pipeline_kubeconfig(homelab.kubeconfig, gcp, edge)
    bootstrap.await_healthy(gcp, edge, gitops.content(homelab.state), say)
    for name, url in (("Prometheus", homelab.prometheus_url), ("Alertmanager", homelab.alertmanager_url)):
        await_all(f"{name} answers", partial(silent, f"{url}/-/ready"), _SECONDS, say)


def _clear(state: Path) -> None:
    """Remove what an earlier homelab left in the state, except its logs."""
    _sign(state).unlink(missing_ok=True)  # first: a state that is cleared in part is not complete
    for path in (*state.iterdir(), *(state / "host").glob("dagster"), *(state / "host").glob("exporter")):
        if path.name in _KEPT:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _well(state: Path, say: Say) -> Homelab | None:
    """Open the running homelab; None unless everything in it is well within `_WELL_SECONDS`."""
    try:
        homelab = Homelab.open(state)
        bootstrap.await_healthy(homelab.gcp, homelab.edge, gitops.content(state), say, seconds=_WELL_SECONDS)
    except ProblemError as error:
        if _sign(state).exists():
            say(f"started anew, since the existing homelab is not well: {error}")
        return None
    say("the homelab is up already")
    return homelab


def _baselines() -> dict[str, ImageRef]:
    """Return the image of each model that serves before anything is promoted, in the homelab's owner's repository."""
    return {model: replace(image, repository=settings.OWNER.image(model)) for model, image in baseline_images().items()}


def _all_published(state: Path, policies: Sequence[Policy]) -> bool:
    """Check that at least the baseline of each model is published: it is published first."""
    return all(published_models(_results(state), policy.model) for policy in policies)


def _results(state: Path) -> Path:
    return state / "models.jsonl"


def _login_file(state: Path) -> Path:
    return state / "mlflow-login"


def _write_login(state: Path, login: dict[str, str]) -> None:
    _login_file(state).touch(mode=0o600)
    _login_file(state).write_text(json.dumps(login), encoding="utf-8")


def _sign(state: Path) -> Path:
    """Return the file that is written when everything has started, and so the sign that a homelab is complete."""
    return state / "homelab.json"


def _not_up(state: Path, found: str) -> ProblemError:
    return ProblemError(Problem(f"homelab in {state}", "a running homelab", found, "Start it: make homelab."))

"""One promotion on the homelab: requested as a person would, disturbed by a test, and judged by the verifier."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestration.adapters.kube_api import KubeApi
from orchestration.promotion.problems import ProblemError
from testbeds.common.processes import wait_until
from testbeds.homelab.environment import HomelabEnvironment
from testbeds.homelab.homelab import Homelab
from testbeds.homelab.settings import EDGE
from testbeds.story.expectation import End, promoting
from testbeds.story.look import branch, look, read_log
from testbeds.story.seen import Seen
from testbeds.story.stories import Outcome, expected, registry, request_promotion, wait_for_end, wait_for_state
from testbeds.story.verifier import false_claims, verify
from testbeds.story.versions import register_again

SETTLE_SECONDS = 120.0
"""How long the homelab may take to become whole again after a disturbance."""
_STEADY_SECONDS = 15.0
_STEADY_BYTES = 512 * 1024
"""More than the client logs in that time."""

_ENDED_RUNS = """
query($partition: String!) {
  runsOrError(filter: {statuses: [FAILURE, SUCCESS], tags: [{key: "dagster/partition", value: $partition}]}) {
    ... on Runs { results { runId } }
  }
}
"""
_SAID = """
query($partition: String!) {
  runsOrError(filter: {tags: [{key: "dagster/partition", value: $partition}]}) {
    ... on Runs { results { eventConnection { events { ... on LogMessageEvent { message } } } } }
  }
}
"""


@dataclass(frozen=True)
class Lab:
    """A homelab on which Dagster's sensor is on and a champion serves."""

    environment: HomelabEnvironment
    client: Any = field(repr=False)
    """MLflow's client."""

    @property
    def homelab(self) -> Homelab:
        return self.environment.homelab

    def champion(self) -> int | None:
        version = self.client.get_registered_model(self.environment.model).aliases.get(self.environment.champion_alias)
        return None if version is None else int(version)

    def promote(self, faults: Mapping[str, str] | None = None) -> "Promotion":
        """Register a good model again, with an image of its own that has these faults, and make it the challenger."""
        return self.promote_version(register_again(self.environment, of=2, faults=faults))

    def promote_version(self, version: int) -> "Promotion":
        return Promotion(self, version, self.champion(), request_promotion(self.environment, self.client, version))

    def commits_of(self, version: int) -> int:
        """Return how many commits promote a version, from Git alone, because the clusters may not answer."""
        return len(promoting(branch(self.environment), self.environment.policy, version))

    def application(self, name: str) -> dict[str, Any]:
        application = self.homelab.gcp.read("application", name, "argocd")
        assert application is not None, f"there is no Application {name}"
        return application

    def refresh(self, application: str) -> None:
        """Have Argo CD look at Git now instead of at its next interval."""
        annotation = "argocd.argoproj.io/refresh=normal"
        self.homelab.gcp.run("annotate", "application", application, "--namespace=argocd", annotation, "--overwrite")

    def refresh_until(self, application: str, condition: Callable[[], bool], what: str) -> None:
        """Wait for the effect of a commit, refreshing an Application until it shows.

        Raises:
            ProblemError: it does not show in time; the problem names `what`.
        """

        def met() -> bool:
            is_met = condition()
            if not is_met:
                self.refresh(application)
            return is_met

        wait_until(met, SETTLE_SECONDS, what)

    def deployment(self) -> dict[str, Any]:
        """Return the live Deployment of the model."""
        target = self.homelab.policy.manifest
        deployment = self.homelab.edge.read("deployment", target.name, target.namespace)
        assert deployment is not None, f"there is no Deployment {target.name}"
        return deployment

    def live_image(self) -> str:
        """Return the image that the live Deployment states."""
        (container,) = self.deployment()["spec"]["template"]["spec"]["containers"]
        return str(container["image"])

    def set_live_image(self, image: str) -> None:
        """Set another image on the live Deployment by hand."""
        target = self.homelab.policy.manifest
        command = ("set", "image", f"deployment/{target.name}", f"{target.container}={image}")
        self.homelab.edge.run(*command, f"--namespace={target.namespace}")

    def spoil(self, pod: str, **faults: str) -> None:
        """Give faults to one pod whose image was published with `FAULT_REMOTE=1`."""
        path = f"/api/v1/namespaces/{self.homelab.policy.manifest.namespace}/pods/{pod}:8080/proxy/faults"
        api = KubeApi(self.homelab.admin_kubeconfig, EDGE)
        reply = api.send("POST", path, faults, {"Content-Type": "application/json"})
        assert reply.status == 200, reply.body

    def wait_until_rolled_out(self, version: int) -> None:
        """Wait until the Deployment reports that all pods of the model are of that version and available."""
        image = self._committed_image(version)
        wait_until(lambda: self._serves_only(image), SETTLE_SECONDS, f"version {version} is rolled out")

    def _committed_image(self, version: int) -> str:
        commits = promoting(branch(self.environment), self.environment.policy, version)
        assert len(commits) == 1, f"version {version} has {len(commits)} commits"
        assert commits[0].image is not None
        return commits[0].image

    def _serves_only(self, image: str) -> bool:
        deployment = self.deployment()
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        status, wanted = deployment["status"], deployment["spec"]["replicas"]
        is_current = status.get("observedGeneration") == deployment["metadata"]["generation"]
        counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
        return bool(is_current and container["image"] == image and counts == [wanted] * 3)

    def wait_until_steady(self) -> float:
        """Wait until none of the client's requests has failed for 15 s, counted from now at the earliest.

        Earlier requests do not count, because a cluster that is back may take a moment to notice that nodes are lost.

        Returns:
            When those 15 s began, in seconds since the epoch.

        Raises:
            ProblemError: requests still fail after `SETTLE_SECONDS`.
        """
        earliest = time.time() + _STEADY_SECONDS
        what = f"no request has failed for {_STEADY_SECONDS:g} s"
        wait_until(lambda: time.time() >= earliest and self._is_steady(), SETTLE_SECONDS, what)
        return time.time() - _STEADY_SECONDS

    def _is_steady(self) -> bool:
        log = read_log(self.environment.client_log, _STEADY_BYTES)
        sent = [request for request in log if request.at > time.time() - _STEADY_SECONDS]
        return bool(sent) and all(request.ok for request in sent)

    def wait_until_whole(self) -> None:
        """Wait until the Application is Synced and Healthy, pods serve the champion, and no requests fail.

        Raises:
            ProblemError: this takes longer than `SETTLE_SECONDS`.
        """
        wait_until(self._is_whole, SETTLE_SECONDS, "the champion serves, and all is healthy")

    def _is_whole(self) -> bool:
        name = self.homelab.policy.argocd.application
        try:
            status = self.application(name).get("status", {})
            serving = self.environment.serving()
        except ProblemError:  # what the test stopped is not back yet
            return False
        healthy = [status.get(name, {}).get("status") for name in ("sync", "health")] == ["Synced", "Healthy"]
        champion_serves = {pod.version for pod in serving} == {str(self.champion())}
        if not (healthy and champion_serves):
            self.refresh(name)  # Argo CD may not have seen the latest commit yet
        return healthy and champion_serves and self._is_steady()


@dataclass(frozen=True)
class Promotion:
    """The promotion of a version that was made the challenger while `incumbent` served."""

    lab: Lab
    version: int
    incumbent: int | None
    requested_at: float

    def reach(self, *states: str) -> str:
        """Wait until the pipeline has written one of these states, and return the reason written with it."""
        lab = self.lab
        return wait_for_state(lab.environment, lab.client, self.version, states, self.requested_at, print)[1]

    def state(self) -> str:
        """Return the version's current state."""
        tags = self.lab.client.get_model_version(self.lab.environment.model, str(self.version)).tags
        return str(tags.get(f"incumbent.{self.lab.environment.policy}.state", ""))

    def ended_runs(self) -> int:
        """Return how many runs of this promotion have ended, well or not."""
        environment = self.lab.environment
        partition = f"{environment.policy}@{self.version}"
        return len(environment.ask_dagster(_ENDED_RUNS, {"partition": partition})["runsOrError"]["results"])

    def said(self) -> list[str]:
        """Return what the runs of this promotion have told in their logs."""
        environment = self.lab.environment
        partition = f"{environment.policy}@{self.version}"
        runs = environment.ask_dagster(_SAID, {"partition": partition})["runsOrError"]["results"]
        events = (event for run in runs for event in run["eventConnection"]["events"])
        return [event["message"] for event in events if "message" in event]

    def end(self) -> Outcome:
        lab = self.lab
        return wait_for_end(lab.environment, lab.client, self.version, self.requested_at, print)

    def becomes_champion(self, *, forgiven: tuple[float, float] | None = None) -> Seen:
        """Wait for the end, and check the verifier's claims for a good promotion.

        Args:
            forgiven: from when until when requests may fail, in seconds since the epoch.
        """
        return self._comes_true(End(self.version, "champion"), self.version, forgiven)

    def is_rolled_back(self, reason: str, *, served: bool) -> Seen:
        """Wait for the end, and check the verifier's claims for a rollback to the version that served before.

        Args:
            reason: a pattern that the version's reason must match.
            served: whether the version served requests before the rollback.
        """
        assert self.incumbent is not None, "there is a version to go back to"
        end = End(self.version, "rolled_back", reason=reason, back_to=self.incumbent, served=served)
        return self._comes_true(end, self.incumbent, None)

    def _comes_true(self, end: End, champion: int, forgiven: tuple[float, float] | None) -> Seen:
        reason = self.end().reason
        environment = self.lab.environment
        seen = look(environment, self.requested_at)
        requests = tuple(request for request in seen.requests if request.ok or not _within(request.at, forgiven))
        false = false_claims(verify(replace(seen, requests=requests), expected(environment, (end,), champion)))
        assert not false, f"{false}, {reason}"
        return seen


def _within(at: float, window: tuple[float, float] | None) -> bool:
    return window is not None and window[0] <= at < window[1]


def open_lab(environment: HomelabEnvironment) -> Lab:
    """Return the homelab as the tests use it, after promoting version 1 if there is no champion yet."""
    client = registry(environment)
    lab = Lab(environment, client)
    aliases = client.get_registered_model(environment.model).aliases
    if environment.champion_alias not in aliases:
        requested_at = request_promotion(environment, client, 1)
        assert wait_for_end(environment, client, 1, requested_at, print).state == "champion"
    return lab

"""One promotion on the homelab: asked for as a person does, disturbed by the test, and judged by the verifier."""

import time
from collections.abc import Mapping
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
from testbeds.story.stories import Told, ask_for, expected, registry, wait_for_end, wait_for_state
from testbeds.story.verifier import false_claims, verify
from tests.scenarios.people import register_again

SETTLE_SECONDS = 120.0
"""How long the homelab may take to be whole again after a disturbance."""
_STEADY_SECONDS = 15.0
_STEADY_BYTES = 512 * 1024
"""More than the client logs in that time."""

_FAILED_RUNS = """
query($partition: String!) {
  runsOrError(filter: {statuses: [FAILURE], tags: [{key: "dagster/partition", value: $partition}]}) {
    ... on Runs { results { runId } }
  }
}
"""


@dataclass(frozen=True)
class Lab:
    """A homelab on which Dagster's sensor is on and a champion serves."""

    environment: HomelabEnvironment
    client: Any = field(repr=False)
    """MLflow's."""

    @property
    def homelab(self) -> Homelab:
        return self.environment.homelab

    def champion(self) -> int | None:
        named = self.client.get_registered_model(self.environment.model).aliases.get(self.environment.champion_alias)
        return None if named is None else int(named)

    def ask(self, faults: Mapping[str, str] | None = None) -> "Asked":
        """Register a good model again, with an image of its own and what is wrong in it, and make it the challenger."""
        return self.ask_for(register_again(self.environment, of=2, faults=faults))

    def ask_for(self, version: int) -> "Asked":
        return Asked(self, version, self.champion(), ask_for(self.environment, self.client, version))

    def commits_of(self, version: int) -> int:
        """How many commits promote that version; asked of Git alone, because clusters may be silent."""
        return len(promoting(branch(self.environment), self.environment.policy, version))

    def application(self, name: str) -> dict[str, Any]:
        found = self.homelab.gcp.read("application", name, "argocd")
        assert found is not None, f"there is no Application {name}"
        return found

    def refresh(self, application: str) -> None:
        """Ask Argo CD to look at Git now and not at its next round."""
        asked = "argocd.argoproj.io/refresh=normal"
        self.homelab.gcp.run("annotate", "application", application, "--namespace=argocd", asked, "--overwrite")

    def deployment(self) -> dict[str, Any]:
        """The live Deployment of the model."""
        target = self.homelab.policy.manifest
        found = self.homelab.edge.read("deployment", target.name, target.namespace)
        assert found is not None, f"there is no {target.name}"
        return found

    def live_image(self) -> str:
        """The image that the live Deployment has."""
        (container,) = self.deployment()["spec"]["template"]["spec"]["containers"]
        return str(container["image"])

    def set_live_image(self, image: str) -> None:
        """Put another image on the live Deployment by hand."""
        target = self.homelab.policy.manifest
        put = ("set", "image", f"deployment/{target.name}", f"{target.container}={image}")
        self.homelab.edge.run(*put, f"--namespace={target.namespace}")

    def spoil(self, pod: str, **faults: str) -> None:
        """Give one pod faults, of an image that was published with `FAULT_REMOTE=1`."""
        path = f"/api/v1/namespaces/{self.homelab.policy.manifest.namespace}/pods/{pod}:8080/proxy/faults"
        api = KubeApi(self.homelab.admin_kubeconfig, EDGE)
        reply = api.send("POST", path, faults, {"Content-Type": "application/json"})
        assert reply.status == 200, reply.body

    def wait_until_rolled_out(self, version: int) -> None:
        """Wait until all pods of the model are that version's, as the Deployment has it."""
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
        seen = status.get("observedGeneration") == deployment["metadata"]["generation"]
        counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
        return bool(seen and container["image"] == image and counts == [wanted] * 3)

    def wait_until_steady(self) -> float:
        """Wait until the client has been answered from now on for a while without a failure; when that while began.

        What was before does not count: a cluster that is back may need a moment to find its nodes lost.

        Raises:
            ProblemError: it was not so in time.
        """
        earliest = time.time() + _STEADY_SECONDS
        what = f"no request has failed for {_STEADY_SECONDS:g} s"
        wait_until(lambda: time.time() >= earliest and self._is_steady(), SETTLE_SECONDS, what)
        return time.time() - _STEADY_SECONDS

    def _is_steady(self) -> bool:
        log = read_log(self.environment.client_log, _STEADY_BYTES)
        sent = [one for one in log if one.at > time.time() - _STEADY_SECONDS]
        return bool(sent) and all(one.ok for one in sent)

    def wait_until_whole(self) -> None:
        """Wait until Argo CD is content, pods serve the champion and requests are answered: as a test must find it.

        Raises:
            ProblemError: it was not so in time.
        """
        wait_until(self._is_whole, SETTLE_SECONDS, "the champion serves, and all is healthy")

    def _is_whole(self) -> bool:
        name = self.homelab.policy.argocd.application
        try:
            status = self.application(name).get("status", {})
            serving = self.environment.serving()
        except ProblemError:  # whatever was stopped is not back yet
            return False
        healthy = [status.get(name, {}).get("status") for name in ("sync", "health")] == ["Synced", "Healthy"]
        champion_serves = {one.version for one in serving} == {str(self.champion())}
        if not (healthy and champion_serves):
            self.refresh(name)  # it is so also of a commit that Argo CD has not seen yet
        return healthy and champion_serves and self._is_steady()


@dataclass(frozen=True)
class Asked:
    """A version that was made the challenger while `incumbent` served."""

    lab: Lab
    version: int
    incumbent: int | None
    asked_at: float

    def reach(self, *states: str) -> str:
        """Wait until the pipeline has written one of these states; the reason beside it."""
        lab = self.lab
        return wait_for_state(lab.environment, lab.client, self.version, states, self.asked_at, print)[1]

    def state(self) -> str:
        """The state that the version has now."""
        tags = self.lab.client.get_model_version(self.lab.environment.model, str(self.version)).tags
        return str(tags.get(f"incumbent.{self.lab.environment.policy}.state", ""))

    def failed_runs(self) -> int:
        """How many runs of this promotion have ended without its end."""
        environment = self.lab.environment
        partition = f"{environment.policy}@{self.version}"
        return len(environment.ask_dagster(_FAILED_RUNS, {"partition": partition})["runsOrError"]["results"])

    def end(self) -> Told:
        lab = self.lab
        return wait_for_end(lab.environment, lab.client, self.version, self.asked_at, print)

    def becomes_champion(self, *, forgiven: tuple[float, float] | None = None) -> Seen:
        """Wait for the end, and hold the verifier's claims of a good promotion."""
        return self._comes_true(End(self.version, "champion"), self.version, forgiven)

    def is_taken_back(self, reason: str, *, served: bool) -> Seen:
        """Wait for the end, and hold the verifier's claims of a rollback to the version that served before."""
        assert self.incumbent is not None, "there is a version to go back to"
        end = End(self.version, "rolled_back", reason=reason, back_to=self.incumbent, served=served)
        return self._comes_true(end, self.incumbent, None)

    def _comes_true(self, end: End, champion: int, forgiven: tuple[float, float] | None) -> Seen:
        told = self.end()
        environment = self.lab.environment
        seen = look(environment, self.asked_at)
        kept = tuple(one for one in seen.requests if one.ok or not _within(one.at, forgiven))
        false = false_claims(verify(replace(seen, requests=kept), expected(environment, (end,), champion)))
        assert not false, f"{false}, {told.reason}"
        return seen


def _within(at: float, window: tuple[float, float] | None) -> bool:
    return window is not None and window[0] <= at < window[1]


def open_lab(environment: HomelabEnvironment) -> Lab:
    """The homelab as the tests use it; without a champion one is promoted first."""
    client = registry(environment)
    lab = Lab(environment, client)
    aliases = client.get_registered_model(environment.model).aliases
    if environment.champion_alias not in aliases:
        first = ask_for(environment, client, 1)
        assert wait_for_end(environment, client, 1, first, print).state == "champion"
    return lab

"""A Rollout under Argo Rollouts' own controller, as the pipeline's adapter reads it: its canary, pauses and aborts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from orchestration.promotion.cluster_json import parse_workload
from orchestration.promotion.cluster_status import GivenUp, WorkloadStatus
from orchestration.promotion.rollout_conditions import replicas_condition, running_digest
from testbeds.homelab import settings
from testbeds.homelab.controllers import bring_argo_rollouts
from testbeds.homelab.homelab import Homelab
from tests.contract.manifests import Json, rollout
from tests.contract.place import CONTAINER, NAMESPACE, PODS, Place
from tests.contract.reading import Reading
from tests.contract.test_answers import REPLICA_SETS
from tests.contract.watching import history, version_of

pytestmark = pytest.mark.timeout(900)  # the first test may have to build the controller
CANARY: list[Json] = [{"setWeight": 50}, {"pause": {"duration": "4s"}}]
_ABORTED = "the Rollout was aborted: Rollout aborted update to revision 2"
_HASTY_EDITS = 9
ROLLOUTS = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/rollouts"
HASH = "rollouts-pod-template-hash"


@dataclass(frozen=True)
class Watched:
    """A Rollout on edge, which no Application deploys."""

    homelab: Homelab
    place: Place
    name: str

    def look(self) -> WorkloadStatus:
        status = self.place.cluster.workload("Rollout", NAMESPACE, self.name)
        assert status is not None
        return status

    def document(self) -> Json:
        document = self.homelab.edge.read("rollout", self.name, NAMESPACE)
        assert document is not None
        return document

    def set_image(self, image: str) -> None:
        container = "/spec/template/spec/containers/0/image"
        self._patch(f'[{{"op": "replace", "path": "{container}", "value": "{image}"}}]', "--type=json")

    def abort(self) -> None:
        """Do what `kubectl argo rollouts abort` does."""
        self._patch('{"status": {"abort": true}}', "--type=merge", "--subresource=status")

    def until(self, what: str, condition: Callable[[WorkloadStatus], Any]) -> list[WorkloadStatus]:
        """Wait, and return all distinct readings until then."""
        return self.place.readings(f"{self.name}: {what}", self.look, condition)

    def serves(self, image: str) -> list[WorkloadStatus]:
        return self.until("serves", lambda status: status.images[CONTAINER] == image and replicas_condition(status).met)

    def is_given_up(self) -> GivenUp:
        given_up = self.until("is given up", lambda status: status.given_up)[-1].given_up
        assert given_up is not None
        return given_up

    def _patch(self, patch: str, *options: str) -> None:
        self.homelab.edge.run("patch", "rollout", self.name, f"--namespace={NAMESPACE}", *options, f"--patch={patch}")


@dataclass(frozen=True)
class Rollouts:
    """Makes Rollouts of two images."""

    homelab: Homelab
    place: Place
    images: tuple[str, str]

    def make(self, name: str, steps: Sequence[Json], **spec: Any) -> Watched:
        """Return a Rollout that serves the first image."""
        manifest = rollout(name, self.images[0], list(steps), **spec)
        manifest["metadata"]["namespace"] = NAMESPACE
        self.homelab.edge.apply([manifest])
        made = Watched(self.homelab, self.place, name)
        made.place.wait("its controller", lambda: made.document().get("status"))
        made.serves(self.images[0])
        return made


@pytest.fixture(scope="module")
def rollouts(place: Place, request: pytest.FixtureRequest) -> Iterator[Rollouts]:
    """Install Argo Rollouts, and remove all Rollouts at the end."""
    homelab: Homelab = request.getfixturevalue("homelab").homelab
    bring_argo_rollouts(homelab, print)
    yield Rollouts(homelab, place, (place.image("rollout-1"), place.image("rollout-2")))
    homelab.edge.run("delete", "rollouts,analysistemplates", "--all", f"--namespace={NAMESPACE}")
    place.wait("no pods", lambda: not [pod for pod in place.edge.items(PODS) if _is_rollouts(pod)])


def _is_rollouts(pod: Json) -> bool:
    return HASH in pod["metadata"]["labels"]


@pytest.fixture(scope="module")
def canary(rollouts: Rollouts) -> tuple[Watched, list[WorkloadStatus]]:
    """Provide a Rollout after a canary, and what it looked like on the way."""
    made = rollouts.make("canary", CANARY)
    made.set_image(rollouts.images[1])
    return made, made.serves(rollouts.images[1])


def test_fields_of_a_rolled_out_rollout(canary: tuple[Watched, list[WorkloadStatus]]) -> None:
    """A Rollout has these fields beside its pod template; its observed generation is a text."""
    noted: dict[str, str] = {}
    made, _ = canary
    sets = made.place.edge.items(REPLICA_SETS, {"labelSelector": f"app={made.name}"})
    parse_workload("Rollout", Reading(made.document(), noted), sets, (), ())
    assert {path: kind for path, kind in noted.items() if not path.startswith("spec.template")} == {
        "metadata": "dict",
        "metadata.generation": "int",
        "metadata.name": "str",
        "metadata.namespace": "str",
        "metadata.uid": "str",
        "spec": "dict",
        "spec.replicas": "int",
        "status": "dict",
        "status.availableReplicas": "int",
        "status.conditions": "list",
        "status.conditions[].reason": "str",
        "status.conditions[].type": "str",
        "status.currentPodHash": "str",
        "status.observedGeneration": "str",
        "status.readyReplicas": "int",
        "status.replicas": "int",
        "status.stableRS": "str",
        "status.updatedReplicas": "int",
    }


def test_a_canary_is_unfinished_at_each_of_its_steps(canary: tuple[Watched, list[WorkloadStatus]]) -> None:
    """It names its step, then its pause, while one new pod and one old one serve; all pods are new at the end."""
    looks = canary[1]
    findings = [status.unfinished for status in looks if status.unfinished]
    first = findings.index("the Rollout has not made the new pods its stable ones (step 1 of 2)")
    paused = findings.index("the Rollout is paused (CanaryPauseStep), which a person or its next step ends")
    last = findings.index("the Rollout has not made the new pods its stable ones (step 2 of 2)")
    assert first < paused < last
    at_pause = next(status for status in reversed(looks) if "paused" in (status.unfinished or ""))
    assert (len(at_pause.new_pods), len(at_pause.old_pods)) == (1, 1)
    assert (len(looks[-1].new_pods), len(looks[-1].old_pods)) == (2, 0)


def test_no_pod_of_another_image_counts_as_new(canary: tuple[Watched, list[WorkloadStatus]]) -> None:
    """Whatever the Rollout's status says, its new pods are those that run its template's image."""
    for status in canary[1]:
        digests = {running_digest(pod, CONTAINER) for pod in status.new_pods}
        assert digests <= {None, status.images[CONTAINER].rpartition("@")[2]}


def test_a_persons_abort_gives_the_new_pods_up_until_the_template_is_changed_back(rollouts: Rollouts) -> None:
    """The old pods serve again, the aborted template stays in the spec, and its former image ends the abort."""
    made = rollouts.make("aborted", CANARY)
    made.set_image(rollouts.images[1])
    made.until("is paused", lambda status: "paused" in (status.unfinished or ""))
    made.abort()
    assert made.is_given_up() == GivenUp(True, _ABORTED)
    old_serve = made.until("serves the old image", lambda status: len(status.old_pods) == 2 and not status.new_pods)[-1]
    assert old_serve.images[CONTAINER] == rollouts.images[1]
    made.set_image(rollouts.images[0])
    after = [status for status in made.serves(rollouts.images[0]) if status.images[CONTAINER] == rollouts.images[0]]
    assert {status.given_up for status in after} == {None}


def test_a_way_back_within_the_rollback_window_skips_the_steps(rollouts: Rollouts) -> None:
    """With rollbackWindow, a former image is rolled out without a pause; without it, it would go through the canary."""
    made = rollouts.make("window", CANARY, rollbackWindow={"revisions": 2})
    made.set_image(rollouts.images[1])
    assert any("paused" in (status.unfinished or "") for status in made.serves(rollouts.images[1]))
    made.set_image(rollouts.images[0])
    assert not any("paused" in (status.unfinished or "") for status in made.serves(rollouts.images[0]))


@pytest.mark.parametrize(
    ("name", "address", "verdict", "message"),
    [
        ("failed", settings.PROMETHEUS_URL, True, 'Metric "up" assessed Failed due to failed (1) > failureLimit (0)'),
        ("error", f"http://{settings.ADDRESS}:1", False, 'Metric "up" assessed Error due to consecutiveErrors (1) > '),
    ],
)
def test_an_analysis_aborts_by_a_verdict_or_because_it_could_not_measure(
    rollouts: Rollouts, name: str, address: str, verdict: bool, message: str
) -> None:
    """Both are aborts of the same kind; only the message tells them apart."""
    template = f"analysis-{name}"
    metric = {
        "name": "up",
        "provider": {"prometheus": {"address": address, "query": "vector(1)"}},
        "successCondition": "result[0] < 1",
        "consecutiveErrorLimit": 0,
    }
    own = {"apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate"}
    metadata = {"name": template, "namespace": NAMESPACE}
    rollouts.homelab.edge.apply([{**own, "metadata": metadata, "spec": {"metrics": [metric]}}])
    steps: list[Json] = [{"setWeight": 50}, {"analysis": {"templates": [{"templateName": template}]}}]
    made = rollouts.make(template, steps)
    made.set_image(rollouts.images[1])
    given_up = made.is_given_up()
    assert given_up.by_verdict == verdict
    assert given_up.reason.startswith(f"{_ABORTED}: {message}")


def test_an_abort_at_the_deadline_looks_like_a_persons(rollouts: Rollouts) -> None:
    """With progressDeadlineAbort, pods that are not ready in time leave an abort without a cause: nobody's verdict."""
    made = rollouts.make("late", CANARY, progressDeadlineSeconds=5, progressDeadlineAbort=True)
    made.set_image(rollouts.place.image("rollout-sick", NEVER_READY="1"))
    assert made.is_given_up() == GivenUp(False, f"{_ABORTED}, by a person or by progressDeadlineAbort")


def test_a_spec_that_the_controller_refuses_is_given_up(rollouts: Rollouts) -> None:
    """The Rollout says which field is wrong; its pods go on serving."""
    made = rollouts.make("refused", CANARY)
    made.homelab.edge.run(
        "patch",
        "rollout",
        made.name,
        f"--namespace={NAMESPACE}",
        "--type=merge",
        '--patch={"spec": {"strategy": {"canary": {"steps": [{"setWeight": 500}]}}}}',
    )
    given_up = made.is_given_up()
    assert not given_up.by_verdict
    assert "spec.strategy.steps[0].setWeight" in given_up.reason


def test_a_status_that_is_about_the_image_before_is_not_believed(rollouts: Rollouts) -> None:
    """Whenever the image changes, even as a pause or an abort begins, no state gives another template's hash or abort.

    The controller may write the new generation into a status that is otherwise the one before.
    """
    made, place = rollouts.make("hasty", [{"setWeight": 50}, {"pause": {}}]), rollouts.place
    images = rollouts.images[1], place.image("rollout-3")  # not the first one, with which there is no canary
    version = version_of(place.edge, ROLLOUTS)
    for number in range(_HASTY_EDITS):
        made.set_image(images[number % 2])
        place.wait("a pause", lambda: made.document()["status"].get("pauseConditions"))
        if number % 3 == 2:
            made.abort()
    sets = place.edge.items(REPLICA_SETS, {"labelSelector": f"app={made.name}"})
    hashes = {
        each["spec"]["template"]["spec"]["containers"][0]["image"]: each["metadata"]["labels"][HASH] for each in sets
    }
    states = history(place.kubeconfig, "edge", ROLLOUTS, version, f"app={made.name}")
    assert len(states) > _HASTY_EDITS
    for _, state in states:
        status = parse_workload("Rollout", state, sets, (), ())
        assert status.template_hash in (None, hashes[status.images[CONTAINER]])
        assert status.template_hash or not status.given_up

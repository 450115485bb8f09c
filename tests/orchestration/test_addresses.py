"""Promotions that deploy the address of a model: the same as those of images, in each place of the address."""

import json
from dataclasses import replace
from typing import Any, get_args

import pytest

from orchestration.commands.approving import approve_version
from orchestration.commands.doctor import probes
from orchestration.commands.history import read_history
from orchestration.commands.holding import hold_policy, resume_policy
from orchestration.commands.probes import Finding, Outcome, examine
from orchestration.commands.serving import UnfinishedError, abort_promotion, adopt_version, return_to_champion
from orchestration.commands.status import read_status
from orchestration.commands.verifying import verify_version
from orchestration.promotion.cluster_status import ContainerSpec
from orchestration.promotion.decided import Decided
from orchestration.promotion.deployed import ModelAddress
from orchestration.promotion.identity import partition_key
from orchestration.promotion.live_before import TOLD_APART, parse_told_apart
from orchestration.promotion.model_version import tag_key
from orchestration.promotion.ports import Answer
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.recorded_requests import RECORDING_PATH
from orchestration.promotion.state import State
from orchestration.promotion.version_image import version_address
from orchestration.stages.pipeline import STAGES
from orchestration.stages.plan import plan_promotion
from orchestration.stages.runner import StageFailed, run_stage
from tests.fakes.addresses import BEFORE, SERVER, AddressWorld, Kind
from tests.fakes.cluster import a_pod
from tests.fakes.runs import Host, promote
from tests.fakes.world import POLICY_NAME, WorldPlatform

ANA = Decided("ana@team", "complaints since noon")
KINDS = get_args(Kind)


def digest12(address: str) -> str:
    return ModelAddress(address).digest.removeprefix("sha256:")[:12]


def becomes_champion(world: AddressWorld, number: int) -> bool:
    """Promote a version as far as it goes, and tell whether it is champion then."""
    promote(world, number, f"run {number} at {world.clock.now()}")
    return world.champion == number


def champions(count: int, kind: Kind = "variable") -> AddressWorld:
    """A world in which that many versions became champion, one after the other."""
    world = AddressWorld(kind)
    for _ in range(count):
        number = world.register().version
        assert becomes_champion(world, number), world.said
    return world


def commit_only(world: AddressWorld, number: int) -> None:
    for stage in STAGES[:2]:
        host = Host("a run", False, world.said.append)
        done = run_stage(stage, WorldPlatform(world), partition_key(POLICY_NAME, number), host)
        assert not isinstance(done, StageFailed), done


@pytest.mark.parametrize("kind", KINDS)
def test_a_version_becomes_champion_by_its_address(kind: Kind) -> None:
    """One commit changes the address and nothing else, and says so; evidence, tag and alias follow as for an image."""
    world = AddressWorld(kind)
    before = world.git.commits[world.git.head].files["apps/iris.yaml"]
    world.register()
    assert becomes_champion(world, 1), world.said
    assert (world.state(1), world.champion) == (State.CHAMPION, 1)
    made = world.git.log[0]
    assert world.git.commits[made.id].files["apps/iris.yaml"] == before.replace(BEFORE.encode(), b"models:/iris/1")
    assert made.trailers["Promotion-Id"] == f"iris-edge/1/{digest12('models:/iris/1')}/1"
    assert made.trailers["Model-Address"] == "models:/iris/1"
    assert "Image-Digest" not in made.trailers
    run_id = world.registry.versions["iris", 1].run_id or ""
    evidence = json.loads(world.registry.artifacts[run_id, "incumbent/iris-edge/1-1.json"])
    assert evidence["model_address"] == "models:/iris/1"
    assert "image_digest" not in evidence
    promote(world, 1, "again")
    assert world.subjects == ["By hand", "Promote iris-edge to version 1"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_version_is_taken_back_to_the_address_before(kind: Kind) -> None:
    """Whether its answers are bad or its model does not load, Git has the address before again, and says why."""
    world = champions(1, kind)
    world.bad_images.add("models:/iris/2")
    world.crashing_images.add("models:/iris/3")
    for number in (2, 3):
        world.register()
        assert not becomes_champion(world, number)
        assert (world.state(number), world.champion) == (State.ROLLED_BACK, 1)
        assert world.live_image == "models:/iris/1"
        made = world.git.log[0]
        assert made.subject == f"Roll back iris-edge from version {number} to version 1"
        assert (made.trailers["Model-Address"], made.trailers["Verdict"]) == ("models:/iris/1", "Failed")
        assert "Image" not in made.trailers
        assert "models:/iris/1 serves again" in world.reason(number)


@pytest.mark.parametrize(
    ("place", "state"),
    [("s3://acme/iris/1", State.HELD), ("mlflow-artifacts:/1/models/m-1/artifacts", State.ROLLED_BACK)],
)
def test_a_failed_download_from_elsewhere_is_not_the_models_fault(place: str, state: State) -> None:
    """Of a store that only KServe asks, nobody here knows whether it is down; of MLflow's own it is known."""
    prefix = place.removesuffix("iris/1").removesuffix("models/m-1/artifacts")
    world = AddressWorld("storageUri", f"model_address: artifacts\nartifacts_below: {prefix}\n")
    world.registry.locations["iris", 1] = place
    world.register()
    commit_only(world, 1)
    world.reconcile()
    status = world.cluster.status
    assert status is not None
    crash: dict[str, Any] = {"restarts": 3, "waiting_reason": "CrashLoopBackOff", "last_exit_code": 1}
    initializer = a_pod("any", SERVER, container="storage-initializer", ready=False, **crash).containers
    pods = tuple(replace(pod, ready=False, containers=initializer + pod.containers) for pod in status.new_pods)
    world.cluster.status = replace(status, pods=pods, ready=0, available=0)
    host = Host("a run", False, world.said.append)
    run_stage(STAGES[2], WorldPlatform(world), partition_key(POLICY_NAME, 1), host)
    assert world.state(1) is state
    assert "container storage-initializer of pod" in world.reason(1)


def test_a_first_version_that_is_bad_goes_back_to_what_no_promotion_committed() -> None:
    """The address before the first promotion is put back although nothing is known of it but that it exists."""
    world = AddressWorld()
    world.bad_images.add("models:/iris/1")
    world.register()
    assert not becomes_champion(world, 1)
    assert world.live_image == BEFORE


def test_going_back_aborting_and_history_know_versions_by_their_addresses() -> None:
    """A return commits the verified address, an abort takes it back, and Git alone tells who was champion."""
    world = champions(2)
    said = return_to_champion(WorldPlatform(world), POLICY_NAME, None, ANA, "rollback by ana", world.said.append)
    assert said == "version 1 serves again, and is the champion of iris-edge."
    made = world.git.log[0]
    assert (made.trailers["Model-Address"], made.trailers["Returns-From"]) == ("models:/iris/1", "2")
    assert (world.live_image, world.champion, world.state(2)) == ("models:/iris/1", 1, State.ROLLED_BACK)
    world.register()
    commit_only(world, 3)
    assert world.live_image == "models:/iris/3"
    said = abort_promotion(WorldPlatform(world), POLICY_NAME, ANA, world.said.append)
    assert "models:/iris/1 serves again" in said
    assert world.live_image == "models:/iris/1"
    world.registry.down = True
    found = read_history(world.git, world.policy(POLICY_NAME)).history
    assert [(reign.version, reign.image) for reign in found.reigns] == [
        (None, BEFORE),
        (1, "models:/iris/1"),
        (2, "models:/iris/2"),
        (1, "models:/iris/1"),
    ]
    assert [str(attempt.end) for attempt in found.attempts][-1] == "aborted"


def test_a_return_needs_the_model_and_not_the_registry() -> None:
    """A version whose files are gone is not returned to; a registry that is silent stops nobody."""
    world = champions(2)
    world.registry.locations["iris", 1] = None
    with pytest.raises(InvalidInputError, match="a model whose files are in the registry, found no files"):
        return_to_champion(WorldPlatform(world), POLICY_NAME, None, ANA, "rollback by ana", world.said.append)
    assert world.live_image == "models:/iris/2"


def test_a_return_waits_until_each_server_says_what_it_loaded() -> None:
    """Without the servers' own word and without recorded requests it is held, and the alias stays."""
    world = champions(2)
    world.silent_servers = True
    del world.registry.artifacts["run2", RECORDING_PATH]  # of version 1; run1 is the baseline's
    with pytest.raises(UnfinishedError, match="a server that says which version it loaded"):
        return_to_champion(WorldPlatform(world), POLICY_NAME, None, ANA, "rollback by ana", world.said.append)
    assert (world.state(1), world.champion) == (State.HELD, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_what_serves_is_adopted_by_its_address_and_known_afterwards(kind: Kind) -> None:
    """Nothing is committed; status, verify and the way back of the next promotion know the adopted version."""
    world = AddressWorld(kind)
    world.register()
    del world.registry.aliases["iris", "challenger"]
    world.put("models:/iris/1")
    ports = WorldPlatform(world)
    said = adopt_version(ports, POLICY_NAME, 1, ANA, "adopt by ana", world.said.append)
    assert "it serves by its address" in said
    assert world.champion == 1
    assert adopt_version(ports, POLICY_NAME, 1, ANA, "adopt by ana", world.said.append).endswith("already.")
    (status,) = read_status(ports, [POLICY_NAME])
    assert (status.agrees, status.live and status.live.version) == (True, 1)
    findings = verify_version(world.clients(), world.policy(POLICY_NAME), 1, None)
    assert [finding for finding in findings if not finding.ok] == []
    world.register()
    world.bad_images.add("models:/iris/2")
    assert not becomes_champion(world, 2)
    assert world.git.log[0].subject.endswith("to version 1, which was adopted")


def test_an_address_in_another_form_is_adopted_as_it_stands() -> None:
    """A manifest with the version's model id names that version; an alias names none that stays."""
    world = AddressWorld()
    version = world.register()
    world.registry.versions["iris", 1] = replace(version, model_id="m-0a1b")
    world.registry.locations["iris", 1] = "models:/m-0a1b"
    world.put("models:/m-0a1b")
    adopt_version(WorldPlatform(world), POLICY_NAME, 1, ANA, "adopt by ana", world.said.append)
    assert world.champion == 1
    world.put("models:/iris@champion")
    with pytest.raises(InvalidInputError, match="expected the address of version 1, found models:/iris@champion"):
        adopt_version(WorldPlatform(world), POLICY_NAME, 1, ANA, "adopt by ana", world.said.append)


def test_what_does_not_serve_is_not_adopted() -> None:
    """An address that no pod has, or that no server says it loaded, is not what serves."""
    world = AddressWorld()
    world.register()
    with pytest.raises(InvalidInputError, match=f"expected the address of version 1, found {BEFORE}"):
        adopt_version(WorldPlatform(world), POLICY_NAME, 1, ANA, "adopt by ana", world.said.append)
    world.silent_servers = True
    world.put("models:/iris/1")
    del world.registry.artifacts["run2", RECORDING_PATH]
    with pytest.raises(InvalidInputError, match="which version it loaded"):
        adopt_version(WorldPlatform(world), POLICY_NAME, 1, ANA, "adopt by ana", world.said.append)
    assert world.champion is None


@pytest.mark.parametrize("kind", KINDS)
def test_status_and_verify_say_what_serves_and_what_does_not_agree(kind: Kind) -> None:
    """Git, the cluster and the registry are compared by the address; a pod with another one is found."""
    world = champions(1, kind)
    (status,) = read_status(WorldPlatform(world), [POLICY_NAME])
    assert status.live is not None
    assert (status.live.version, status.live.image, status.agrees) == (1, "models:/iris/1", True)
    findings = verify_version(world.clients(), world.policy(POLICY_NAME), 1, None)
    assert [finding for finding in findings if not finding.ok] == []
    assert findings[-1].finding == "all 2 have that address"
    assert world.cluster.status is not None
    (first, second), old = world.cluster.status.pods, world.specs(BEFORE)
    world.cluster.status = replace(world.cluster.status, pods=(first, replace(second, specs=old)))
    findings = verify_version(world.clients(), world.policy(POLICY_NAME), 1, None)
    assert [finding.finding for finding in findings if not finding.ok] == [f"has {BEFORE}"]
    world.cluster.status = replace(world.cluster.status, specs=old, storage_uri=BEFORE)
    (status,) = read_status(WorldPlatform(world), [POLICY_NAME])
    assert any(f"Git has models:/iris/1, and {world.cluster.status} runs {BEFORE}" in one for one in status.differences)


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_foresees_the_commit_of_an_address(kind: Kind) -> None:
    """The plan's subject, trailers and diff are those of the commit that the promotion then makes."""
    world = AddressWorld(kind)
    world.register()
    policy = world.policy(POLICY_NAME)
    found = plan_promotion(world.clients(policy), policy, None, world.said.append)
    assert found.would_promote, found.checks
    assert found.way_back == f"{BEFORE} (the address before, unverified)"
    assert becomes_champion(world, 1)
    made = world.git.log[0]
    assert (made.subject, made.trailers) == (found.subject, found.trailers)
    assert "models:/iris/1" in found.diff


def test_an_approval_is_of_one_address() -> None:
    """It names the address in Git, lets that version be committed, and no other one."""
    world = AddressWorld(more="approval: {by: [ana]}\n")
    world.register()
    assert not becomes_champion(world, 1)
    assert world.state(1) is State.WAITING
    ports = world.registry, world.images, world.git, world.clock
    said = approve_version(*ports, world.policy(POLICY_NAME), 1, "ana", "looks good")
    assert said.startswith("ana approved the address models:/iris/1 of version 1 of iris")
    (message,) = (tag.message for name, tag in world.git.tags.items() if "-approve-1" in name)
    assert "Model-Address: models:/iris/1" in message
    assert becomes_champion(world, 1), world.said
    world.register()
    assert not becomes_champion(world, 2)
    assert world.state(2) is State.WAITING


def test_a_hold_keeps_an_address_back() -> None:
    """A held policy commits no address, and goes on when it is resumed."""
    world = AddressWorld()
    world.register()
    policy = world.policy(POLICY_NAME)
    hold_policy(world.git, world.clock, policy, "ana", "the cluster moves")
    assert not becomes_champion(world, 1)
    assert (world.state(1), world.live_image) == (State.WAITING, BEFORE)
    resume_policy(world.git, world.clock, policy, "ben", "it has moved")
    assert becomes_champion(world, 1)


def test_a_doctor_looks_at_the_address_and_the_serving_image() -> None:
    """It shows what the newest version would be deployed as, and that the image for all versions is there or gone."""
    world = champions(1)

    def look() -> dict[str, Finding]:
        asked = probes(WorldPlatform(world), POLICY_NAME)
        return {probe.name: finding for probe, finding in examine(asked, lambda done, of: None)}

    found = look()
    assert found["manifest"].text == "apps/iris.yaml has models:/iris/1"
    assert found["address"].text == "version 1 would be models:/iris/1"
    assert found["image registry"].text == f"{world.serving_image}, which serves all versions, is there"
    world.images.images.clear()
    world.registry.locations["iris", 1] = None
    found = look()
    assert {found[name].outcome for name in ("address", "image registry")} == {Outcome.FAILED}
    assert f"serving image {world.serving_image}" in found["image registry"].text


# What must not be deployed, and what proves nothing


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("s3://evil/iris", "s3://evil/iris"),
        ("mlflow-artifacts:/1/models/../../9/evil", "mlflow-artifacts:/1/models/../../9/evil"),
        ("mlflow-artifacts:/1/models/%2e%2e/evil", "%2e%2e"),
        ("mlflow-artifacts:/11/models/m-1", "mlflow-artifacts:/11/models/m-1"),
        ("mlflow-artifacts:/1/models/m-1?versionId=3", "versionId"),
        ("mlflow-artifacts:/1/m-1\nImage-Digest: none", "Image-Digest"),
        ("mlflow-artifacts:/1/" + "x" * 600, "xxx"),
    ],
)
@pytest.mark.parametrize("form", ["name", "artifacts"])
def test_artifacts_outside_the_allowed_place_are_refused(location: str, found: str, form: str) -> None:
    """The registry's word is hostile input: only a whole address below the policy's prefix is deployed."""
    world = AddressWorld(more=f"model_address: {form}\nartifacts_below: 'mlflow-artifacts:/1/'\n")
    world.register()
    world.registry.locations["iris", 1] = location
    assert not becomes_champion(world, 1)
    assert world.state(1) is State.REFUSED
    assert found in world.reason(1)
    assert "a place below mlflow-artifacts:/1/" in world.reason(1)
    assert world.subjects == ["By hand"]


def test_artifacts_with_a_login_are_refused_without_showing_it() -> None:
    """Credentials in the registry's answer get neither into Git nor onto the version."""
    world = AddressWorld(more="model_address: artifacts\nartifacts_below: 's3://'\n".replace("'s3://'", "'s3://me/'"))
    world.register()
    world.registry.locations["iris", 1] = "s3://me:secret@evil/iris"
    assert not becomes_champion(world, 1)
    assert "secret" not in world.reason(1)
    assert world.subjects == ["By hand"]


def test_the_place_of_the_artifacts_is_deployed_where_the_policy_wants_it() -> None:
    """With `model_address: artifacts` the version's own place is committed, and going back needs it still."""
    world = AddressWorld(more="model_address: artifacts\nartifacts_below: 'mlflow-artifacts:/0/'\n")
    places = {number: f"mlflow-artifacts:/0/models/m-{number}/artifacts" for number in (1, 2)}
    for number, place in places.items():
        world.register()
        world.registry.locations["iris", number] = place
        assert becomes_champion(world, number), world.said
        assert world.live_image == place
    world.registry.locations["iris", 2] = None
    world.register()
    assert not becomes_champion(world, 3)
    assert "rollback target" in world.reason(3)
    assert "a version without its files" in world.reason(3)


@pytest.mark.parametrize("before", ["models:/iris@champion", "models:/iris/Production", "models:/iris/latest"])
def test_an_alias_is_no_way_back(before: str) -> None:
    """What an alias names may have moved by the time of a rollback, so nothing is committed over it."""
    world = AddressWorld()
    world.put(before)
    world.register()
    assert not becomes_champion(world, 1)
    assert world.state(1) is State.REFUSED
    assert "an alias or a stage, which may be moved" in world.reason(1)
    assert world.live_image == before


def test_a_way_back_to_a_version_that_was_deleted_is_none() -> None:
    """The version that serves must still be in the registry before another one takes its place."""
    world = AddressWorld()
    del world.registry.versions["baseline", 1]
    world.register()
    assert not becomes_champion(world, 1)
    assert f"rollback target {BEFORE}: expected a model that the registry still has" in world.reason(1)


def test_a_model_without_files_is_refused() -> None:
    """An address that leads nowhere would only crash the server."""
    world = AddressWorld()
    world.register()
    world.registry.locations["iris", 1] = None
    assert not becomes_champion(world, 1)
    assert "expected a model whose files are in the registry, found no files of it" in world.reason(1)


def test_a_version_that_is_deleted_while_it_is_judged_has_no_address() -> None:
    """MLflow may still have its files, and the name would lead nowhere."""
    world = AddressWorld()
    version = world.register()
    del world.registry.versions["iris", 1]
    found = version_address(world.registry, world.policy(POLICY_NAME), version)
    assert isinstance(found, Problem)
    assert found.subject == "version 1 of iris"


def test_the_serving_image_must_be_there_and_fit_the_nodes() -> None:
    """Where the manifest's image is gone from its registry, or is not for the nodes, nothing is committed."""
    world = AddressWorld()
    world.register()
    digest = world.serving_image.rpartition("@")[2]
    removed = world.images.images.pop((SERVER, digest))
    assert not becomes_champion(world, 1)
    assert f"serving image {world.serving_image}: expected an image in its registry" in world.reason(1)
    world.images.images[SERVER, digest] = (replace(removed[0], architecture="arm64"),)
    world.registry.write_tags(world.registry.versions["iris", 1], {tag_key(POLICY_NAME, "state"): "requested"})
    assert not becomes_champion(world, 1)
    assert "a platform of cluster edge's nodes (amd64), found arm64" in world.reason(1)


def test_a_variable_that_contradicts_the_argument_is_refused() -> None:
    """A manifest with an argument and another `MODEL_URI` would leave it to the server which one counts."""
    world = AddressWorld("argument")
    text = world.manifest(BEFORE) + "          env: [{name: MODEL_URI, value: 'models:/iris/9'}]\n"
    world.git.commit("By hand", {"apps/iris.yaml": text.encode()})
    world.reconcile()
    world.register()
    assert not becomes_champion(world, 1)
    assert "MODEL_URI='models:/iris/9'" in world.reason(1)
    assert world.live_image == BEFORE


def test_a_server_that_says_nothing_proves_nothing() -> None:
    """With right answers and kept SLOs, but without the servers' word, the version is held and no champion."""
    world = AddressWorld()
    world.register()
    world.silent_servers = True
    assert not becomes_champion(world, 1)
    assert (world.state(1), world.champion) == (State.HELD, None)
    assert "expected a server that says which version it loaded" in world.reason(1)
    assert world.live_image == "models:/iris/1"


def test_pods_that_have_served_for_long_and_say_nothing_stop_the_commit() -> None:
    """When what serves has no `model_info`, the gate could never pass, so nothing is committed."""
    world = AddressWorld()
    world.register()
    world.silent_servers = True
    world.reconcile()
    world.clock.sleep(3600)
    assert not becomes_champion(world, 1)
    assert world.state(1) is State.REFUSED
    assert "model_info" in world.reason(1)
    assert world.subjects == ["By hand"]


def silent_after_version_1() -> AddressWorld:
    """Version 1 is champion, version 2 the challenger, and the servers say nothing of what they loaded."""
    world = champions(1)
    world.silent_servers = True
    world.reconcile()
    world.clock.sleep(3600)
    world.register()
    return world


def test_answers_that_only_this_version_gives_prove_it() -> None:
    """What served before answered otherwise, so silent pods that answer rightly are champions; the evidence says it."""
    world = silent_after_version_1()
    world.answer_otherwise(2, Answer(200, b'{"prediction": 7}', 0.01))
    assert becomes_champion(world, 2), world.said
    (made,) = (commit for commit in world.git.log if TOLD_APART in commit.trailers)
    assert "recorded request 1 of 2" in made.trailers[TOLD_APART]
    run_id = world.registry.versions["iris", 2].run_id or ""
    evidence = json.loads(world.registry.artifacts[run_id, "incumbent/iris-edge/2-1.json"])
    assert evidence["told_apart"] == made.trailers[TOLD_APART]


def test_a_server_that_ignores_its_address_is_taken_back() -> None:
    """Silent pods with the right address that answer as before are not this version."""
    world = silent_after_version_1()
    world.answer_otherwise(9, Answer(200, b'{"prediction": 7}', 0.01))
    assert not becomes_champion(world, 2)
    assert (world.state(2), world.live_image) == (State.ROLLED_BACK, "models:/iris/1")


def test_silent_versions_that_answer_alike_are_not_committed() -> None:
    """Neither the server's word nor its answers could tell them apart."""
    world = silent_after_version_1()
    assert not becomes_champion(world, 2)
    assert (world.state(2), world.live_image) == (State.REFUSED, "models:/iris/1")
    assert "what serves answers this version's recorded requests as this version does" in world.reason(2)


@pytest.mark.parametrize(
    ("answer", "state", "reason"),
    [
        (Answer(404, b"", 0.01), State.REFUSED, "there is no such path"),
        (Answer(401, b"", 0.01), State.REFUSED, "it asks for a login"),
        (Answer(0, b"timed out", 5.0), State.WAITING, "an answer to each"),
    ],
)
def test_an_answer_that_is_not_the_models_tells_nothing_apart(answer: Answer, state: State, reason: str) -> None:
    """A wrong path and silence differ from every recorded answer, and show nothing of a model."""
    world = silent_after_version_1()
    del world.registry.artifacts["run2", RECORDING_PATH]  # so that version 1 is not asked its own
    world.answer_otherwise(2, answer)
    assert not becomes_champion(world, 2)
    assert world.state(2) is state, world.reason(2)
    assert reason in world.reason(2)
    assert world.live_image == "models:/iris/1"


def test_where_nothing_answered_before_right_answers_prove_a_silent_server() -> None:
    """The promotion may be the cure, and the version before was told apart when it became champion."""
    world = silent_after_version_1()
    world.crashing_images.add("models:/iris/1")
    world.reconcile()
    assert becomes_champion(world, 2), world.reason(2)
    told = parse_told_apart(world.git.log[0].trailers[TOLD_APART])
    assert told is not None
    assert "version 1 has shown that the server loads what its address says" in told.difference


def test_pods_that_do_not_answer_for_a_moment_prove_nothing() -> None:
    """A server that ignores its address, and is not ready when it is looked at, is no champion with its own model."""
    world = AddressWorld()
    world.silent_servers = True
    world.crashing_images.add(BEFORE)
    world.reconcile()
    world.register()
    assert not becomes_champion(world, 1)
    assert (world.state(1), world.champion) == (State.HELD, None)
    assert "nothing shows that what served before answers otherwise" in world.reason(1)


def committed_and_told_apart() -> AddressWorld:
    """Version 2 is committed over silent servers that answered otherwise, and is not judged yet."""
    world = silent_after_version_1()
    world.answer_otherwise(2, Answer(200, b'{"prediction": 7}', 0.01))
    commit_only(world, 2)
    return world


def test_requests_that_are_recorded_anew_after_the_commit_prove_nothing() -> None:
    """They may have been recorded of a server that ignores its address; those from before count again."""
    world = committed_and_told_apart()
    before = world.registry.artifacts["run3", RECORDING_PATH]
    world.registry.artifacts["run3", RECORDING_PATH] = json.dumps(json.loads(before) | {"ignore": ["$.id"]}).encode()
    assert not becomes_champion(world, 2)
    assert (world.state(2), world.champion) == (State.HELD, 1)
    assert "others than those that told the version apart" in world.reason(2)
    world.registry.artifacts["run3", RECORDING_PATH] = before
    assert becomes_champion(world, 2), world.reason(2)


def test_another_image_may_bring_another_model() -> None:
    """A person's new serving image was not asked before the commit, so its answers do not prove what it loaded."""
    world = committed_and_told_apart()
    digest = world.images.publish(SERVER, "2", {})
    world.serving_image = f"{SERVER}:2@{digest}"
    world.put("models:/iris/2")
    assert not becomes_champion(world, 2)
    assert (world.state(2), world.champion) == (State.HELD, 1)
    assert "ran another image" in world.reason(2)


def test_a_silent_server_is_returned_to_and_adopted_by_its_answers() -> None:
    """A version that was verified before, and one that a person vouches for, need right answers alone."""
    world = champions(2)
    world.silent_servers = True
    return_to_champion(WorldPlatform(world), POLICY_NAME, None, ANA, "rollback by ana", world.said.append)
    assert world.champion == 1
    world.put("models:/iris/2")
    assert "answered as recorded" in adopt_version(
        WorldPlatform(world), POLICY_NAME, 2, ANA, "adopt by ana", world.said.append
    )


def test_a_server_that_loaded_another_model_is_taken_back() -> None:
    """When the server's own word is another version than its address, the version is rejected."""
    world = champions(1)
    world.register()
    loaded = world._say_what_they_loaded
    world._say_what_they_loaded = lambda address, pods: loaded("models:/iris/1", pods)  # type: ignore[method-assign]
    assert not becomes_champion(world, 2)
    assert (world.state(2), world.live_image) == (State.ROLLED_BACK, "models:/iris/1")


def test_a_pod_that_still_has_the_old_address_holds_the_promotion() -> None:
    """A webhook that gives pods another address than their template says proves that the version does not serve."""
    world = AddressWorld()
    world.register()
    specs = world.specs
    old: tuple[ContainerSpec, ...] = specs(BEFORE)

    def reconcile() -> None:
        AddressWorld.reconcile(world)
        assert world.cluster.status is not None
        first, second = world.cluster.status.pods
        world.cluster.status = replace(world.cluster.status, pods=(first, replace(second, specs=old)))

    world.argocd.on_refresh = lambda _: reconcile()
    assert not becomes_champion(world, 1)
    assert world.state(1) is State.HELD
    assert f"has {BEFORE} in place of models:/iris/1" in world.reason(1)
    assert world.champion is None


def test_a_person_s_address_is_left_alone() -> None:
    """An address that someone commits in mid-soak ends the promotion, and nothing is put back over it."""
    world = champions(1)
    world.register()
    commit_only(world, 2)
    world.put("models:/iris/1")
    assert not becomes_champion(world, 2)
    assert world.state(2) is State.ROLLED_BACK
    assert world.git.log[0].subject != "Roll back iris-edge from version 2 to version 1"
    assert "models:/iris/1" in world.reason(2)

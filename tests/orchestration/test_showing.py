"""`incumbent status`, `history` and `verify`, on a platform of fakes."""

import json
from collections.abc import Callable
from dataclasses import replace
from threading import Event
from typing import Any

import pytest
from click.testing import CliRunner, Result

from orchestration.cli import main
from orchestration.commands.status import read_status
from orchestration.promotion.acts import Act, ActKind
from orchestration.promotion.cluster_status import PodStatus
from orchestration.promotion.model_version import policy_tags
from orchestration.promotion.policy_status import PolicyStatus
from orchestration.promotion.ports import LeaseRecord
from orchestration.promotion.timestamps import format_time, show_clock
from orchestration.stages.lease import command_holder
from orchestration.stages.pipeline import STAGES
from orchestration.stages.runner import run_stage
from tests.fakes.cluster import DOWN
from tests.fakes.runs import Host, promote
from tests.fakes.world import MANIFEST, POLICY_NAME, REPOSITORY, World, WorldPlatform

Ask = Callable[..., Result]


@pytest.fixture
def ask(world: World, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run the command on the world, on a terminal of 100 characters."""
    monkeypatch.setattr("orchestration.cli.showing.platform_of_environment", lambda: WorldPlatform(world))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return lambda *arguments: CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def promoted(world: World, bad: bool = False) -> int:
    """Promote the next version, to the end."""
    number = world.register().version
    if bad:
        world.bad_images.add(world.image(number))
    promote(world, number, f"run {number}")
    world.clock.sleep(60)
    return number


def by_hand(world: World, image: str, author: str = "ana") -> str:
    """A person commits another image, and Argo CD follows."""
    commit = world.git.commit(
        "Change the image", {"apps/iris.yaml": MANIFEST.format(image=image).encode()}, None, author
    )
    world.clock.sleep(60)
    world.reconcile()
    return commit


def hold(world: World) -> None:
    world.git.record_act(Act(POLICY_NAME, ActKind.HOLD, world.clock.now(), "ana", "the fair is on"))


def status_of(world: World) -> PolicyStatus:
    (found,) = read_status(WorldPlatform(world), [POLICY_NAME])
    return found


# status


@pytest.mark.parametrize("options", [[], ["--json"], [POLICY_NAME]])
def test_without_any_policy_the_next_step_is_said(world: World, ask: Ask, options: list[str]) -> None:
    """An empty folder is most often the wrong one, so it is refused."""
    world.policies.clear()
    result = ask("status", *options)
    assert result.exit_code == 3
    assert "found no policies at all. Write one (incumbent init" in result.stderr


def test_a_champion_that_serves_agrees(world: World, ask: Ask) -> None:
    """One row with version, digest and since when; everything agrees, and the exit code is 0."""
    promoted(world)
    result = ask("status")
    assert result.exit_code == 0, result.output
    head, row, *_ = result.stdout.splitlines()
    assert head.split()[:2] == ["POLICY", "LIVE"]
    assert row.split()[:3] == [POLICY_NAME, "1", world.image(1).rpartition(":")[2][:12]]
    assert row.endswith("yes")
    found = status_of(world)
    assert found.live is not None
    assert (found.live.version, found.live.why, found.champion, found.agrees) == (1, "promoted", 1, True)
    assert found.live.since == world.git.log[0].committed_at
    assert found.live.lead_seconds is None  # nobody requested it


def test_the_document_is_stable(world: World, ask: Ask) -> None:
    """Programs find the same keys, whatever is known."""
    keys = {
        *("policy", "model", "head", "live", "champion", "challenger", "under_way", "agrees", "differences"),
        *("broken", "unanswered", "at_work"),
    }
    promoted(world)
    world.policies["wine-edge"] = "model: ["
    (one, broken) = json.loads(ask("status", "--json").stdout)
    assert set(one) == set(broken) == keys
    assert set(one["live"]) == {"version", "image", "since", "why", "lead_seconds"}
    assert broken["live"] is None
    assert set(broken["broken"]) == {"subject", "expected", "found", "next_step"}


def test_who_has_the_lease_is_said_while_a_version_waits_for_it(world: World, ask: Ask) -> None:
    """The run that found it taken wrote nothing; a lease that has expired is nobody's."""
    promoted(world)
    world.register()
    lease = world.git.acquire_lease("iris", command_holder("rollback", "ana", "c0ffee"), 40)
    assert isinstance(lease, LeaseRecord)
    promote(world, 2, "run 2")
    shown = " ".join(ask("status").stdout.split())
    assert (
        f"at work: a rollback by ana, with the lease of application iris until {show_clock(lease.expires_at)}" in shown
    )
    (one,) = json.loads(ask("status", "--json").stdout)
    assert one["at_work"] == {
        "who": "a rollback by ana",
        "application": "iris",
        "until": format_time(lease.expires_at),
    }
    world.clock.sleep(41)
    assert "at work" not in ask("status").stdout


def test_a_rollback_says_why_the_champion_serves_again(world: World) -> None:
    """The champion is live since the rollback, because another version was taken back."""
    promoted(world)
    promoted(world, bad=True)
    found = status_of(world)
    assert found.live is not None
    assert (found.live.version, found.agrees) == (1, True)
    assert found.live.why == "put back when version 2 was taken back (Failed)"
    assert found.live.since == world.git.log[0].committed_at


def test_an_image_by_hand_does_not_agree(world: World, ask: Ask) -> None:
    """Who put it there, when, and what the champion alias names instead, in words."""
    promoted(world)
    world.images.publish(REPOSITORY, "hotfix")
    by_hand(world, f"{REPOSITORY}:hotfix")
    found = status_of(world)
    assert found.live is not None
    assert (found.live.version, found.live.why) == (None, "put there by hand by ana: Change the image")
    assert found.live.since == world.git.log[0].committed_at
    assert found.differences == (
        f"Git has {REPOSITORY}:hotfix, which no promotion committed, and the alias champion of iris names version 1",
    )
    result = ask("status")
    assert result.exit_code == 0
    assert "NO" in result.stdout.splitlines()[1]


def test_a_return_by_hand_is_known_by_its_digest(world: World) -> None:
    """The version is named, and the alias that does not follow is reported."""
    promoted(world)
    promoted(world)
    by_hand(world, world.image(1))
    found = status_of(world)
    assert found.live is not None
    assert (found.live.version, found.champion) == (1, 2)
    assert found.differences == ("Git has version 1, and the alias champion of iris names version 2",)


def test_what_is_put_there_by_hand_is_found_below_later_changes(world: World) -> None:
    """A change of another line does not count as the change of the image."""
    commit = by_hand(world, f"{REPOSITORY}:before@{world.images.tags[REPOSITORY, 'before']}")
    content = world.git.commits[world.git.head].files["apps/iris.yaml"]
    for number in range(3):
        world.git.commit("Edit a comment", {"apps/iris.yaml": content + b"# %d\n" % number}, None, "bob")
    live = status_of(world).live
    assert live is not None
    assert live.since == world.git.commits[commit].committed_at
    assert live.why.startswith("put there by hand by ana")


def test_another_image_in_the_cluster_is_said(world: World) -> None:
    """Git is not the whole truth: what runs is live, and the difference is in words."""
    promoted(world)
    status = world.cluster.status
    assert status is not None
    world.cluster.status = replace(status, images={"model-server": f"{REPOSITORY}:other"})
    found = status_of(world)
    assert found.live is not None
    assert (found.live.image, found.live.version) == (f"{REPOSITORY}:other", None)
    assert found.differences == (f"Git has {world.image(1)}, and Deployment ml-apps/iris runs {REPOSITORY}:other",)


def test_what_is_under_way_is_no_disagreement(world: World, ask: Ask) -> None:
    """A version that waits, a hold, and a commit that the cluster does not have yet: the notes say so."""
    promoted(world)
    world.register()
    tags = {"state": "waiting", "reason": "the image is not published", "requested_at": "2026-11-26T10:00:00.000Z"}
    world.registry.write_tags(world.registry.versions["iris", 2], policy_tags(POLICY_NAME, tags))
    hold(world)
    result = ask("status")
    shown = " ".join(result.stdout.split())
    assert "hold, 2 waiting" in shown
    assert "hold since 1970-01-12 13:48: the fair is on (ana)" in shown
    assert "version 2 waiting since 2026-11-26 10:00: the image is not published" in shown
    world.git.record_act(Act(POLICY_NAME, ActKind.RESUME, world.clock.now() + 1, "ana", "the fair is over"))
    for stage in STAGES[:2]:
        run_stage(stage, WorldPlatform(world), f"{POLICY_NAME}@2", Host("run", True, world.said.append))
    assert world.live_image == world.image(2)
    found = status_of(world)
    assert (2, "committed") in [(act.version, act.state) for act in found.under_way]
    assert found.agrees is True


def test_a_held_promotion_is_no_disagreement(world: World) -> None:
    """It says for what and since when it is held; the champion is another version until a person decides."""
    promoted(world)
    number = world.register().version
    world.unmeasured_images.add(world.image(number))
    promote(world, number, "run")
    found = status_of(world)
    (held,) = found.under_way
    assert (held.version, held.state) == (2, "held")
    assert held.since is not None
    assert held.reason
    assert found.differences == ()


@pytest.mark.parametrize(
    ("service", "agrees"),
    [("Git", None), ("the registry", None), ("the cluster", None), ("Argo CD", True), ("Prometheus", True)],
)
def test_a_service_that_is_down_is_shown_beside_what_is_known(
    service: str, agrees: bool | None, world: World, ask: Ask
) -> None:
    """Its name and what to do are shown, the policy has its row, nothing is guessed, and the exit code is 4."""
    promoted(world)
    down(world, service)
    result = ask("status")
    assert result.exit_code == 4
    assert "Traceback" not in result.output
    assert POLICY_NAME in result.stdout.splitlines()[1]
    assert " ".join(result.stdout.split()).count("(Asked for iris-edge.)") == 1
    found = status_of(world)
    assert [name for name, _ in found.unanswered] == [service]
    assert found.agrees is agrees
    assert found.live is not None
    assert found.live.image == world.image(1)
    alone = "running in the cluster; since when, and why, only Git could say"
    assert found.live.why == (alone if service == "Git" else "promoted")


def down(world: World, service: str) -> None:
    world.git.down = "that it is down" if service == "Git" else None
    world.registry.down = service == "the registry"
    world.cluster.down = DOWN if service == "the cluster" else None
    world.argocd.down = DOWN if service == "Argo CD" else None
    world.metrics.down = DOWN if service == "Prometheus" else None


def test_a_service_that_hangs_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What answered is shown within the bound; the one that hangs is named, also while it is waited for."""
    promoted(world)
    never = Event()
    monkeypatch.setattr(world.metrics, "ready", never.wait)
    said: list[str] = []
    (found,) = read_status(WorldPlatform(world), [POLICY_NAME], seconds=1.0, say=said.append)
    never.set()
    assert said == ["waiting for Prometheus, 1 s at most"]
    assert [(name, problem.found) for name, problem in found.unanswered] == [("Prometheus", "no answer within 1 s")]
    assert found.agrees is True


def test_a_broken_policy_is_a_row(world: World, ask: Ask) -> None:
    """The other policies are shown, and the exit code is 3, also when a service is down as well."""
    promoted(world)
    world.policies["wine-edge"] = "model: ["
    down(world, "Prometheus")
    result = ask("status")
    assert result.exit_code == 3
    assert [line.split()[0] for line in result.stdout.splitlines()[1:3]] == [POLICY_NAME, "wine-edge"]
    assert "broken: policy wine-edge" in " ".join(result.stdout.split())


def test_a_manifest_that_cannot_be_read_is_a_broken_policy(world: World, ask: Ask) -> None:
    """What the registry and the cluster say is shown all the same."""
    promoted(world)
    world.git.commit("Break it", {"apps/iris.yaml": b"kind: [\n"})
    result = ask("status", POLICY_NAME)
    assert result.exit_code == 3
    found = status_of(world)
    assert found.broken is not None
    assert found.champion == 1
    assert found.live is not None


def test_an_unknown_policy_is_a_broken_one(world: World) -> None:
    """Its row says what is wrong, as for a policy that cannot be read."""
    world.policies["wine-edge"] = "{}"
    (found,) = read_status(WorldPlatform(world), ["wine-edge"])
    assert found.broken is not None
    assert "wine-edge" in found.broken.subject


def test_a_narrow_terminal_gets_one_value_a_line(world: World, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is longer than the terminal."""
    promoted(world)
    world.registry.write_tags(world.registry.versions["iris", 1], {"incumbent.iris-edge.reason": "\x1b[31mred"})
    monkeypatch.setenv("COLUMNS", "40")
    for command in (("status",), ("history", POLICY_NAME), ("verify", POLICY_NAME, "1")):
        shown = ask(*command).stdout
        assert max(len(line) for line in shown.splitlines() if " " in line.strip()) <= 60
        assert "\x1b" not in shown


def test_the_number_of_versions_does_not_matter(world: World) -> None:
    """Many versions cost no more questions than few."""
    asked = []
    for versions in (1, 8):
        while len(world.registry.versions) < versions:
            promoted(world, bad=True)
        world.registry.calls.clear()
        status_of(world)
        asked.append(len(world.registry.calls))
    assert asked[0] == asked[1]


# history


def test_history_is_told_without_the_registry(world: World, ask: Ask) -> None:
    """1, 2, a rejected 3, back to 1 by hand, 4: champions and attempts, while the registry and all else is down."""
    promoted(world)
    promoted(world)
    promoted(world, bad=True)
    by_hand(world, world.image(1))
    promoted(world)
    world.registry.down, world.cluster.down, world.metrics.down = True, DOWN, DOWN
    calls = len(world.registry.calls)
    document = json.loads(ask("history", POLICY_NAME, "--json").stdout)
    assert len(world.registry.calls) == calls
    told = [(reign["version"], reign["began"]) for reign in document["reigns"]]
    assert told == [
        (4, "promotion"),
        (1, "return by hand"),
        (2, "promotion"),
        (1, "promotion"),
        (None, "by hand"),
    ]
    ends = [(attempt["version"], attempt["end"], attempt["verdict"]) for attempt in document["attempts"]]
    assert ends == [
        (4, "champion", "Passed"),
        (3, "rolled back", "Failed"),
        (2, "champion", "Passed"),
        (1, "champion", "Passed"),
    ]
    shown = ask("history", POLICY_NAME)
    assert shown.exit_code == 0
    assert shown.stdout.startswith("Champions\n")
    assert "Attempts" in shown.stdout


def test_history_needs_only_git(world: World, ask: Ask) -> None:
    """Without Git, the exit code is 4 and one line says so; an unknown policy is refused with 3."""
    world.git.down = "that it is down"
    result = ask("history", POLICY_NAME)
    assert (result.exit_code, result.stdout) == (4, "")
    assert "Git" in result.stderr
    world.git.down = None
    assert CliRunner().invoke(main, ["history"]).exit_code == 2


def test_history_shows_what_people_decided(world: World, ask: Ask) -> None:
    """Holds and their like are listed with who and why."""
    hold(world)
    assert "the fair is on" in ask("history", POLICY_NAME).stdout
    (act,) = json.loads(ask("history", POLICY_NAME, "--json").stdout)["acts"]
    assert (act["kind"], act["by"], act["reason"]) == ("hold", "ana", "the fair is on")


# verify


def findings(ask: Ask, number: int) -> dict[str, Any]:
    result = ask("verify", POLICY_NAME, str(number), "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == (0 if document["agrees"] else 3), result.output
    return {row["what"]: row for row in document["findings"]}


def wrong(ask: Ask, number: int) -> list[str]:
    return [what for what, row in findings(ask, number).items() if not row["ok"]]


def test_a_champion_is_verified_everywhere(world: World, ask: Ask) -> None:
    """Commit, tag, evidence, tags, alias, manifest and pods agree; missing history in Dagster is no fault."""
    promoted(world)
    found = findings(ask, 1)
    assert wrong(ask, 1) == []
    assert {row["where"] for row in found.values()} >= {"Git", "MLflow", "Dagster", "cluster edge", "image registry"}
    assert found["history"]["finding"] == "none of this version in this instance"


def test_versions_that_are_not_live_are_verified_too(world: World, ask: Ask) -> None:
    """A rejected version has no evidence tag, a former champion has; neither is a difference."""
    promoted(world)
    promoted(world)
    promoted(world, bad=True)
    assert [wrong(ask, number) for number in (1, 2, 3)] == [[], [], []]
    assert "rollback" in findings(ask, 3)
    assert "pods" not in findings(ask, 1)


def test_each_difference_is_named(world: World, ask: Ask) -> None:
    """Evidence that was edited, a tag that was moved, an alias and pods that are others: each is a row of its own."""
    promoted(world)
    path = ("run1", f"incumbent/{POLICY_NAME}/1-1.json")
    good, tag = world.registry.artifacts[path], world.git.tags[f"incumbent/{POLICY_NAME}/1-1"]
    world.registry.artifacts[path] = good.replace(b"Passed", b"Forged")
    assert wrong(ask, 1) == ["evidence", "content of the evidence"]
    world.registry.artifacts[path] = b"["
    assert wrong(ask, 1) == ["evidence", "content of the evidence"]
    del world.registry.artifacts[path]
    assert wrong(ask, 1) == ["evidence"]
    world.registry.artifacts[path] = good
    world.git.tags[tag.name] = replace(tag, commit=world.git.log[-1].id)
    assert wrong(ask, 1) == ["evidence tag"]
    world.git.tags[tag.name] = tag
    del world.registry.aliases["iris", "champion"]
    assert wrong(ask, 1) == ["alias"]
    world.registry.aliases["iris", "champion"] = 1
    world.images.publish(REPOSITORY, "other")
    status = world.cluster.status
    assert status is not None
    pod = status.pods[0]
    other = replace(pod.containers[0], image_id=f"{REPOSITORY}@sha256:{'f' * 64}")
    world.cluster.status = replace(status, pods=(replace(pod, containers=(other,)), *status.pods[1:]))
    assert wrong(ask, 1) == [f"pod {pod.name}"]


def test_a_champion_that_is_not_live_is_a_difference(world: World, ask: Ask) -> None:
    """The manifest at the head has another image than the champion's."""
    promoted(world)
    by_hand(world, f"{REPOSITORY}:before")
    assert wrong(ask, 1) == ["manifest at the head"]


def test_a_champion_beside_a_promotion_under_way_is_verified(world: World, ask: Ask) -> None:
    """While another version is committed and not judged yet, the branch has that one's image, as it should."""
    promoted(world)
    world.register()
    for stage in STAGES[:2]:
        run_stage(stage, WorldPlatform(world), f"{POLICY_NAME}@2", Host("run", True, world.said.append))
    assert wrong(ask, 1) == []
    assert "version 2 is being promoted" in findings(ask, 1)["manifest at the head"]["finding"]
    assert [what for what in wrong(ask, 2) if what != "pods"] == [f"pod {pod.name}" for pod in pods_of(world)]


def pods_of(world: World) -> tuple[PodStatus, ...]:
    assert world.cluster.status is not None
    return world.cluster.status.pods


def test_a_version_that_was_never_committed_is_refused(world: World, ask: Ask) -> None:
    """Exit code 3, with the command that shows what was committed; an unknown version likewise, and 4 without Git."""
    world.register()
    result = ask("verify", POLICY_NAME, "1")
    assert result.exit_code == 3
    assert f"incumbent history {POLICY_NAME}" in result.stderr
    assert ask("verify", POLICY_NAME, "9").exit_code == 3
    down(world, "Git")
    assert ask("verify", POLICY_NAME, "1").exit_code == 4

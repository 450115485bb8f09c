"""Looking at all policies again and again, and the metrics that Prometheus gets."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from orchestration.commands.requesting import request_promotion
from orchestration.commands.serving import adopt_version
from orchestration.exporter.exposition import FindingsCollector
from orchestration.exporter.watcher import Watcher
from orchestration.promotion.decided import Decided
from orchestration.promotion.served_quality import ServedQuality
from orchestration.promotion.state import State
from tests.fakes.cluster import DOWN
from tests.fakes.runs import promote
from tests.fakes.world import MANIFEST, POLICY_NAME, POLICY_TEXT, REPOSITORY, World, WorldPlatform

P = f'policy="{POLICY_NAME}"'
PM = f'model="iris",{P}'
TIMED = 'end="champion",' + PM


class Scraped:
    """A world with a watcher, and the samples that Prometheus would scrape."""

    def __init__(self) -> None:
        self.world = World()
        self.said: list[str] = []
        self.watcher = Watcher(WorldPlatform(self.world), self.said.append)
        self.registry = CollectorRegistry()
        self.registry.register(FindingsCollector(lambda: self.watcher.findings))

    def promoted(self, *, good: bool = True) -> int:
        world = self.world
        number = world.register().version
        if not good:
            world.bad_images.add(world.image(number))
        request_promotion(world.registry, world.clock, world.policy(POLICY_NAME), number)
        world.clock.sleep(7)
        assert promote(world, number, "run")
        return number

    def look(self, after: float = 15.0) -> dict[str, float]:
        """Look once more and scrape all samples, as `name{label="value",...}` with sorted labels."""
        self.world.clock.sleep(after)
        self.watcher.look()
        return self.scrape()

    def scrape(self) -> dict[str, float]:
        text = generate_latest(self.registry).decode()
        return {
            f"{sample.name.removeprefix('incumbent_')}{{{_labels(sample.labels)}}}": sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


def _labels(labels: dict[str, str]) -> str:
    return ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))


@pytest.fixture
def scraped() -> Scraped:
    return Scraped()


def names(samples: dict[str, float]) -> set[str]:
    return {name.partition("{")[0] for name in samples}


def test_an_adopted_champion_is_reported_like_any_other(scraped: Scraped) -> None:
    """Its adoption in Git stands for the evidence; an image that a person puts there later is not the champion's."""
    world = scraped.world
    world.register()
    by_hand = MANIFEST.format(image=world.image(1)).encode()
    world.git.commit("By hand", {"apps/iris.yaml": by_hand})
    world.reconcile()
    decided = Decided("ana", "served since last year")
    adopt_version(WorldPlatform(world), POLICY_NAME, 1, decided, "adopt by ana", world.said.append)
    samples = scraped.look()
    digest = world.images.tags[REPOSITORY, "v1"]
    assert samples[f'champion_info{{image="{REPOSITORY}@{digest}",{PM},version="1"}}'] == 1
    assert samples[f"champion_has_evidence{{{PM}}}"] == 1
    assert samples[f"live_is_champion{{{PM}}}"] == 1
    world.git.commit("Hotfix", {"apps/iris.yaml": MANIFEST.format(image=f"{REPOSITORY}:before").encode()})
    world.reconcile()
    assert scraped.look()[f"live_is_champion{{{PM}}}"] == 0


def test_there_are_no_samples_before_the_first_look(scraped: Scraped) -> None:
    """A scrape is answered at once, without zeros for what was not read yet."""
    assert scraped.scrape() == {}


def test_a_champion_that_serves_is_reported_completely(scraped: Scraped) -> None:
    """Alias, live image, their agreement, the evidence and the durations are reported."""
    number = scraped.promoted()
    samples = scraped.look()
    image = scraped.world.image(number)
    assert samples[f'champion_info{{image="{image}",{PM},version="1"}}'] == 1
    assert samples[f'live_info{{image="{image}",{PM},version="1"}}'] == 1
    assert samples[f"live_is_champion{{{PM}}}"] == samples[f"champion_has_evidence{{{PM}}}"] == 1
    ended = samples[f'promotion_ended_timestamp_seconds{{end="champion",{PM},reason="",version="1"}}']
    assert 60 < ended - samples[f'live_since_timestamp_seconds{{{PM},version="1"}}'] < 120, (
        "a rollout and a soak of 60 s"
    )
    ends = {end: samples[f'promotions_total{{end="{end}",{PM}}}'] for end in ("champion", "rolled_back", "refused")}
    assert ends == {"champion": 1, "rolled_back": 0, "refused": 0}
    assert samples[f'promotion_stage_duration_seconds_bucket{{le="60.0",{P},stage="gate"}}'] == 1
    assert samples[f'promotion_stage_duration_seconds_bucket{{le="45.0",{P},stage="gate"}}'] == 0
    assert samples[f'promotion_stage_duration_seconds_count{{{P},stage="rollback"}}'] == 0
    assert samples[f"promotion_lead_time_seconds_count{{{P}}}"] == 1
    assert samples[f'promotion_restore_seconds_bucket{{le="+Inf",{P}}}'] == 0
    assert samples[f"promotions_held{{{PM}}}"] == 0
    assert samples[f"last_look_timestamp_seconds{{{P}}}"] == scraped.world.clock.now()
    assert samples[f"look_failures_total{{{P}}}"] == 0
    assert scraped.said == []


def test_without_a_champion_nothing_is_compared_with_it(scraped: Scraped) -> None:
    """The image from before belongs to no version, and a 0 would say that the wrong version serves."""
    samples = scraped.look()
    assert samples[f'live_info{{image="{REPOSITORY}:before",{PM},version=""}}'] == 1
    assert names(samples).isdisjoint({"champion_info", "live_is_champion", "champion_has_evidence"})


def test_a_champion_made_by_hand_has_no_image_and_no_evidence(scraped: Scraped) -> None:
    """No commit says which image the version has, so nothing is compared with it."""
    scraped.world.registry.set_alias(scraped.world.register(), "champion")
    samples = scraped.look()
    assert samples[f'champion_info{{image="",{PM},version="1"}}'] == 1
    assert samples[f"champion_has_evidence{{{PM}}}"] == 0
    assert "live_is_champion" not in names(samples)


def test_another_image_than_the_champions_is_reported(scraped: Scraped) -> None:
    """A person's change of the cluster shows at the next look."""
    scraped.promoted()
    scraped.look()
    status = scraped.world.cluster.status
    assert status is not None
    scraped.world.cluster.status = replace(status, images={"model-server": f"{REPOSITORY}:hotfix"})
    samples = scraped.look()
    assert samples[f'live_info{{image="{REPOSITORY}:hotfix",{PM},version=""}}'] == 1
    assert samples[f"live_is_champion{{{PM}}}"] == 0


def test_a_workload_that_is_gone_serves_no_champion(scraped: Scraped) -> None:
    """There is no image to report, and the champion does not serve."""
    scraped.promoted()
    scraped.world.cluster.status = None
    samples = scraped.look()
    assert samples[f"live_is_champion{{{PM}}}"] == 0
    assert "live_info" not in names(samples)


@pytest.mark.parametrize("gone", ["tag", "artifact", "changed"])
def test_evidence_that_no_longer_agrees_is_reported(scraped: Scraped, gone: str) -> None:
    """It is reported within five minutes, because the evidence has to be read whole."""
    scraped.promoted()
    assert scraped.look()[f"champion_has_evidence{{{PM}}}"] == 1
    path = ("run1", "incumbent/iris-edge/1-1.json")
    if gone == "tag":
        scraped.world.git.tags.clear()
    elif gone == "artifact":
        del scraped.world.registry.artifacts[path]
    else:
        scraped.world.registry.artifacts[path] += b" "
    assert scraped.look(after=300)[f"champion_has_evidence{{{PM}}}"] == 0


def test_a_dead_cluster_hides_only_what_it_alone_knows(scraped: Scraped) -> None:
    """Held promotions matter most just then; the live image is unknown, and the time of the last whole look stays."""
    scraped.promoted()
    before = scraped.look()
    scraped.world.cluster.down = DOWN
    samples = scraped.look()
    assert names(before) - names(samples) == {"live_info", "live_since_timestamp_seconds", "live_is_champion"}
    assert samples[f"look_failures_total{{{P}}}"] == 1
    assert samples[f"last_look_timestamp_seconds{{{P}}}"] == before[f"last_look_timestamp_seconds{{{P}}}"]
    scraped.look()
    assert len(scraped.said) == 1, "the same problem is reported once"
    scraped.world.cluster.down = None
    assert names(scraped.look()) == names(before)


@pytest.mark.parametrize("which", ["registry", "git"])
def test_what_cannot_be_read_is_not_reported(scraped: Scraped, which: str) -> None:
    """Past events stay reported; the present state is unknown."""
    scraped.promoted()
    before = scraped.look()
    scraped.world.registry.down = which == "registry"
    scraped.world.git.down = "a server that is down" if which == "git" else None
    samples = scraped.look()
    now = {"champion_info", "champion_has_evidence", "promotions_held", "model_metric", "model_baseline"}
    now |= {"live_info", "live_since_timestamp_seconds", "live_is_champion"}
    assert names(before) - names(samples) == now
    counters = {name: value for name, value in before.items() if name.startswith("promotion")}
    assert {name: samples.get(name) for name in counters if "held" not in name} == {
        name: value for name, value in counters.items() if "held" not in name
    }
    assert samples[f"look_failures_total{{{P}}}"] == 1
    scraped.world.registry.down, scraped.world.git.down = False, None
    after = scraped.look()
    assert after[f"promotions_total{{{TIMED}}}"] == 1
    assert names(after) == names(before)


def test_a_held_promotion_is_reported_while_its_cluster_is_dead(scraped: Scraped) -> None:
    """It is reported with its start, so that an alert can ask for how long, and no longer once it has ended."""
    scraped.look()
    world = scraped.world
    world.register()
    request_promotion(world.registry, world.clock, world.policy(POLICY_NAME), 1)
    world.argocd.on_refresh = lambda _: setattr(world.cluster, "down", DOWN)
    assert promote(world, 1, "run")
    assert world.state(1) is State.HELD
    held_at = world.clock.now()
    samples = scraped.look(after=900)
    assert samples[f"promotions_held{{{PM}}}"] == 1
    assert samples[f'held_since_timestamp_seconds{{{P},version="1"}}'] == pytest.approx(held_at, abs=2)
    world.cluster.down, world.argocd.on_refresh = None, lambda _: world.reconcile()
    assert promote(world, 1, "again")
    samples = scraped.look()
    assert samples[f"promotions_held{{{PM}}}"] == 0
    assert "held_since_timestamp_seconds" not in names(samples)
    assert samples[f"promotions_total{{{TIMED}}}"] == 1


def test_one_broken_policy_stops_no_other(scraped: Scraped) -> None:
    """It is counted and reported, even when its problem is one that nobody foresaw."""
    world = scraped.world
    world.policies = {"a-broken": "model: [", **world.policies, "z-unforeseen": POLICY_TEXT}
    policy = world.policy

    def surprising(name: str) -> object:
        if name == "z-unforeseen":
            raise RecursionError("too deep")
        return policy(name)

    scraped.watcher = Watcher(platform := WorldPlatform(world), scraped.said.append)
    platform.policy = surprising  # type: ignore[assignment]
    scraped.promoted()
    samples = scraped.look()
    assert samples[f"promotions_total{{{TIMED}}}"] == 1
    assert (
        samples['look_failures_total{policy="a-broken"}'] == samples['look_failures_total{policy="z-unforeseen"}'] == 1
    )
    assert any("policy a-broken" in line for line in scraped.said)
    assert any("unexpected RecursionError: too deep" in line for line in scraped.said)


def test_a_deleted_policy_is_no_longer_reported(scraped: Scraped) -> None:
    """All its series end."""
    scraped.look()
    scraped.world.policies.clear()
    assert scraped.look() == {}


def test_a_changed_policy_is_read_anew(scraped: Scraped) -> None:
    """Its model may have changed, and nothing was counted for the new one."""
    scraped.promoted()
    scraped.look()
    scraped.world.policies[POLICY_NAME] = POLICY_TEXT.replace("model: iris", "model: wine")
    samples = scraped.look()
    assert samples[f'promotions_total{{end="champion",model="wine",{P}}}'] == 0
    assert not any('model="iris"' in name for name in samples)


def test_a_rewritten_branch_is_followed(scraped: Scraped) -> None:
    """What is no longer on the branch has no durations and no image; later promotions are reported as before."""
    scraped.promoted()
    scraped.look()
    git = scraped.world.git
    manifest = git.commits[git.head].files["apps/iris.yaml"]
    git.head = git.log[-1].id
    git.commit("Begin anew", {"apps/iris.yaml": manifest})
    samples = scraped.look()
    assert samples[f"promotion_lead_time_seconds_count{{{P}}}"] == 0
    assert samples[f'champion_info{{image="",{PM},version="1"}}'] == 1
    assert samples[f"look_failures_total{{{P}}}"] == 0
    scraped.promoted()
    assert scraped.look()[f"promotion_lead_time_seconds_count{{{P}}}"] == 1


def test_a_folder_of_policies_that_is_gone_fails_every_look(scraped: Scraped) -> None:
    """Nothing from the last look is reported as if it were current."""
    scraped.promoted()
    scraped.look()

    def gone() -> Iterator[str]:
        raise FileNotFoundError("policies")

    scraped.watcher._platform.policy_names = gone  # type: ignore[method-assign,assignment]
    samples = scraped.look()
    assert samples[f"look_failures_total{{{P}}}"] == 1
    assert "champion_info" not in names(samples)


def test_how_good_the_versions_are_is_reported(scraped: Scraped) -> None:
    """Of both roles as in training, and of the champion as it was last evaluated, within a minute."""
    world = scraped.world
    world.policies[POLICY_NAME] = f"{POLICY_TEXT}evaluation: {{rows: rows.csv, label: y, prediction: $.prediction}}\n"
    scraped.promoted()
    world.register(accuracy=0.95)
    samples = scraped.look()
    assert samples[f'model_metric{{metric="accuracy",{PM},role="champion",version="1"}}'] == 0.9
    assert samples[f'model_metric{{metric="accuracy",{PM},role="challenger",version="2"}}'] == 0.95
    assert samples[f'model_baseline{{metric="accuracy",{PM}}}'] == 0.9
    assert not {"model_part_of_baseline", "model_evaluated_timestamp_seconds"} & names(samples)
    found = ServedQuality(POLICY_NAME, "iris", 1, "accuracy", 0.72, 0.9, 50, "d", compared_inputs=4, at=1000.0)
    world.registry.record_evaluation(replace(found, drifted_inputs=("a", "b")), ())
    samples = scraped.look(after=60.0)
    assert samples[f'model_metric{{metric="accuracy",{PM},role="champion",version="1"}}'] == 0.72
    assert samples[f'model_part_of_baseline{{metric="accuracy",{PM},version="1"}}'] == pytest.approx(0.8)
    assert samples[f'model_evaluated_timestamp_seconds{{{PM},version="1"}}'] == 1000.0
    assert samples[f'model_drifted_inputs{{{PM},version="1"}}'] == 2


def test_an_evaluation_of_another_version_is_not_the_champions(scraped: Scraped) -> None:
    """A new champion starts with what it had in training; since when no labels came stays known."""
    world = scraped.world
    world.policies[POLICY_NAME] = f"{POLICY_TEXT}evaluation: {{rows: rows.csv, label: y, prediction: $.prediction}}\n"
    scraped.promoted()
    world.registry.record_evaluation(
        ServedQuality(POLICY_NAME, "iris", 1, "accuracy", 0.72, 0.9, 50, "d", at=1000.0), ()
    )
    scraped.look()
    scraped.promoted()
    samples = scraped.look()
    assert samples[f'model_metric{{metric="accuracy",{PM},role="champion",version="2"}}'] == 0.9
    assert "model_part_of_baseline" not in names(samples)
    assert samples[f'model_evaluated_timestamp_seconds{{{PM},version="1"}}'] == 1000.0
    assert samples[f"model_evaluation_wanted{{{PM}}}"] == 1


def test_the_registry_is_not_asked_again_and_again_how_good_versions_are(scraped: Scraped) -> None:
    """Once a minute is often enough for what is measured once an hour, and a training run is read once."""
    world = scraped.world
    scraped.promoted()
    scraped.look()
    world.registry.calls.clear()
    scraped.look()
    assert not {"training", "last_evaluation"} & set(world.registry.calls)
    scraped.look(after=60.0)
    assert "training" not in world.registry.calls


def test_one_fetch_serves_all_policies(scraped: Scraped, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there is one policy or 20, after the registry was asked for all; what does not answer is asked once."""
    world, calls = scraped.world, world_calls(scraped, monkeypatch)
    for size in (1, 20):
        world.policies = {f"p{number}": POLICY_TEXT for number in range(size)}
        scraped.look()
        calls.clear()
        scraped.look()
        assert calls.count("fetch") == 1
        assert "version_by_alias" not in calls[calls.index("fetch") :]
    world.git.down = "no answer in 10 s"
    calls.clear()
    samples = scraped.look()
    assert calls.count("fetch") == 1
    assert sum(value for name, value in samples.items() if name.startswith("look_failures_total")) == 20


def world_calls(scraped: Scraped, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls of the registry's aliases and the fetches from now on, in their order."""
    calls: list[str] = []

    def counted(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def counting(*asked: object) -> object:
            calls.append(name)
            return call(*asked)

        return counting

    for port, name in ((scraped.world.registry, "version_by_alias"), (scraped.world.git, "fetch")):
        monkeypatch.setattr(port, name, counted(name, getattr(port, name)))
    return calls

"""Looking at all policies again and again, and what is told of them to Prometheus."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from orchestration.commands.requesting import request_promotion
from orchestration.exporter.exposition import FindingsCollector
from orchestration.exporter.watcher import Watcher
from orchestration.promotion.state import State
from tests.fakes.cluster import DOWN
from tests.fakes.world import POLICY_NAME, POLICY_TEXT, REPOSITORY, World, WorldPlatform
from tests.orchestration.test_crashes import promote

P = f'policy="{POLICY_NAME}"'
PM = f'model="iris",{P}'
TIMED = 'end="champion",' + PM


class Scraped:
    """A world with a watcher, and what Prometheus would read of it."""

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
        """All samples after one more look, as `name{label="value",...}` with sorted labels."""
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


def test_nothing_is_told_before_the_first_look(scraped: Scraped) -> None:
    """A scrape is answered at once, and a zero is told of nothing that was not read."""
    assert scraped.scrape() == {}


def test_a_champion_that_serves_is_told_whole(scraped: Scraped) -> None:
    """The alias, the live image, that they are the same, the evidence, and how it came to be."""
    number = scraped.promoted()
    told = scraped.look()
    image = scraped.world.image(number)
    assert told[f'champion_info{{image="{image}",{PM},version="1"}}'] == 1
    assert told[f'live_info{{image="{image}",{PM},version="1"}}'] == 1
    assert told[f"live_is_champion{{{PM}}}"] == told[f"champion_has_evidence{{{PM}}}"] == 1
    ends = {end: told[f'promotions_total{{end="{end}",{PM}}}'] for end in ("champion", "rolled_back", "refused")}
    assert ends == {"champion": 1, "rolled_back": 0, "refused": 0}
    assert told[f'promotion_stage_duration_seconds_bucket{{le="60.0",{P},stage="gate"}}'] == 1
    assert told[f'promotion_stage_duration_seconds_bucket{{le="45.0",{P},stage="gate"}}'] == 0
    assert told[f'promotion_stage_duration_seconds_count{{{P},stage="rollback"}}'] == 0
    assert told[f"promotion_lead_time_seconds_count{{{P}}}"] == 1
    assert told[f'promotion_restore_seconds_bucket{{le="+Inf",{P}}}'] == 0
    assert told[f"promotions_held{{{PM}}}"] == 0
    assert told[f"last_look_timestamp_seconds{{{P}}}"] == scraped.world.clock.now()
    assert told[f"look_failures_total{{{P}}}"] == 0
    assert scraped.said == []


def test_without_a_champion_nothing_is_compared_with_it(scraped: Scraped) -> None:
    """The image that was there before belongs to no version; a 0 would say that the wrong one serves."""
    told = scraped.look()
    assert told[f'live_info{{image="{REPOSITORY}:before",{PM},version=""}}'] == 1
    assert names(told).isdisjoint({"champion_info", "live_is_champion", "champion_has_evidence"})


def test_a_champion_made_by_hand_has_no_image_and_no_evidence(scraped: Scraped) -> None:
    """No commit says which image it is, so that it is compared with nothing."""
    scraped.world.registry.set_alias(scraped.world.register(), "champion")
    told = scraped.look()
    assert told[f'champion_info{{image="",{PM},version="1"}}'] == 1
    assert told[f"champion_has_evidence{{{PM}}}"] == 0
    assert "live_is_champion" not in names(told)


def test_another_image_than_the_champions_is_told(scraped: Scraped) -> None:
    """A person's change of the cluster shows at the next look."""
    scraped.promoted()
    scraped.look()
    status = scraped.world.cluster.status
    assert status is not None
    scraped.world.cluster.status = replace(status, images={"model-server": f"{REPOSITORY}:hotfix"})
    told = scraped.look()
    assert told[f'live_info{{image="{REPOSITORY}:hotfix",{PM},version=""}}'] == 1
    assert told[f"live_is_champion{{{PM}}}"] == 0


def test_a_workload_that_is_gone_serves_no_champion(scraped: Scraped) -> None:
    """There is no image to tell, and the champion does not serve."""
    scraped.promoted()
    scraped.world.cluster.status = None
    told = scraped.look()
    assert told[f"live_is_champion{{{PM}}}"] == 0
    assert "live_info" not in names(told)


@pytest.mark.parametrize("gone", ["tag", "artifact", "changed"])
def test_evidence_that_agrees_no_more_is_told(scraped: Scraped, gone: str) -> None:
    """Five minutes later at most, because the evidence is read whole."""
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


def test_a_dead_cluster_takes_away_only_what_it_alone_tells(scraped: Scraped) -> None:
    """What is held must be told just then; what is live is unknown, and the time of the last whole look stands."""
    scraped.promoted()
    before = scraped.look()
    scraped.world.cluster.down = DOWN
    told = scraped.look()
    assert names(before) - names(told) == {"live_info", "live_is_champion"}
    assert told[f"look_failures_total{{{P}}}"] == 1
    assert told[f"last_look_timestamp_seconds{{{P}}}"] == before[f"last_look_timestamp_seconds{{{P}}}"]
    scraped.look()
    assert len(scraped.said) == 1, "the same trouble is said once"
    scraped.world.cluster.down = None
    assert names(scraped.look()) == names(before)


@pytest.mark.parametrize("which", ["registry", "git"])
def test_what_cannot_be_read_is_not_told(scraped: Scraped, which: str) -> None:
    """What has happened has happened; what is now, nobody knows."""
    scraped.promoted()
    before = scraped.look()
    scraped.world.registry.down = which == "registry"
    scraped.world.git.down = "that it is down" if which == "git" else None
    told = scraped.look()
    now = {"champion_info", "champion_has_evidence", "live_info", "live_is_champion", "promotions_held"}
    assert names(before) - names(told) == now
    counters = {name: value for name, value in before.items() if name.startswith("promotion")}
    assert {name: told.get(name) for name in counters if "held" not in name} == {
        name: value for name, value in counters.items() if "held" not in name
    }
    assert told[f"look_failures_total{{{P}}}"] == 1
    scraped.world.registry.down, scraped.world.git.down = False, None
    after = scraped.look()
    assert after[f"promotions_total{{{TIMED}}}"] == 1
    assert names(after) == names(before)


def test_a_held_promotion_is_told_while_its_cluster_is_dead(scraped: Scraped) -> None:
    """With since when, so that an alert may ask for how long; and no more when it has ended."""
    scraped.look()
    world = scraped.world
    world.register()
    request_promotion(world.registry, world.clock, world.policy(POLICY_NAME), 1)
    world.argocd.on_refresh = lambda _: setattr(world.cluster, "down", DOWN)
    assert promote(world, 1, "run")
    assert world.state(1) is State.HELD
    held_at = world.clock.now()
    told = scraped.look(after=900)
    assert told[f"promotions_held{{{PM}}}"] == 1
    assert told[f'held_since_timestamp_seconds{{{P},version="1"}}'] == pytest.approx(held_at, abs=2)
    world.cluster.down, world.argocd.on_refresh = None, lambda _: world.reconcile()
    assert promote(world, 1, "again")
    told = scraped.look()
    assert told[f"promotions_held{{{PM}}}"] == 0
    assert "held_since_timestamp_seconds" not in names(told)
    assert told[f"promotions_total{{{TIMED}}}"] == 1


def test_one_broken_policy_stops_no_other(scraped: Scraped) -> None:
    """It is counted and said, also when its trouble is none that anybody foresaw."""
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
    told = scraped.look()
    assert told[f"promotions_total{{{TIMED}}}"] == 1
    assert told['look_failures_total{policy="a-broken"}'] == told['look_failures_total{policy="z-unforeseen"}'] == 1
    assert any("policy a-broken" in line for line in scraped.said)
    assert any("unexpected RecursionError: too deep" in line for line in scraped.said)


def test_a_policy_that_is_gone_is_told_no_more(scraped: Scraped) -> None:
    """With all its series."""
    scraped.look()
    scraped.world.policies.clear()
    assert scraped.look() == {}


def test_a_changed_policy_is_read_anew(scraped: Scraped) -> None:
    """Its model may be another one, of which nothing was counted."""
    scraped.promoted()
    scraped.look()
    scraped.world.policies[POLICY_NAME] = POLICY_TEXT.replace("model: iris", "model: wine")
    told = scraped.look()
    assert told[f'promotions_total{{end="champion",model="wine",{P}}}'] == 0
    assert not any('model="iris"' in name for name in told)


def test_a_rewritten_branch_is_followed(scraped: Scraped) -> None:
    """What is no more on the branch has no times and no image, and what comes after it is told as ever."""
    scraped.promoted()
    scraped.look()
    git = scraped.world.git
    manifest = git.commits[git.head].files["apps/iris.yaml"]
    git.head = git.log[-1].id
    git.commit("Begin anew", {"apps/iris.yaml": manifest})
    told = scraped.look()
    assert told[f"promotion_lead_time_seconds_count{{{P}}}"] == 0
    assert told[f'champion_info{{image="",{PM},version="1"}}'] == 1
    assert told[f"look_failures_total{{{P}}}"] == 0
    scraped.promoted()
    assert scraped.look()[f"promotion_lead_time_seconds_count{{{P}}}"] == 1


def test_a_folder_of_policies_that_is_gone_fails_every_look(scraped: Scraped) -> None:
    """Nothing of the last look is told as if it were of now."""
    scraped.promoted()
    scraped.look()

    def gone() -> Iterator[str]:
        raise FileNotFoundError("policies")

    scraped.watcher._platform.policy_names = gone  # type: ignore[method-assign,assignment]
    told = scraped.look()
    assert told[f"look_failures_total{{{P}}}"] == 1
    assert "champion_info" not in names(told)

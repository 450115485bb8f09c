"""What a person reads on Dagster's pages: the end on the run itself, the reason before the trace, numbers, checks."""

import dagster as dg
import pytest

from orchestration.assets import OUTCOME_TAG, REASON_TAG, VERSION_TAG
from orchestration.definitions import defs
from orchestration.metadata import short, table
from tests.fakes.world import World, run_stages


def test_a_champions_run_says_so(instance: dg.DagsterInstance) -> None:
    """The list of runs shows version and outcome, and a good end has no reason."""
    world = World()
    world.register()
    result = run_stages(world, 1, instance)
    tags = instance.get_runs()[0].tags
    assert result.success
    assert tags[VERSION_TAG] == "1"
    assert tags[OUTCOME_TAG] == "champion"
    assert REASON_TAG not in tags


def test_a_run_that_ends_says_why(instance: dg.DagsterInstance) -> None:
    """The outcome and the finding are tags of the run; the four parts stand in the log, with no second trace."""
    world = World()
    world.register()
    world.bad_images.add(world.image(1))
    result = run_stages(world, 1, instance)
    tags = instance.get_runs()[0].tags
    assert tags[OUTCOME_TAG] == "rolled back"
    assert "success_ratio" in tags[REASON_TAG]
    (event,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    failed = event.step_failure_data
    assert failed.user_failure_data is not None
    assert list(failed.user_failure_data.metadata) == ["what", "expected", "found", "next_step"]
    assert failed.error is not None
    assert (failed.error.cause, failed.error.context) == (None, None)


@pytest.mark.parametrize(
    ("measured", "shown"),
    [
        (0.9555555555, 0.9556),
        (1234567.0, 1234567.0),
        (12345.678, 12346.0),
        (0.00012345, 0.0001234),
        (0.0, 0.0),
        (-2.0, -2.0),
    ],
)
def test_numbers_are_short(measured: float, shown: float) -> None:
    """Four digits are enough for a page, and a whole number loses none of its own."""
    assert short(measured) == pytest.approx(shown, rel=1e-12)
    assert table([{"value": measured}]).records[0].data["value"] == short(measured)


def test_numbers_that_are_none_stay_so() -> None:
    """What cannot be rounded is shown as it is."""
    assert str(short(float("nan"))) == "nan"
    assert short(float("inf")) == float("inf")


def test_every_check_says_what_it_proves() -> None:
    """A check's page begins with its meaning."""
    specs = [spec for asset in defs.resolve_asset_graph().assets_defs for spec in asset.check_specs]
    assert all(spec.description for spec in specs)

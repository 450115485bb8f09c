"""`incumbent notify` and `incumbent notify-test`: telling people where no sensor does, and whether that arrives."""

import sys
from typing import TYPE_CHECKING

import click

from orchestration.cli.run import REFUSED, UNANSWERED, Version, platform_of_environment, problems, say, tell
from orchestration.cli.tables import shown

if TYPE_CHECKING:
    from orchestration.commands.telling import Told
    from orchestration.promotion.notifying import Event
    from orchestration.promotion.ports import Destination


def _seconds(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    from orchestration.promotion.duration_fields import parse_duration

    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(short_help="Tell people what is new, where no sensor does.")
@click.argument("policy_name", metavar="[POLICY]", required=False)
@click.argument("version", type=Version(), required=False)
@click.option(
    "--since",
    metavar="DURATION",
    default="24h",
    show_default=True,
    callback=_seconds,
    help="Without VERSION: how long ago an end may be, such as 90m.",
)
@click.option("--run-url", metavar="URL", default="", help="The page of the CI job, to which the messages then link.")
def notify(policy_name: str | None, version: int | None, since: float, run_url: str) -> None:
    """Tell people once how promotions ended, and what waits for them, without Dagster's sensor.

    It tells of VERSION under POLICY, as a last step in CI; or else, as from cron, of every challenger, champion and
    held version of POLICY or of all policies. What anyone told before is written on the version and not told again,
    so it can be called as often as you like, and beside the sensor.

    Messages go to each address of INCUMBENT_NOTIFY_FILE and INCUMBENT_NOTIFY_URLS.

    \b
    Examples:
      incumbent notify iris-classifier-edge 7 --run-url "$CI_JOB_URL"
      incumbent notify

    \b
    Exit code:
      0  told, or there was nothing new
      2  wrong usage
      3  refused (no destination, no such version), or a policy cannot be used
      4  the registry or a destination did not answer; the next call tells what is left
    """
    with problems():
        from orchestration.adapters.notifier import AppriseNotifier
        from orchestration.commands.telling import news, news_of_version
        from orchestration.commands.telling import tell as tell_people
        from orchestration.promotion.notifying import Event

        destinations = _destinations()
        platform = platform_of_environment()
        if policy_name is not None and version is not None:
            events, broken = [*news_of_version(platform, policy_name, version)], []
        else:
            found = list(news(platform, platform.policy_names() if policy_name is None else [policy_name], since))
            events = [each for each in found if isinstance(each, Event)]
            broken = [each for each in found if not isinstance(each, Event)]
        result = tell_people(platform, AppriseNotifier(), destinations, events, run_url)
    _say_what_was_told(events, result)
    for error in broken:
        tell(shown(error))
    if broken:
        sys.exit(REFUSED)
    if result.problems:
        sys.exit(UNANSWERED)


def _say_what_was_told(events: "list[Event]", result: "Told") -> None:
    for event in result.told:
        say(f"told: {shown(event.title)}")
    for problem in result.problems:
        tell(shown(problem))
    if not events:
        say("Nothing new to tell.")
    elif not result.problems and len(result.told) < len(events):
        say("Another process is telling the rest.")


@click.command("notify-test", short_help="Send a test message to each destination of notifications.")
def notify_test() -> None:
    """Send a test message to each address of INCUMBENT_NOTIFY_FILE and INCUMBENT_NOTIFY_URLS.

    Each destination gets a line of output, which shows nothing of its address. Nothing else is asked or changed.

    \b
    Example:
      INCUMBENT_NOTIFY_FILE=notify.txt incumbent notify-test

    \b
    Exit code:
      0  each destination took the message
      2  wrong usage
      3  refused (no destination is set, or the file cannot be read); the reason is on standard error
      4  a destination did not take it; the reason is on standard error
    """
    with problems():
        from orchestration.adapters.notifier import AppriseNotifier
        from orchestration.promotion.notifying import Message, Tone
        from orchestration.promotion.problems import DependencyError

        destinations = _destinations()
    message = Message("incumbent: a test", "Notifications of promotions arrive here.", Tone.INFO)
    refused = False
    for destination in destinations:
        try:
            AppriseNotifier().send(destination, message)
        except DependencyError as error:
            tell(shown(error))
            refused = True
        else:
            say(f"{destination.name}: taken")
    if refused:
        sys.exit(UNANSWERED)


def _destinations() -> "tuple[Destination, ...]":
    """Read where people are told.

    Raises:
        InvalidInputError: the environment names no destination, or the file cannot be read.
    """
    from orchestration.adapters.notifier import read_destinations
    from orchestration.environment import required, setting

    found = read_destinations(setting("INCUMBENT_NOTIFY_FILE"), setting("INCUMBENT_NOTIFY_URLS"))
    required("INCUMBENT_NOTIFY_FILE or INCUMBENT_NOTIFY_URLS", " ".join(place.name for place in found))
    return found

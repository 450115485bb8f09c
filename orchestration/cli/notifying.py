"""`incumbent notify-test`: whether notifications arrive."""

import sys

import click

from orchestration.cli.run import UNANSWERED, problems, say


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
        from orchestration.promotion.notifying import Message, Tone
        from orchestration.promotion.problems import DependencyError
        from orchestration.resources import notifications_from_environment, required

        notifications = notifications_from_environment().process_config_and_initialize()
        destinations = notifications.destinations()
        required("INCUMBENT_NOTIFY_FILE or INCUMBENT_NOTIFY_URLS", " ".join(place.name for place in destinations))
    message = Message("incumbent: a test", "Notifications of promotions arrive here.", Tone.INFO)
    refused = False
    for destination in destinations:
        try:
            notifications.notifier().send(destination, message)
        except DependencyError as error:
            click.echo(str(error), err=True)
            refused = True
        else:
            say(f"{destination.name}: taken")
    if refused:
        sys.exit(UNANSWERED)

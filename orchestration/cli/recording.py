"""`incumbent record`: what a version's pods must answer after a rollout."""

from pathlib import Path

import click

from orchestration.cli.run import Version, platform_of_environment, problems, say


@click.command(short_help="Record how a running server of a version answers.")
@click.argument("model")
@click.argument("version", type=Version())
@click.option("--url", required=True, metavar="URL", help="The prediction address of a running server of that version.")
@click.option(
    "--requests",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JSON list of request bodies.  [default: the rows of the model's input example]",
)
def record(model: str, version: int, url: str, file: Path | None) -> None:
    """Record how a running server of VERSION of MODEL answers; after a rollout, the new pods must answer the same.

    Each request is sent three times, and fields that differ between the answers, such as times, are left out. The
    recording becomes the artifact incumbent/recorded_requests.json of the version's training run.

    \b
    Examples:
      incumbent record iris-classifier 7 --url http://127.0.0.1:8080/predict
      incumbent record iris-classifier 7 --url http://127.0.0.1:8080/predict --requests requests.json

    \b
    Exit code:
      0  recorded
      2  wrong usage
      3  refused; the reason is on standard error
      4  the server or the registry did not answer
    """
    with problems():
        from orchestration.adapters.service import HttpService
        from orchestration.commands.recording import record_version

        registry = platform_of_environment().registry()
        content = file.read_bytes() if file else None
        say(record_version(registry, HttpService(), model, version, url, content))

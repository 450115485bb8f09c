"""`incumbent record`: what a version's pods must answer after a rollout."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestration.cli.run import Version, platform_of_environment, problems, say

if TYPE_CHECKING:
    from orchestration.commands.recording import Comparing

Margin = tuple[str | None, float]
"""How much numbers may differ, and where; None: everywhere."""


class JsonPath(click.ParamType[str]):
    """A path to values in an answer."""

    name = "path"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the path, or end with a usage error."""
        from orchestration.promotion.json_paths import parse_path

        try:
            parse_path(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return value


class Difference(click.ParamType[Margin]):
    """A number, or a number for one path: `PATH=NUMBER`."""

    name = "difference"

    def convert(self, value: str | Margin, param: click.Parameter | None, ctx: click.Context | None) -> Margin:
        """Return the path, if there is one, and the number, or end with a usage error."""
        if isinstance(value, tuple):
            return value
        path, equals, number = value.rpartition("=")
        try:
            margin = float(number)
        except ValueError:
            margin = math.nan
        if not 0 <= margin < math.inf:
            self.fail(f"expected a number such as 0.001, or one for a path, $.score=0.001, found {value!r}", param, ctx)
        return (JsonPath().convert(path, param, ctx) if equals else None), margin


@click.command(short_help="Record how a running server of a version answers.")
@click.argument("model")
@click.argument("version", type=Version())
@click.option(
    "--url",
    required=True,
    metavar="URL",
    help="A running server of that version; without a path, requests go to that of the protocol.",
)
@click.option(
    "--requests",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JSON list of requests.  [default: the rows of the model's input example]",
)
@click.option(
    "--policy",
    "policy_name",
    metavar="POLICY",
    help="Ask with this policy's protocol, path, headers and timeout.  [default: the only policy of MODEL]",
)
@click.option(
    "--protocol",
    type=click.Choice(["mlflow", "v1", "v2", "features", "json"]),
    help="Ask in this protocol.  [default: that of the policy, or mlflow]",
)
@click.option(
    "--tolerance",
    "relative",
    type=Difference(),
    metavar="[PATH=]NUMBER",
    multiple=True,
    help="By which share of their value numbers may differ.  [default: 0.00001]",
)
@click.option(
    "--absolute-tolerance",
    "absolute",
    type=Difference(),
    metavar="[PATH=]NUMBER",
    multiple=True,
    help="By how much numbers may differ in any case.  [default: 0.000001]",
)
@click.option(
    "--ignore", type=JsonPath(), metavar="PATH", multiple=True, help="Do not compare what is there; may be repeated."
)
def record(
    model: str,
    version: int,
    url: str,
    file: Path | None,
    policy_name: str | None,
    protocol: str | None,
    relative: Sequence[Margin],
    absolute: Sequence[Margin],
    ignore: Sequence[str],
) -> None:
    """Record how a running server of VERSION of MODEL answers; after a rollout, the new pods must answer the same.

    Each request is sent several times. What differs between the answers, such as times, is not compared, and a
    recording that may not compare the prediction is refused. It becomes the artifact incumbent/recorded_requests.json
    of the version's training run.

    Numbers may differ a little, because another CPU computes other last digits. PATH is a JSONPath such as $.score or
    $.outputs[*].id, and stands for what is there and below.

    \b
    Examples:
      incumbent record iris-classifier 7 --url http://127.0.0.1:5000
      incumbent record iris-classifier 7 --url http://127.0.0.1:8080/predict --requests requests.json
      incumbent record iris-classifier 7 --url http://127.0.0.1:8080 --protocol v2 \\
          --tolerance '$.outputs=0.001'

    \b
    Exit code:
      0  recorded
      2  wrong usage
      3  refused; the reason is on standard error
      4  the server or the registry did not answer
    """
    with problems():
        from orchestration.adapters.http import require_url
        from orchestration.adapters.service import HttpService
        from orchestration.commands.recording import choose_asking, record_version

        platform = platform_of_environment()
        address = require_url("--url", url).rstrip("/")
        asking = choose_asking(platform, model, address, policy_name=policy_name, protocol=protocol)  # type: ignore[arg-type] # one of the choices
        content = file.read_bytes() if file else None
        comparing = _comparing(relative, absolute, ignore)
        clock, registry = platform.clock(), platform.registry()
        say(record_version(registry, HttpService(), clock, model, version, asking, content, comparing))


def _comparing(relative: Sequence[Margin], absolute: Sequence[Margin], ignore: Sequence[str]) -> "Comparing":
    """Say of each path what the options say of it, and for the rest what they say of everything."""
    from orchestration.commands.recording import Comparing
    from orchestration.promotion.answer_comparison import ABSOLUTE, RELATIVE, Tolerance

    relatives, absolutes = dict(relative), dict(absolute)
    everywhere = relatives.pop(None, RELATIVE), absolutes.pop(None, ABSOLUTE)
    fields = {
        path: Tolerance(relative=relatives.get(path, everywhere[0]), absolute=absolutes.get(path, everywhere[1]))
        for path in dict.fromkeys((*relatives, *absolutes))
        if path is not None
    }
    return Comparing(Tolerance(relative=everywhere[0], absolute=everywhere[1]), fields, ignore)

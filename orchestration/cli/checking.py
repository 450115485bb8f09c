"""`incumbent check-server`: whether a model server keeps the contract that promotions rely on."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestration.cli.planning import mark
from orchestration.cli.run import problems, say_styled
from orchestration.cli.tables import beside, width

if TYPE_CHECKING:
    from orchestration.commands.checking_server import Report

BROKEN = 1
"""Exit code when the server does not keep the contract."""
_PRESETS = ("bentoml", "fastapi", "incumbent", "istio", "kserve", "mlflow-fastapi", "mlserver", "seldon", "triton")


@click.command(short_help="Hold a model server to what promotions rely on.")
@click.argument("url")
@click.option(
    "--requests",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="A JSON list of requests, or a recording with its answers (incumbent/recorded_requests.json of a run).",
)
@click.option(
    "--protocol",
    type=click.Choice(["mlflow", "v1", "v2", "features", "json"]),
    default="features",
    show_default=True,
    help="How the server is asked.",
)
@click.option("--model", metavar="NAME", help="The model's name in the server's paths, for the protocols v1 and v2.")
@click.option(
    "--metrics",
    "preset",
    type=click.Choice(_PRESETS),
    help="Whose queries its metrics must answer.  [default: incumbent for the protocol features, else none]",
)
@click.option("--metrics-url", metavar="URL", help="Where its metrics are.  [default: the path /metrics of URL]")
def check_server(
    url: str, file: Path, protocol: str, model: str | None, preset: str | None, metrics_url: str | None
) -> None:
    """Hold the model server that runs at URL to the contract that promotions rely on.

    It asks the probes, the metrics, a body that is no JSON, and each of the requests a few times, marked as recorded
    requests are. Below the checks it says which fields of a policy will work. It needs no settings.

    \b
    Examples:
      incumbent check-server http://127.0.0.1:8080 --requests requests.json
      incumbent check-server http://127.0.0.1:8080 --requests requests.json \\
          --protocol v2 --model iris --metrics mlserver --metrics-url http://127.0.0.1:8082/metrics

    \b
    Exit code:
      0  it keeps every line of the contract that could be asked
      1  it does not; the next step is below what failed
      2  wrong usage
      3  the URL or the requests cannot be used
    """
    with problems():
        from orchestration.adapters.clock import SystemClock
        from orchestration.adapters.http import require_url
        from orchestration.adapters.service import HttpService
        from orchestration.commands import checking_server

        server = checking_server.server_at(
            require_url("URL", url),
            protocol,  # type: ignore[arg-type] # one of the choices
            model,
            metrics=require_url("--metrics-url", metrics_url) if metrics_url else None,
            preset=preset or ("incumbent" if protocol == "features" else None),
            content=file.read_bytes(),
        )
        report = checking_server.check_server(HttpService(), SystemClock(), server)
        say_styled("\n".join(_lines(report)))
    sys.exit(0 if report.keeps_the_contract else BROKEN)


def _lines(report: "Report") -> list[str]:
    """Write a line for each check, with what was expected where that was not found, and the next step below."""
    columns, lines = width(), ["The contract"]
    size = max(len(check.name) for check in report.checks)
    for check in report.checks:
        asked = check.outcome not in ("ok", "not asked")
        found = f"expected {check.expected}, found {check.found}" if asked else check.found
        lines += beside(f"  {mark(check.outcome, 9)}  {check.name.ljust(size)}  ", (found, check.next_step), columns)
    lines += ["", "What a policy can use"]
    size = max(len(use.field) for use in report.uses)
    for use in report.uses:
        lines += beside(f"  {mark(use.outcome, 9)}  {use.field.ljust(size)}  ", (use.says,), columns)
    return lines

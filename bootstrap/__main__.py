"""`python -m bootstrap`: what Argo CD cannot keep, because it is no manifest; each command may be repeated.

docs/clusters.md has them in their order.
"""

import argparse
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from bootstrap.kubectl import Kubectl
from bootstrap.mlflow_accounts import make_accounts
from bootstrap.registration import (
    EDGE,
    give_prometheus_its_account,
    register_edge,
    register_repository,
    write_kubeconfig,
)
from bootstrap.secrets import make_secrets
from orchestration.promotion.problems import InvalidInputError, Problem, ProblemError

_GCP = "gcp"


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        for line in options.run(options):
            print(line, flush=True)
    except ProblemError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bootstrap", description=__doc__)
    parser.add_argument("--gcp", default=_GCP, help="kubeconfig context of the control plane (default: %(default)s)")
    parser.add_argument("--edge", default=EDGE, help="kubeconfig context of the models' cluster (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("secrets", help="make the Secrets that the platform needs and Git does not have")
    command.add_argument("--webhook-url", help="whom Alertmanager tells of alerts, such as http://receiver:8080/alerts")
    command.set_defaults(run=_secrets)

    command = commands.add_parser("register", help="tell Argo CD of the repository and of the edge cluster")
    command.add_argument("--repository", required=True, help="the GitOps repository's address, as root.yaml has it")
    command.add_argument("--token-file", type=Path, required=True, help="file with a token that may read it")
    command.add_argument("--edge-server", help="edge's API as gcp reaches it (default: as the kubeconfig does)")
    command.set_defaults(run=_register)

    command = commands.add_parser("accounts", help="hand out the accounts that access-* bring, once they are synced")
    command.add_argument("kubeconfig", type=Path, help="file to be written: the pipeline's kubeconfig")
    command.set_defaults(run=_accounts)

    command = commands.add_parser("mlflow-accounts", help="make MLflow's accounts, with their rights")
    command.add_argument("--url", required=True, help="MLflow, such as http://gcp-control-plane:30500")
    command.add_argument(
        "--model",
        action="append",
        type=_model_and_experiment,
        required=True,
        metavar="MODEL=EXPERIMENT",
        help="a model that is promoted, and the experiment of its runs; may be repeated",
    )
    command.set_defaults(run=_mlflow_accounts)
    return parser


def _secrets(options: argparse.Namespace) -> Iterable[str]:
    return make_secrets(_cluster(options.gcp), options.webhook_url)


def _register(options: argparse.Namespace) -> Iterable[str]:
    gcp, edge = _cluster(options.gcp), _cluster(options.edge)
    register_repository(gcp, options.repository, _read(options.token_file))
    yield f"{options.repository}: registered"
    server = options.edge_server or edge.server()
    register_edge(gcp, edge, server)
    yield f"cluster {EDGE} at {server}: registered"


def _accounts(options: argparse.Namespace) -> Iterable[str]:
    gcp, edge = _cluster(options.gcp), _cluster(options.edge)
    give_prometheus_its_account(gcp, edge)
    yield "Secret monitoring/prometheus-edge: Prometheus's account on edge"
    clusters = {_GCP: gcp, EDGE: edge}
    write_kubeconfig(options.kubeconfig, clusters, {name: one.server() for name, one in clusters.items()})
    yield f"{options.kubeconfig}: the pipeline's contexts {_GCP} and {EDGE}"


def _mlflow_accounts(options: argparse.Namespace) -> Iterable[str]:
    return make_accounts(options.url, _cluster(options.gcp), dict(options.model))


def _model_and_experiment(text: str) -> tuple[str, str]:
    model, _, experiment = text.partition("=")
    if not model or not experiment:
        raise argparse.ArgumentTypeError(f"expected MODEL=EXPERIMENT, found {text!r}")
    return model, experiment


def _cluster(context: str) -> Kubectl:
    found = shutil.which("kubectl")
    if found is None:
        raise InvalidInputError(Problem("program kubectl", "it on PATH", "none", "Install it."))
    return Kubectl(Path(found), None, context)


def _read(file: Path) -> str:
    try:
        content = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InvalidInputError(
            Problem(str(file), "a file with a token", str(error), "Correct --token-file.")
        ) from error
    if not content:
        raise InvalidInputError(Problem(str(file), "a token", "an empty file", "Put the repository's token there."))
    return content


if __name__ == "__main__":
    sys.exit(main())

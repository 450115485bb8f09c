"""Make a fork yours, and set up what Argo CD cannot keep because it is not in a manifest.

Each command may be run again. docs/adopt.md and docs/clusters.md show them in their order. What is yours is in
homelab.yaml, from which the commands take what is not given here.
"""

import argparse
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from bootstrap.adopt_cli import add_commands
from bootstrap.dagster import make_dagster_secrets
from bootstrap.kubectl import Kubectl
from bootstrap.mlflow_accounts import make_accounts
from bootstrap.owner import read_owner
from bootstrap.pull_secrets import make_pull_secrets
from bootstrap.registration import (
    ANALYST,
    EDGE,
    PIPELINE,
    give_prometheus_its_account,
    register_edge,
    register_repository,
    write_kubeconfig,
)
from bootstrap.registry_backup import fetch_backup, restore_backup
from bootstrap.secrets import DISPATCHER_URL, make_secrets
from orchestration.promotion.problems import InvalidInputError, Problem, ProblemError

_GCP = "gcp"


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 refused or failed, with the reason on standard error.

    Args:
        arguments: The command line; None for the process's own.
    """
    options = _parser().parse_args(arguments)
    try:
        for line in options.run(options):
            print(line, flush=True)
    except ProblemError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bootstrap",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Example:\n  python -m bootstrap secrets --github-token-file ~/.github-token\n\n"
        "Exit code:\n  0  done, now or before\n  1  refused or failed; the reason is on standard error\n"
        "  2  wrong usage",
    )
    parser.add_argument("--gcp", help="kubeconfig context of the control plane (default: homelab.yaml's)")
    parser.add_argument("--edge", help="kubeconfig context of the models' cluster (default: homelab.yaml's)")
    commands = parser.add_subparsers(dest="command", required=True)
    add_commands(commands)
    _add_platform(commands)
    _add_registry(commands)
    return parser


def _add_platform(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands that lead to a platform which Argo CD keeps."""
    command = commands.add_parser("secrets", help="make the Secrets that the platform needs and Git must not have")
    command.add_argument(
        "--github-token-file", type=Path, help="file with a token by which alerts start workflows (actions: write)"
    )
    command.add_argument(
        "--webhook-url", default=DISPATCHER_URL, help="where Alertmanager sends alerts (default: %(default)s)"
    )
    command.set_defaults(run=_secrets)

    command = commands.add_parser("register", help="register the repository and the edge cluster with Argo CD")
    command.add_argument("--repository", help="the GitOps repository's address (default: homelab.yaml's)")
    command.add_argument(
        "--token-file",
        type=Path,
        help="file with a token that may read the repository and nothing else, for Argo CD alone; none where the "
        "repository is public",
    )
    command.add_argument("--edge-server", help="edge's API address as gcp reaches it (default: homelab.yaml's)")
    command.set_defaults(run=_register)

    command = commands.add_parser("pull-secret", help="let the nodes pull images from a private registry")
    command.add_argument("--registry", help="the registry (default: homelab.yaml's)")
    command.add_argument("--username", required=True, help="the user whose token it is")
    command.add_argument("--token-file", type=Path, required=True, help="file with a token that may read images")
    command.set_defaults(run=_pull_secret)

    command = commands.add_parser(
        "accounts", help="hand out the accounts that the applications access-* bring, once they are synced"
    )
    command.add_argument("kubeconfig", type=Path, help="file to write the pipeline's kubeconfig to")
    command.set_defaults(run=_accounts)

    command = commands.add_parser(
        "analyst", help="write the kubeconfig of the analysis of alerts, which reads pods, events and logs alone"
    )
    command.add_argument("kubeconfig", type=Path, help="file to write it to")
    command.set_defaults(run=_analyst)

    command = commands.add_parser(
        "dagster", help="make the Secrets of Dagster on Kubernetes; again after one of the logins in them was replaced"
    )
    command.add_argument(
        "--token-file", type=Path, required=True, help="file with the token that the pipeline pushes with"
    )
    command.add_argument("--edge-server", help="edge's API address as gcp reaches it (default: homelab.yaml's)")
    command.add_argument(
        "--postgres-url-file",
        type=Path,
        help="file with the address of a PostgreSQL of your own (default: the manifests')",
    )
    command.set_defaults(run=_dagster)


def _add_registry(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands that are about the model registry."""
    command = commands.add_parser("mlflow-accounts", help="make MLflow's accounts and grant their rights")
    command.add_argument("--url", help="MLflow's address (default: homelab.yaml's)")
    command.add_argument(
        "--model",
        action="append",
        type=_model_and_experiment,
        required=True,
        metavar="MODEL=EXPERIMENT",
        help="a model to be promoted and the experiment of its runs; repeat it for each model",
    )
    command.set_defaults(run=_mlflow_accounts)

    command = commands.add_parser("fetch-backup", help="copy the registry's newest backup off the control plane")
    command.add_argument("folder", type=Path, help="an existing folder of this machine")
    command.add_argument("--keep", type=_count, default=7, help="how many stay in the folder (default: %(default)s)")
    command.set_defaults(run=_fetch_backup)

    command = commands.add_parser(
        "restore-backup", help="put such a copy onto a new control plane, before root is applied"
    )
    command.add_argument("file", type=Path, help="what fetch-backup made, such as 20261126T031700.123456Z.tar")
    command.set_defaults(run=_restore_backup)


def _secrets(options: argparse.Namespace) -> Iterable[str]:
    file = options.github_token_file
    token = None if file is None else _read(file, "--github-token-file")
    return make_secrets(_gcp(options), options.webhook_url, token)


def _register(options: argparse.Namespace) -> Iterable[str]:
    gcp, edge, owner = _gcp(options), _edge(options), read_owner()
    repository, file = options.repository or owner.repository, options.token_file
    register_repository(gcp, repository, None if file is None else _read(file, "--token-file"))
    yield f"{repository}: registered{' without a token, as a public one' if file is None else ''}"
    server = options.edge_server or owner.edge_api
    register_edge(gcp, edge, server)
    yield f"cluster {EDGE} at {server}: registered"


def _pull_secret(options: argparse.Namespace) -> Iterable[str]:
    registry, token = options.registry or read_owner().registry, _read(options.token_file, "--token-file")
    return make_pull_secrets(_gcp(options), _edge(options), registry, options.username, token)


def _accounts(options: argparse.Namespace) -> Iterable[str]:
    gcp, edge = _gcp(options), _edge(options)
    give_prometheus_its_account(gcp, edge)
    yield "Secret monitoring/prometheus-edge: Prometheus's account on edge"
    _write_kubeconfig(options.kubeconfig, gcp, edge, PIPELINE)
    yield f"{options.kubeconfig}: the pipeline's contexts {_GCP} and {EDGE}"


def _analyst(options: argparse.Namespace) -> Iterable[str]:
    _write_kubeconfig(options.kubeconfig, _gcp(options), _edge(options), ANALYST)
    yield f"{options.kubeconfig}: the analyst's contexts {_GCP} and {EDGE}"


def _write_kubeconfig(path: Path, gcp: Kubectl, edge: Kubectl, account: str) -> None:
    clusters = {_GCP: gcp, EDGE: edge}
    write_kubeconfig(path, clusters, {name: cluster.server() for name, cluster in clusters.items()}, account)


def _dagster(options: argparse.Namespace) -> Iterable[str]:
    file = options.postgres_url_file
    return make_dagster_secrets(
        _gcp(options),
        _edge(options),
        _read(options.token_file, "--token-file"),
        options.edge_server or read_owner().edge_api,
        None if file is None else _read(file, "--postgres-url-file"),
    )


def _mlflow_accounts(options: argparse.Namespace) -> Iterable[str]:
    return make_accounts(options.url or read_owner().mlflow_url, _gcp(options), dict(options.model))


def _fetch_backup(options: argparse.Namespace) -> Iterable[str]:
    folder: Path = options.folder
    if not folder.is_dir():
        problem = Problem(str(folder), "an existing folder", "none", "Make it, readable by you alone.")
        raise InvalidInputError(problem)
    return fetch_backup(_gcp(options), folder, options.keep)


def _restore_backup(options: argparse.Namespace) -> Iterable[str]:
    return restore_backup(_gcp(options), options.file)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)


def _model_and_experiment(text: str) -> tuple[str, str]:
    model, _, experiment = text.partition("=")
    if not model or not experiment:
        raise argparse.ArgumentTypeError(f"expected MODEL=EXPERIMENT, found {text!r}")
    return model, experiment


def _gcp(options: argparse.Namespace) -> Kubectl:
    return _cluster(options.gcp or read_owner().control_plane.context)


def _edge(options: argparse.Namespace) -> Kubectl:
    return _cluster(options.edge or read_owner().edge.context)


def _cluster(context: str) -> Kubectl:
    program = shutil.which("kubectl")
    if program is None:
        raise InvalidInputError(Problem("program kubectl", "a program on PATH", "no such program", "Install kubectl."))
    return Kubectl(Path(program), None, context)


def _read(file: Path, option: str) -> str:
    try:
        content = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InvalidInputError(
            Problem(str(file), "a file that can be read", error.strerror or str(error), f"Correct {option}.")
        ) from error
    if not content:
        raise InvalidInputError(Problem(str(file), "a value", "an empty file", f"Write that of {option} into it."))
    return content


if __name__ == "__main__":
    sys.exit(main())

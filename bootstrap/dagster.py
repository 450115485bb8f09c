"""The Secrets of Dagster on Kubernetes: its storage's address and password, and the pipeline's logins.

Copies of logins are written again each time, so that this is run again after one was replaced; the pods that took a
Secret into their environment must then be started again (docs/dagster-on-kubernetes.md).
"""

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from bootstrap.kubectl import Kubectl
from bootstrap.mlflow_accounts import read_login
from bootstrap.objects import namespace, read_secret, secret
from bootstrap.registration import EDGE, kubeconfig_of, require_reachable
from bootstrap.secrets import PIPELINE, Wanted, make_secret
from orchestration.promotion.problems import InvalidInputError, Problem

DAGSTER = "dagster"
"""The namespace in which all of it runs."""
POSTGRESQL = Wanted(DAGSTER, "postgresql", ("password",))
"""The password of the PostgreSQL in `manifests/platform/dagster`, which takes it when its volume is empty."""
STORAGE, MLFLOW_LOGIN, FILES = "dagster-storage", "mlflow-login", "pipeline"
"""The Secrets that pods take into their environment, the first for Dagster's storage, and the one with files."""
KEYS = {
    STORAGE: ("DAGSTER_POSTGRES_URL",),
    MLFLOW_LOGIN: ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
    FILES: ("git-token", "kubeconfig"),
}
_DRIVER = "postgresql+psycopg2"
"""How SQLAlchemy's addresses name the driver that dagster-postgres brings; without it, SQLAlchemy 2.1 wants another."""
_OURS = "postgresql://dagster:{password}@postgresql:5432/dagster"


def make_dagster_secrets(
    gcp: Kubectl, edge: Kubectl, git_token: str, edge_server: str, postgres_url: str | None = None
) -> Iterator[str]:
    """Make the Secrets that the pods of `manifests/platform/dagster` need.

    Args:
        gcp: The cluster that Dagster runs on, with MLflow's Secrets.
        edge: The models' cluster, whose account `incumbent` the pipeline uses.
        git_token: What the pipeline pushes with.
        edge_server: The address of edge's API server as gcp's pods reach it.
        postgres_url: The address of a PostgreSQL of your own, with its login; None for the one of the manifests.

    Yields:
        What was done with each Secret, for a person.

    Raises:
        InvalidInputError: an address cannot be used; that of PostgreSQL is not repeated, because it has a password.
        ProblemError: a cluster refuses, or what is copied is not there yet.
    """
    require_reachable(edge_server)
    if postgres_url is not None:
        _require_postgres(postgres_url)
    gcp.apply([namespace(DAGSTER)])
    if postgres_url is None:
        yield make_secret(gcp, POSTGRESQL)
        password = read_secret(gcp, DAGSTER, POSTGRESQL.name)["password"]
        postgres_url = _OURS.format(password=password)
    login = read_login(gcp, PIPELINE)
    values = {
        STORAGE: (f"{_DRIVER}://{postgres_url.partition('://')[2]}",),
        MLFLOW_LOGIN: (login.username, login.password),
        FILES: (git_token, kubeconfig_of({EDGE: edge}, {EDGE: edge_server})),
    }
    for name, keys in KEYS.items():
        yield _copied(gcp, name, dict(zip(keys, values[name], strict=True)))


def _copied(gcp: Kubectl, name: str, content: Mapping[str, str]) -> str:
    before = read_secret(gcp, DAGSTER, name)
    gcp.apply([secret(name, DAGSTER, content)])
    done = "made" if not before else "as it was" if before.items() >= content.items() else "changed"
    return f"Secret {DAGSTER}/{name}: {done}"


def _require_postgres(url: str) -> None:
    parts = urlsplit(url)
    if (
        parts.scheme not in ("postgresql", _DRIVER)
        or not parts.hostname
        or not parts.username
        or not parts.path.strip("/")
    ):
        raise InvalidInputError(
            Problem(
                "address of PostgreSQL",
                "postgresql://USER:PASSWORD@HOST:5432/DATABASE",
                "another form (not shown, since it may hold a password)",
                "Correct the file of --postgres-url-file.",
            )
        )

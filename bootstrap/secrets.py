"""The Secrets that are not in Git: random values, made once on the cluster and nowhere else.

What is there stays, so that this may be repeated; a value is new when its Secret was deleted before. Nothing is printed
or written to a disk: who needs a value reads it from the cluster (docs/secrets.md).
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from bootstrap.kubectl import Document, Kubectl
from bootstrap.objects import namespace, read_secret, secret
from orchestration.promotion.problems import Problem, ProblemError

_BYTES = 24
"""192 random bits a value."""
_LOGIN = "kubernetes.io/basic-auth"


@dataclass(frozen=True)
class Wanted:
    """A Secret of the control plane: fixed values, and keys that get a random one."""

    namespace: str
    name: str
    random: tuple[str, ...]
    fixed: tuple[tuple[str, str], ...] = ()
    type: str = "Opaque"


def login(place: str, name: str, username: str) -> Wanted:
    """A user name with a random password."""
    return Wanted(place, name, ("password",), (("username", username),), _LOGIN)


MLFLOW = "mlflow"
SERVER = Wanted(MLFLOW, "mlflow-server", ("admin-password", "secret-key"))
PIPELINE = login(MLFLOW, "mlflow-account-incumbent", "incumbent")
TRAINING = login(MLFLOW, "mlflow-account-training", "training")
GRAFANA = Wanted("monitoring", "grafana-admin", ("password", "secret-key"))
WANTED = (SERVER, PIPELINE, TRAINING, GRAFANA)


def make_secrets(gcp: Kubectl) -> Iterator[str]:
    """Make the Secrets that the control plane lacks, and say of each what was done.

    Raises:
        ProblemError: the cluster refuses, or a Secret of that name has other keys.
    """
    gcp.apply([namespace(one) for one in sorted({each.namespace for each in WANTED})])
    for one in WANTED:
        made = gcp.create(_document(one))
        if not made:
            _require_keys(gcp, one)
        yield f"Secret {one.namespace}/{one.name}: {'made' if made else 'there already'}"


def _document(wanted: Wanted) -> Document:
    content = dict(wanted.fixed) | {key: secrets.token_urlsafe(_BYTES) for key in wanted.random}
    return secret(wanted.name, wanted.namespace, content, type_=wanted.type)


def _require_keys(gcp: Kubectl, wanted: Wanted) -> None:
    keys = {*wanted.random, *(key for key, _ in wanted.fixed)}
    found = {key for key, value in read_secret(gcp, wanted.namespace, wanted.name).items() if value}
    if not keys <= found:
        raise ProblemError(
            Problem(
                f"Secret {wanted.namespace}/{wanted.name}",
                f"the keys {', '.join(sorted(keys))}",
                ", ".join(sorted(found)) or "none",
                "Delete it, and run this again; what used its values needs the new ones.",
            )
        )

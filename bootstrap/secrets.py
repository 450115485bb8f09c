"""The Secrets that are not in Git: random values, made once on the cluster and nowhere else.

What is there stays, so that this may be repeated; a value is new when its Secret was deleted before. Nothing is printed
or written to a disk: who needs a value reads it from the cluster (docs/secrets.md).
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from bootstrap.kubectl import Document, Kubectl
from bootstrap.objects import namespace, read_secret, secret
from orchestration.promotion.problems import InvalidInputError, Problem, ProblemError

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
MONITORING = "monitoring"
GRAFANA = Wanted(MONITORING, "grafana-admin", ("password", "secret-key"))
WANTED = (SERVER, PIPELINE, TRAINING, GRAFANA)
WEBHOOK = "alertmanager-webhook"


def webhook(url: str) -> Wanted:
    """Whom Alertmanager tells, with a token by which it is known there.

    Raises:
        InvalidInputError: that is no such address; it is not repeated, because it may hold a password.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise InvalidInputError(
            Problem(
                "address of the webhook",
                "http:// or https:// with a host, without user name and password",
                "another text",
                "Correct --webhook-url; the receiver knows Alertmanager by the token of the Secret.",
            )
        )
    return Wanted(MONITORING, WEBHOOK, ("token",), (("url", url),))


def make_secrets(gcp: Kubectl, webhook_url: str | None = None) -> Iterator[str]:
    """Make the Secrets that the control plane lacks, and say of each what was done.

    Without the address of a webhook, that one's Secret is left to whoever knows it.

    Raises:
        InvalidInputError: the address cannot be a webhook's.
        ProblemError: the cluster refuses, or a Secret of that name has other keys.
    """
    wanted = WANTED if webhook_url is None else (*WANTED, webhook(webhook_url))
    gcp.apply([namespace(one) for one in sorted({each.namespace for each in wanted})])
    for one in wanted:
        made = gcp.create(_document(one))
        if not made:
            _require_keys(gcp, one)
        yield f"Secret {one.namespace}/{one.name}: {'made' if made else 'there already'}"
    if webhook_url is None and not read_secret(gcp, MONITORING, WEBHOOK):
        yield f"Secret {MONITORING}/{WEBHOOK}: missing, and Alertmanager waits for it; give --webhook-url"


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

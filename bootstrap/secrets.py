"""The Secrets that are not in Git: random values, made once on the cluster and nowhere else.

An existing Secret stays as it is, so this may be run again; deleting a Secret first gives it new values. Nothing is
printed or written to disk: a reader that needs a value takes it from the cluster (docs/secrets.md).
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from bootstrap.kubectl import Document, Kubectl
from bootstrap.objects import namespace, read_secret, secret
from orchestration.promotion.problems import InvalidInputError, Problem, ProblemError

_BYTES = 24
"""Random bytes per value: 192 bits."""
_LOGIN = "kubernetes.io/basic-auth"


@dataclass(frozen=True)
class Wanted:
    """A Secret that the control plane needs: keys with fixed values, and keys with random ones."""

    namespace: str
    name: str
    random: tuple[str, ...]
    fixed: tuple[tuple[str, str], ...] = ()
    type: str = "Opaque"


def login(place: str, name: str, username: str) -> Wanted:
    """Return a Secret of a user name with a random password."""
    return Wanted(place, name, ("password",), (("username", username),), _LOGIN)


MLFLOW = "mlflow"
SERVER = Wanted(MLFLOW, "mlflow-server", ("admin-password", "secret-key"))
PIPELINE = login(MLFLOW, "mlflow-account-incumbent", "incumbent")
TRAINING = login(MLFLOW, "mlflow-account-training", "training")
MONITORING = "monitoring"
GRAFANA = Wanted(MONITORING, "grafana-admin", ("password", "secret-key"))
WANTED = (SERVER, PIPELINE, TRAINING, GRAFANA)
WEBHOOK = "alertmanager-webhook"
DISPATCHER_URL = "http://dispatcher:8080/alerts"
"""The Service of `manifests/platform/dispatcher`, in Alertmanager's own namespace."""
GITHUB = "dispatcher-github"


def github(token: str) -> Wanted:
    """Return the Secret with which the dispatcher starts workflows at GitHub."""
    return Wanted(MONITORING, GITHUB, (), (("token", token),))


def webhook(url: str = DISPATCHER_URL) -> Wanted:
    """Return the Secret of the receiver of alerts: its address, and a token by which it recognizes Alertmanager.

    Raises:
        InvalidInputError: the address is not a webhook's; it is not repeated, because it may hold a password.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise InvalidInputError(
            Problem(
                "address of the webhook",
                "http:// or https:// with a host, without user name and password",
                "another address (not shown, since it may hold a password)",
                "Correct --webhook-url; the receiver recognizes Alertmanager by the token in the Secret.",
            )
        )
    return Wanted(MONITORING, WEBHOOK, ("token",), (("url", url),))


def make_secrets(gcp: Kubectl, webhook_url: str = DISPATCHER_URL, github_token: str | None = None) -> Iterator[str]:
    """Make the Secrets that the control plane lacks.

    Args:
        gcp: The control plane.
        webhook_url: Where Alertmanager sends alerts.
        github_token: With it the dispatcher starts workflows; without it, its Secret is not made.

    Yields:
        What was done with each Secret, for a person.

    Raises:
        InvalidInputError: the address is not a webhook's.
        ProblemError: the cluster refuses, or an existing Secret lacks a key.
    """
    wanted = [*WANTED, webhook(webhook_url)]
    if github_token is not None:
        wanted.append(github(github_token))
    gcp.apply([namespace(name) for name in sorted({each.namespace for each in wanted})])
    for each in wanted:
        yield make_secret(gcp, each)
    if github_token is None and not read_secret(gcp, MONITORING, GITHUB):
        missing = "missing, so alerts are kept and start no workflow; run this again with --github-token-file"
        yield f"Secret {MONITORING}/{GITHUB}: {missing}"


def make_secret(gcp: Kubectl, wanted: Wanted) -> str:
    """Make a Secret unless it is there, and say which of the two it was.

    Raises:
        ProblemError: the cluster refuses, or an existing Secret lacks a key.
    """
    made = gcp.create(_document(wanted))
    if not made:
        _require_keys(gcp, wanted)
    return f"Secret {wanted.namespace}/{wanted.name}: {'made' if made else 'exists already'}"


def _document(wanted: Wanted) -> Document:
    content = dict(wanted.fixed) | {key: secrets.token_urlsafe(_BYTES) for key in wanted.random}
    return secret(wanted.name, wanted.namespace, content, type_=wanted.type)


def _require_keys(gcp: Kubectl, wanted: Wanted) -> None:
    keys = {*wanted.random, *(key for key, _ in wanted.fixed)}
    present = {key for key, value in read_secret(gcp, wanted.namespace, wanted.name).items() if value}
    if not keys <= present:
        raise ProblemError(
            Problem(
                f"Secret {wanted.namespace}/{wanted.name}",
                f"the keys {', '.join(sorted(keys))}",
                f"only {', '.join(sorted(present))}" if present else "no keys",
                "Delete the Secret and run this again; then give the new values to whatever used the old ones.",
            )
        )

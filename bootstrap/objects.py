"""Kubernetes objects as plain mappings, and the service accounts whose tokens clusters issue."""

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass

from bootstrap.kubectl import Document, Kubectl
from orchestration.promotion.problems import Problem, ProblemError

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Account:
    """A service account's token, and the CA certificate (PEM) of its cluster."""

    token: str
    ca: str

    @property
    def ca_data(self) -> str:
        """The CA certificate in the form of a kubeconfig."""
        return encoded(self.ca)


def encoded(text: str) -> str:
    """Encode text in Base64, as Secrets and kubeconfigs hold it."""
    return base64.b64encode(text.encode()).decode()


def namespace(name: str) -> Document:
    """Return a Namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def secret(
    name: str, place: str, content: Mapping[str, str], labels: Mapping[str, str] | None = None, type_: str = "Opaque"
) -> Document:
    """Return a Secret of these plain values; `place` is its namespace."""
    metadata = {"name": name, "namespace": place, "labels": dict(labels or {})}
    data = {key: encoded(value) for key, value in content.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": type_, "data": data}


def read_secret(cluster: Kubectl, place: str, name: str) -> dict[str, str]:
    """Return a Secret's plain values; none when there is no such Secret."""
    data = (cluster.read("secret", name, place) or {}).get("data", {})
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def await_account(cluster: Kubectl, place: str, name: str, seconds: float) -> Account:
    """Wait for a token Secret that its cluster has filled, and return the account in it.

    Raises:
        ProblemError: there was none within that many seconds.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            content = read_secret(cluster, place, name)
            found = f"only {', '.join(sorted(content))}" if content else "no such Secret, or an empty one"
        except ProblemError as error:
            content, found = {}, str(error)
        if {"token", "ca.crt"} <= set(content):
            return Account(content["token"], content["ca.crt"])
        if time.monotonic() > deadline:
            raise ProblemError(
                Problem(
                    f"Secret {place}/{name} on {cluster.context}",
                    f"a token and a CA certificate within {seconds:g} s",
                    found,
                    "Check that Argo CD has synced the application access-* that brings it.",
                )
            )
        time.sleep(_POLL_SECONDS)

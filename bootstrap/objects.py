"""Kubernetes objects as plain mappings, and the accounts that clusters fill with tokens."""

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass

from bootstrap.kubectl import Document, Kubectl
from orchestration.promotion.problems import Problem, ProblemError

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Account:
    """A service account's token, and the CA by which its cluster is known."""

    token: str
    ca: str

    @property
    def ca_data(self) -> str:
        """The CA as a kubeconfig has it."""
        return encoded(self.ca)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def namespace(name: str) -> Document:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def secret(
    name: str, place: str, content: Mapping[str, str], labels: Mapping[str, str] | None = None, type_: str = "Opaque"
) -> Document:
    """A Secret of plain values."""
    metadata = {"name": name, "namespace": place, "labels": dict(labels or {})}
    data = {key: encoded(value) for key, value in content.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": type_, "data": data}


def read_secret(cluster: Kubectl, place: str, name: str) -> dict[str, str]:
    """A Secret's plain values; none when it is not there."""
    data = (cluster.read("secret", name, place) or {}).get("data", {})
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def await_account(cluster: Kubectl, place: str, name: str, seconds: float) -> Account:
    """The account of a token Secret, as soon as it is there and its cluster has filled it.

    Raises:
        ProblemError: it did not come within that time.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            content = read_secret(cluster, place, name)
            found = f"a Secret with {', '.join(sorted(content))} alone" if content else "none, or an empty one"
        except ProblemError as error:
            content, found = {}, str(error)
        if {"token", "ca.crt"} <= set(content):
            return Account(content["token"], content["ca.crt"])
        if time.monotonic() > deadline:
            raise ProblemError(
                Problem(
                    f"Secret {place}/{name} on {cluster.context}",
                    f"a token and a CA in it within {seconds:g} s",
                    found,
                    "Look whether Argo CD has synced the application access-* that brings it.",
                )
            )
        time.sleep(_POLL_SECONDS)

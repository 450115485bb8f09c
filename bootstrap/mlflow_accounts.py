"""MLflow's accounts for the pipeline and for training, each with the rights that it needs and no more.

The pipeline reads the experiments and changes their runs (evidence) and the models (tags, aliases). Training owns the
models that it makes, as every account does; the experiments are made here, and training may add runs to them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import httpx2

from bootstrap.kubectl import Kubectl
from bootstrap.objects import read_secret
from bootstrap.secrets import PIPELINE, SERVER, TRAINING, Wanted
from orchestration.promotion.problems import DependencyError, Problem

ADMIN = "admin"
"""The administrator's name, as in `manifests/platform/mlflow/basic_auth.ini`."""
_ABSENT = "RESOURCE_DOES_NOT_EXIST"
_SECONDS = 30.0


@dataclass(frozen=True)
class Login:
    """A user name and a password of MLflow."""

    username: str
    password: str


@dataclass(frozen=True)
class Grant:
    """A permission in MLflow on one object, or on all objects of a kind (`*`)."""

    kind: str
    name: str
    permission: str

    def __str__(self) -> str:
        return f"{self.permission} on {self.kind} {self.name}"


def read_login(gcp: Kubectl, wanted: Wanted) -> Login:
    """Read the user name and password in a Secret.

    Raises:
        DependencyError: there is no such Secret, or it lacks one of them.
    """
    content = read_secret(gcp, wanted.namespace, wanted.name)
    if wanted is SERVER:
        content = {"username": ADMIN, "password": content.get("admin-password", "")}
    if not content.get("username") or not content.get("password"):
        raise DependencyError(
            Problem(
                f"Secret {wanted.namespace}/{wanted.name} on {gcp.context}",
                "a user name and a password",
                "no such Secret, or an incomplete one",
                "Run python -m bootstrap secrets.",
            )
        )
    return Login(content["username"], content["password"])


def make_accounts(url: str, gcp: Kubectl, experiments: Mapping[str, str]) -> Iterator[str]:
    """Make both accounts, or reset their passwords to those in their Secrets, and grant their rights.

    Args:
        url: MLflow's address.
        gcp: The control plane, which has the Secrets.
        experiments: For each model, the name of the experiment of its runs.

    Yields:
        What was done with each account, for a person.

    Raises:
        DependencyError: MLflow does not answer, or refuses; no password is repeated.
    """
    accounts = {wanted: read_login(gcp, wanted) for wanted in (SERVER, PIPELINE, TRAINING)}
    admin = accounts[SERVER]
    with httpx2.Client(base_url=url, auth=(admin.username, admin.password), timeout=_SECONDS) as client:
        numbers = [_experiment(client, name) for name in sorted(set(experiments.values()))]
        for account, grants in (
            (accounts[TRAINING], training_grants(numbers)),
            (accounts[PIPELINE], pipeline_grants(numbers, experiments)),
        ):
            _account(client, account)
            for grant in grants:
                _grant(client, account.username, grant)
            yield f"MLflow account {account.username}: {', '.join(map(str, grants))}"


def pipeline_grants(experiments: Iterable[str], models: Iterable[str]) -> tuple[Grant, ...]:
    """Return what the pipeline needs: its EDIT on runs counts only where it may read the experiment."""
    of_experiments = (Grant("experiment", experiment, "READ") for experiment in experiments)
    of_models = (Grant("registered_model", model, "EDIT") for model in models)
    return (*of_experiments, Grant("run", "*", "EDIT"), *of_models)


def training_grants(experiments: Iterable[str]) -> tuple[Grant, ...]:
    """Return what training needs: adding runs to the experiments."""
    return tuple(Grant("experiment", experiment, "EDIT") for experiment in experiments)


def _experiment(client: httpx2.Client, name: str) -> str:
    existing = _ask(client, "GET", "2.0", "experiments/get-by-name", {"experiment_name": name})
    if existing is not None:
        return str(existing["experiment"]["experiment_id"])
    made = _ask(client, "POST", "2.0", "experiments/create", {"name": name}) or {}
    return str(made["experiment_id"])


def _account(client: httpx2.Client, login: Login) -> None:
    content = {"username": login.username, "password": login.password}
    if _ask(client, "GET", "2.0", "users/get", {"username": login.username}) is None:
        _ask(client, "POST", "2.0", "users/create", content)
    else:
        _ask(client, "PATCH", "2.0", "users/update-password", content)


def _grant(client: httpx2.Client, username: str, grant: Grant) -> None:
    what = {"username": username, "resource_type": grant.kind, "resource_id": grant.name}
    # A grant does not replace another: MLflow refuses the second.
    _ask(client, "POST", "3.0", "users/permissions/revoke", what)
    _ask(client, "POST", "3.0", "users/permissions/grant", {**what, "permission": grant.permission})


def _ask(
    client: httpx2.Client, method: str, version: str, path: str, content: Mapping[str, str]
) -> dict[str, dict[str, str]] | None:
    """Return MLflow's answer; None when what it was asked for does not exist."""
    url = f"/api/{version}/mlflow/{path}"
    try:
        answer = client.get(url, params=content) if method == "GET" else client.request(method, url, json=content)
    except httpx2.HTTPError as error:
        raise _refused(client, path, f"{type(error).__name__}: {error}") from error
    if answer.status_code == 404 and _ABSENT in answer.text:
        return None
    if answer.status_code != 200:
        raise _refused(client, path, f"status {answer.status_code}: {' '.join(answer.text.split())[:300]}")
    return dict(answer.json()) if answer.content else {}


def _refused(client: httpx2.Client, path: str, found: str) -> DependencyError:
    return DependencyError(
        Problem(
            f"MLflow at {client.base_url}",
            f"an answer to its administrator's request {path}",
            found,
            f"Check that MLflow is running there, and that {ADMIN}'s password is still the one in Secret "
            f"{SERVER.namespace}/{SERVER.name}.",
        )
    )

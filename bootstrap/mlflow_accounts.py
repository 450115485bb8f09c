"""MLflow's accounts: those of the pipeline and the training, with what each may do and no more.

The pipeline reads the experiments and changes their runs (evidence) and the models (tags, aliases). The training owns
what it makes, as anybody does who makes a model; of the experiments, which are made here, it may add runs.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import httpx2

from bootstrap.kubectl import Kubectl
from bootstrap.objects import read_secret
from bootstrap.secrets import PIPELINE, SERVER, TRAINING, Wanted
from orchestration.promotion.problems import DependencyError, Problem

ADMIN = "admin"
"""As `manifests/platform/mlflow/basic_auth.ini` names it."""
_ABSENT = "RESOURCE_DOES_NOT_EXIST"
_SECONDS = 30.0


@dataclass(frozen=True)
class Login:
    username: str
    password: str


@dataclass(frozen=True)
class Grant:
    """A permission of MLflow on one object, or on all of a kind (`*`)."""

    kind: str
    name: str
    permission: str

    def __str__(self) -> str:
        return f"{self.permission} on {self.kind} {self.name}"


def read_login(gcp: Kubectl, wanted: Wanted) -> Login:
    """The user name and password of a Secret.

    Raises:
        DependencyError: the Secret is not there.
    """
    content = read_secret(gcp, wanted.namespace, wanted.name)
    if wanted is SERVER:
        content = {"username": ADMIN, "password": content.get("admin-password", "")}
    if not content.get("username") or not content.get("password"):
        raise DependencyError(
            Problem(
                f"Secret {wanted.namespace}/{wanted.name} on {gcp.context}",
                "a user name and a password",
                "none",
                "Make it: python -m bootstrap secrets.",
            )
        )
    return Login(content["username"], content["password"])


def make_accounts(url: str, gcp: Kubectl, experiments: Mapping[str, str]) -> Iterator[str]:
    """Make both accounts, or give them the passwords of their Secrets again, and their rights; say what was done.

    `experiments` has for each model the name of the experiment of its runs.

    Raises:
        DependencyError: MLflow does not answer, or refuses; no password is repeated.
    """
    accounts = {name: read_login(gcp, name) for name in (SERVER, PIPELINE, TRAINING)}
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
    """What the pipeline needs: EDIT of runs counts where it may read the experiment."""
    of_experiments = (Grant("experiment", one, "READ") for one in experiments)
    of_models = (Grant("registered_model", one, "EDIT") for one in models)
    return (*of_experiments, Grant("run", "*", "EDIT"), *of_models)


def training_grants(experiments: Iterable[str]) -> tuple[Grant, ...]:
    return tuple(Grant("experiment", one, "EDIT") for one in experiments)


def _experiment(client: httpx2.Client, name: str) -> str:
    found = _ask(client, "GET", "2.0", "experiments/get-by-name", {"experiment_name": name})
    if found is not None:
        return str(found["experiment"]["experiment_id"])
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
    # A grant is not replaced by another one: MLflow refuses the second.
    _ask(client, "POST", "3.0", "users/permissions/revoke", what)
    _ask(client, "POST", "3.0", "users/permissions/grant", {**what, "permission": grant.permission})


def _ask(
    client: httpx2.Client, method: str, version: str, path: str, content: Mapping[str, str]
) -> dict[str, dict[str, str]] | None:
    """MLflow's answer; None when what it was asked about is not there."""
    url = f"/api/{version}/mlflow/{path}"
    try:
        answer = client.get(url, params=content) if method == "GET" else client.request(method, url, json=content)
    except httpx2.HTTPError as error:
        raise _refused(client, path, f"{type(error).__name__}: {error}") from error
    if answer.status_code == 404 and _ABSENT in answer.text:
        return None
    if answer.status_code != 200:
        raise _refused(client, path, f"{answer.status_code} {' '.join(answer.text.split())[:300]}")
    return dict(answer.json()) if answer.content else {}


def _refused(client: httpx2.Client, path: str, found: str) -> DependencyError:
    return DependencyError(
        Problem(
            f"MLflow at {client.base_url}",
            f"{path} to be answered to its administrator",
            found,
            f"Look whether it runs there, and whether {ADMIN}'s password is still that of Secret mlflow/{SERVER.name}.",
        )
    )

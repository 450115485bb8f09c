"""Setting up two clusters: each command can be run again, reveals no secret, and says what is missing."""

import base64
import json
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

import pytest

from bootstrap import __main__ as program
from bootstrap import objects, registration
from bootstrap.dagster import KEYS, make_dagster_secrets
from bootstrap.mlflow_accounts import Grant
from bootstrap.pull_secrets import make_pull_secrets
from bootstrap.registration import register_edge, register_repository, write_kubeconfig
from bootstrap.secrets import DISPATCHER_URL, WANTED, make_secrets, webhook
from orchestration.promotion.problems import InvalidInputError, ProblemError
from testbeds.common.tools import CHECKOUT
from tests.bootstrap.fake_kubectl import FakeCluster
from tests.platform.crds import documents

DAGSTERS = documents(CHECKOUT / "manifests/platform/access/dagster/dagster.yaml")
HUB = "https://index.docker.io/v1/"


@pytest.fixture
def gcp(tmp_path: Path) -> FakeCluster:
    return FakeCluster(tmp_path, "gcp", "https://gcp-control-plane:6443")


@pytest.fixture
def edge(tmp_path: Path) -> FakeCluster:
    return FakeCluster(tmp_path, "edge")


def values(cluster: FakeCluster) -> dict[str, str]:
    """Return the decoded values of all Secrets, by Secret and key."""
    secrets = {name: content for name, content in cluster.objects().items() if content["kind"] == "Secret"}
    return {
        f"{name} {key}": base64.b64decode(value).decode()
        for name, secret in secrets.items()
        for key, value in secret["data"].items()
    }


def outcomes(lines: Iterable[str]) -> list[str]:
    """Return what was done with each Secret except the webhook's."""
    return [line.rpartition(": ")[2] for line in lines][: len(WANTED)]


def test_secrets_are_made_once(gcp: FakeCluster) -> None:
    """A second run changes nothing; a Secret that was deleted is made again, with another value."""
    assert outcomes(make_secrets(gcp.kubectl)) == ["made"] * len(WANTED)
    before = values(gcp)
    assert outcomes(make_secrets(gcp.kubectl)) == ["exists already"] * len(WANTED)
    assert values(gcp) == before
    gcp.delete("Secret/mlflow/mlflow-account-training")
    list(make_secrets(gcp.kubectl))
    changed = {name for name, value in values(gcp).items() if value != before[name]}
    assert changed == {"Secret/mlflow/mlflow-account-training password"}


def test_secrets_are_strong_and_never_revealed(gcp: FakeCluster, tmp_path: Path) -> None:
    """Each value has 192 random bits and is used once; neither the output nor any file but the cluster's has it."""
    lines = list(make_secrets(gcp.kubectl))
    passwords = [value for name, value in values(gcp).items() if not name.endswith((" username", " url"))]
    assert len(set(passwords)) == len(passwords) == sum(len(wanted.random) for wanted in (*WANTED, webhook()))
    assert all(len(password) >= 32 for password in passwords)
    assert not [password for password in passwords for line in lines if password in line]
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "gcp.json"]
    assert not [password for password in passwords for path in files if password in path.read_text()]


def test_alertmanager_sends_to_the_dispatcher(gcp: FakeCluster) -> None:
    """Without an address of its own, Alertmanager's Secret has the dispatcher's, and a token for both of them."""
    list(make_secrets(gcp.kubectl))
    before = values(gcp)
    assert before["Secret/monitoring/alertmanager-webhook url"] == DISPATCHER_URL
    assert len(before["Secret/monitoring/alertmanager-webhook token"]) >= 32
    gcp.delete("Secret/monitoring/alertmanager-webhook")
    list(make_secrets(gcp.kubectl, "https://elsewhere.example/alerts"))
    assert values(gcp)["Secret/monitoring/alertmanager-webhook url"] == "https://elsewhere.example/alerts"


def test_the_dispatchers_token_is_a_persons_to_give(gcp: FakeCluster) -> None:
    """Without GitHub's token a line says what that means; with it the Secret is made, and nothing shows it."""
    *_, last = make_secrets(gcp.kubectl)
    assert last.endswith("alerts are kept and start no workflow; run this again with --github-token-file")
    lines = list(make_secrets(gcp.kubectl, github_token="a-token-of-github"))
    assert lines[-1] == "Secret monitoring/dispatcher-github: made"
    assert "a-token-of-github" not in "".join(lines)
    assert values(gcp)["Secret/monitoring/dispatcher-github token"] == "a-token-of-github"
    assert "missing" not in "".join(make_secrets(gcp.kubectl))


@pytest.mark.parametrize("url", ["receiver:8080", "ftp://receiver", "https://me:hunter2hunter2@receiver/alerts", ""])
def test_an_invalid_webhook_address_is_refused_and_not_repeated(gcp: FakeCluster, url: str) -> None:
    """The error does not repeat a password in the address, and comes before any Secret is made."""
    with pytest.raises(InvalidInputError, match="--webhook-url") as refusal:
        list(make_secrets(gcp.kubectl, url))
    assert "hunter2" not in str(refusal.value)
    assert gcp.objects() == {}


def test_a_secret_with_other_keys_is_reported(gcp: FakeCluster) -> None:
    """A Secret that was made by hand and lacks a key is an error that names its keys."""
    gcp.kubectl.create(objects.secret("mlflow-server", "mlflow", {"admin-password": "x", "secret-key": ""}))
    with pytest.raises(
        ProblemError,
        match=r"mlflow/mlflow-server: expected the keys admin-password, secret-key, found only admin-password\.",
    ):
        list(make_secrets(gcp.kubectl))


def test_repository_and_edge_are_registered_in_argocd(gcp: FakeCluster, edge: FakeCluster) -> None:
    """Both become Secrets of Argo CD's form; edge's has its name, and the token of the account created there."""
    register_repository(gcp.kubectl, "https://git.example/gitops.git", "push-token")
    register_edge(gcp.kubectl, edge.kubectl, "https://100.64.0.7:6550")
    secrets = values(gcp)
    assert secrets["Secret/argocd/cluster-edge name"] == "edge"
    assert secrets["Secret/argocd/cluster-edge server"] == "https://100.64.0.7:6550"
    config = json.loads(secrets["Secret/argocd/cluster-edge config"])
    assert config["bearerToken"] == "token"
    assert config["tlsClientConfig"] == {"insecure": False, "caData": base64.b64encode(b"ca.crt").decode()}
    assert secrets["Secret/argocd/gitops-repository url"] == "https://git.example/gitops.git"
    labels = {secret["metadata"]["labels"]["argocd.argoproj.io/secret-type"] for secret in secrets_of(gcp)}
    assert labels == {"cluster", "repository"}


def test_a_public_repository_needs_no_token(gcp: FakeCluster) -> None:
    """Without a token, Argo CD gets the repository's address alone, and reads it as anyone may."""
    register_repository(gcp.kubectl, "https://git.example/public.git", None)
    assert {key.rpartition(" ")[2] for key in values(gcp)} == {"type", "url"}


@pytest.mark.parametrize(
    ("registry", "server"),
    [("ghcr.io/acme", "ghcr.io"), ("registry.example.org:5000", "registry.example.org:5000"), ("docker.io", HUB)],
)
def test_nodes_get_a_login_for_private_images(gcp: FakeCluster, edge: FakeCluster, registry: str, server: str) -> None:
    """The service accounts of models and of the dispatcher name a Secret with the login, as a kubelet reads it."""
    lines = list(make_pull_secrets(gcp.kubectl, edge.kubectl, registry, "me", "hunter2hunter2"))
    assert "hunter2" not in "".join(lines)
    for cluster, place, account in ((edge, "ml-apps", "default"), (gcp, "monitoring", "dispatcher")):
        named = cluster.objects()[f"ServiceAccount/{place}/{account}"]["imagePullSecrets"]
        assert named == [{"name": "registry"}]
        assert cluster.objects()[f"Secret/{place}/registry"]["type"] == "kubernetes.io/dockerconfigjson"
        logins = json.loads(values(cluster)[f"Secret/{place}/registry .dockerconfigjson"])["auths"]
        assert base64.b64decode(logins[server]["auth"]) == b"me:hunter2hunter2"


def test_dagster_on_kubernetes_gets_the_login_once_it_is_there(with_logins: FakeCluster, edge: FakeCluster) -> None:
    """Each account of its pods names the Secret; without its namespace none is made."""
    list(make_pull_secrets(with_logins.kubectl, edge.kubectl, "ghcr.io/me", "me", "hunter2hunter2"))
    assert not [name for name in with_logins.objects() if "/dagster/" in name]
    list(make_dagster_secrets(with_logins.kubectl, edge.kubectl, "push-token", EDGE_SERVER))
    list(make_pull_secrets(with_logins.kubectl, edge.kubectl, "ghcr.io/me", "me", "hunter2hunter2"))
    accounts = [each for name, each in with_logins.objects().items() if name.startswith("ServiceAccount/dagster/")]
    assert {account["metadata"]["name"] for account in accounts} == {
        document["metadata"]["name"] for document in DAGSTERS if document["kind"] == "ServiceAccount"
    }
    assert all(account["imagePullSecrets"] == [{"name": "registry"}] for account in accounts)


def secrets_of(cluster: FakeCluster) -> list[dict[str, dict[str, dict[str, str]]]]:
    return [content for content in cluster.objects().values() if content["kind"] == "Secret"]


@pytest.mark.parametrize("server", ["https://0.0.0.0:6550", "https://localhost:6550", "http://100.64.0.7:6550", ""])
def test_an_address_that_only_this_machine_knows_is_refused(gcp: FakeCluster, edge: FakeCluster, server: str) -> None:
    """An address like those in k3d's kubeconfigs, which gcp cannot reach, is refused before anything is changed."""
    with pytest.raises(InvalidInputError, match="--edge-server"):
        register_edge(gcp.kubectl, edge.kubectl, server)
    assert gcp.objects() == edge.objects() == {}


EDGE_SERVER = "https://100.64.0.7:6550"


@pytest.fixture
def with_logins(gcp: FakeCluster, edge: FakeCluster) -> FakeCluster:
    """Provide a control plane that has MLflow's accounts, beside an edge with the pipeline's account."""
    list(make_secrets(gcp.kubectl))
    token = {"token": "token-of-edge", "ca.crt": "authority"}
    edge.kubectl.create(objects.secret("incumbent-token", "incumbent", token))
    return gcp


def test_dagsters_secrets_are_what_its_pods_name(with_logins: FakeCluster, edge: FakeCluster) -> None:
    """The storage's address has the password of its own PostgreSQL; logins are copies, and edge alone needs a file."""
    lines = list(make_dagster_secrets(with_logins.kubectl, edge.kubectl, "push-token", EDGE_SERVER))
    secrets = values(with_logins)
    password = secrets["Secret/dagster/postgresql password"]
    url = secrets["Secret/dagster/dagster-storage DAGSTER_POSTGRES_URL"]
    assert url == f"postgresql+psycopg2://dagster:{password}@postgresql:5432/dagster"
    own = secrets["Secret/mlflow/mlflow-account-incumbent password"]
    assert secrets["Secret/dagster/mlflow-login MLFLOW_TRACKING_PASSWORD"] == own
    assert secrets["Secret/dagster/pipeline git-token"] == "push-token"
    kubeconfig = json.loads(secrets["Secret/dagster/pipeline kubeconfig"])
    assert [context["name"] for context in kubeconfig["contexts"]] == ["edge"]
    assert kubeconfig["users"][0]["user"] == {"token": "token-of-edge"}
    made = {name for name in secrets if name.startswith("Secret/dagster/")}
    assert made == {
        f"Secret/dagster/{name} {key}" for name, keys in {**KEYS, "postgresql": ("password",)}.items() for key in keys
    }
    assert not [value for value in (password, own, "push-token", "token-of-edge") if value in "".join(lines)]


def test_dagsters_logins_are_copied_again_and_its_password_stays(with_logins: FakeCluster, edge: FakeCluster) -> None:
    """After a login was replaced the same command brings the new one, and PostgreSQL's volume keeps its password."""
    arguments = (with_logins.kubectl, edge.kubectl)
    list(make_dagster_secrets(*arguments, "push-token", EDGE_SERVER))
    before = values(with_logins)
    lines = list(make_dagster_secrets(*arguments, "another-token", EDGE_SERVER))
    after = values(with_logins)
    assert {name for name in after if after[name] != before[name]} == {"Secret/dagster/pipeline git-token"}
    assert [line.rpartition(": ")[2] for line in lines] == ["exists already", "as it was", "as it was", "changed"]


def test_a_postgresql_of_ones_own_is_named_by_its_address(with_logins: FakeCluster, edge: FakeCluster) -> None:
    """No password is made for one that nobody runs, and its address names the driver."""
    url = "postgresql://d:hunter2hunter2@db.example:5432/dagster"
    list(make_dagster_secrets(with_logins.kubectl, edge.kubectl, "push-token", EDGE_SERVER, url))
    secrets = values(with_logins)
    assert secrets["Secret/dagster/dagster-storage DAGSTER_POSTGRES_URL"] == url.replace(":", "+psycopg2:", 1)
    assert "Secret/dagster/postgresql password" not in secrets


@pytest.mark.parametrize("url", ["", "db.example", "mysql://d:hunter2@db/dagster", "postgresql://d:hunter2@db"])
def test_another_address_of_postgresql_is_refused_and_not_repeated(
    with_logins: FakeCluster, edge: FakeCluster, url: str
) -> None:
    """Before anything is made, and without the password in it."""
    with pytest.raises(InvalidInputError, match="--postgres-url-file") as refusal:
        list(make_dagster_secrets(with_logins.kubectl, edge.kubectl, "push-token", EDGE_SERVER, url))
    assert "hunter2" not in str(refusal.value)
    assert not [name for name in with_logins.objects() if "dagster" in name]


@pytest.mark.parametrize("account", [registration.PIPELINE, registration.ANALYST])
def test_a_kubeconfig_is_for_its_owner_alone(gcp: FakeCluster, edge: FakeCluster, tmp_path: Path, account: str) -> None:
    """It has both contexts with the account's tokens, and only its owner may read it, even if the file existed."""
    for cluster in (gcp, edge):
        token = objects.secret(f"{account}-token", "incumbent", {}, type_="kubernetes.io/service-account-token")
        cluster.kubectl.apply([token])
    path = tmp_path / "kubeconfig"
    path.touch(mode=0o644)
    clusters = {"gcp": gcp.kubectl, "edge": edge.kubectl}
    write_kubeconfig(path, clusters, {name: cluster.server() for name, cluster in clusters.items()}, account)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    config = json.loads(path.read_text())
    assert [context["name"] for context in config["contexts"]] == ["gcp", "edge"]
    servers = [cluster["cluster"]["server"] for cluster in config["clusters"]]
    assert servers == ["https://gcp-control-plane:6443", "https://100.64.0.7:6550"]
    assert {user["user"]["token"] for user in config["users"]} == {"token"}


def test_a_missing_account_is_reported(gcp: FakeCluster, edge: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """If an account's Secret does not appear in time, the error names it, its cluster and what should create it."""
    monkeypatch.setattr(registration, "_SECONDS", 0.0)
    with pytest.raises(ProblemError, match=r"Secret incumbent/prometheus-token on edge: .* application access-\*"):
        registration.give_prometheus_its_account(gcp.kubectl, edge.kubectl)


def test_the_command_line(
    gcp: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each step prints a line, and a refusal is a line and an exit code of 1, never a traceback."""
    monkeypatch.setattr(shutil, "which", lambda name: str(gcp.program))
    assert program.main(["secrets"]) == 0
    assert "Secret mlflow/mlflow-server: made" in capsys.readouterr().out
    wanted = ["register", "--repository", "https://git.example/gitops.git", "--token-file"]
    assert program.main([*wanted, str(tmp_path / "none")]) == 1
    assert "Correct --token-file" in capsys.readouterr().err
    (tmp_path / "token").write_text("push-token\n")
    assert program.main([*wanted, str(tmp_path / "token"), "--edge-server", "https://100.64.0.7:6550"]) == 0
    assert "push-token" not in capsys.readouterr().out
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert program.main(["secrets"]) == 1
    assert "kubectl" in capsys.readouterr().err


def test_a_model_without_its_experiment_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The accounts need rights on both, so a missing experiment is reported before MLflow is called."""
    with pytest.raises(SystemExit):
        program.main(["mlflow-accounts", "--url", "http://mlflow:5000", "--model", "iris-classifier"])
    assert "expected MODEL=EXPERIMENT, found 'iris-classifier'" in capsys.readouterr().err


def test_a_grant_names_permission_and_object() -> None:
    """The line that a person reads after creating accounts names the permission and the object."""
    assert str(Grant("experiment", "1", "READ")) == "READ on experiment 1"

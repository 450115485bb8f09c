"""One command writes everything that another model needs, and it is what the platform's own models have."""

import shutil
from difflib import unified_diff
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bootstrap import __main__ as program
from bootstrap import adopt_cli
from bootstrap.adopt_cli import check
from bootstrap.new_model import NewModel, scaffold
from bootstrap.owner import CHECKOUT, FILE, read_owner
from orchestration.promotion.alert_rules import alert_rules
from orchestration.promotion.manifest import CurrentImage, read_image
from orchestration.promotion.problems import InvalidInputError
from testbeds.common.state import node_port, read_policies, read_policy
from tests.bootstrap.test_adopt import copy_checkout
from tests.platform.crds import documents

LIKE = next(iter(read_owner().models))
FRAUD = NewModel("fraud", "registry.example.org/acme/fraud:1.4.0", "fraud-detection", LIKE)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that a test may write into."""
    return copy_checkout(tmp_path)


@pytest.fixture(scope="module")
def with_fraud(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a third model. No test changes it."""
    root = copy_checkout(tmp_path_factory.mktemp("checkout"))
    list(scaffold(root, FRAUD))
    return root


def load(path: Path) -> dict[str, Any]:
    return dict(YAML(typ="safe").load(path))


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_it_has_what_the_other_model_has(with_fraud: Path) -> None:
    """Its objects are the other's with its own name, image and port, and nothing of the other is left in them."""
    folder = with_fraud / "manifests/applications"
    port = f"nodePort: {node_port(read_policy(with_fraud / 'policies', f'{LIKE}-edge'))}"
    assert {path.name for path in (folder / "fraud").iterdir()} == {path.name for path in (folder / LIKE).iterdir()}
    for path in (folder / "fraud").iterdir():
        new, old = (each.read_text(encoding="utf-8") for each in (path, folder / LIKE / path.name))
        assert LIKE not in new
        changed = {line.strip() for line in old.splitlines()} - {line.strip() for line in new.splitlines()}
        assert all(LIKE in line or line == port or line.startswith("image: ") for line in changed), changed


def test_its_policy_is_valid_and_fits_its_manifest(with_fraud: Path) -> None:
    """The policy promotes the registered model into its own Deployment, from its own repository of images."""
    policy = read_policy(with_fraud / "policies", "fraud-edge")
    assert (policy.model, policy.images.repository) == ("fraud-detection", "registry.example.org/acme/fraud")
    assert (policy.manifest.name, policy.argocd.application) == ("fraud", "fraud")
    image = read_image((with_fraud / policy.manifest.path).read_bytes(), policy)
    assert isinstance(image, CurrentImage)
    assert image.value == FRAUD.image
    (service,) = documents(with_fraud / "manifests/applications/fraud/service.yaml")
    assert service["spec"]["ports"][0]["nodePort"] == node_port(policy)


def test_no_two_models_share_a_port(with_fraud: Path) -> None:
    """It takes the first free NodePort, which edge publishes and Prometheus asks."""
    everything = [each for path in (with_fraud / "manifests").rglob("*.yaml") for each in documents(path)]
    services = [each["spec"] for each in everything if each.get("kind") == "Service"]
    ports = [port["nodePort"] for spec in services for port in spec["ports"] if "nodePort" in port]
    assert len(set(ports)) == len(ports)
    policies = read_policies(with_fraud / "policies")
    published = [
        each["port"].rpartition(":")[2] for each in load(with_fraud / "testbeds/homelab/k3d/edge.yaml")["ports"]
    ]
    assert sorted(published) == sorted(str(node_port(policy)) for policy in policies)
    jobs = load(with_fraud / "manifests/platform/monitoring/config/scrape-models.yml")["scrape_configs"]
    (job,) = [job for job in jobs if job["job_name"] == "edge-services"]
    asked = {entry["labels"]["app"]: entry["targets"] for entry in job["static_configs"]}
    assert asked == {policy.manifest.name: [f"edge:{node_port(policy)}"] for policy in policies}


def test_argocd_deploys_it(with_fraud: Path) -> None:
    """Root lists its Application, whose project allows each of its objects in its cluster and namespace."""
    apps = with_fraud / "argocd-apps"
    assert "fraud-app.yaml" in load(apps / "kustomization.yaml")["resources"]
    (application,) = documents(apps / "fraud-app.yaml")
    spec = application["spec"]
    assert (application["metadata"]["name"], spec["source"]["path"]) == ("fraud", "manifests/applications/fraud")
    projects = {each["metadata"]["name"]: each["spec"] for each in documents(apps / "projects.yaml")}
    project = projects[spec["project"]]
    assert spec["destination"] in project["destinations"]
    assert spec["source"]["repoURL"] in project["sourceRepos"]
    allowed = {(each["group"], each["kind"]) for each in project["namespaceResourceWhitelist"]}
    for path in (with_fraud / spec["source"]["path"]).iterdir():
        for document in documents(path):
            assert (document["apiVersion"].rpartition("/")[0], document["kind"]) in allowed
            assert document["metadata"]["namespace"] == spec["destination"]["namespace"]


def test_the_pipeline_may_refresh_its_application(with_fraud: Path) -> None:
    """The pipeline's rights name the Application of each policy, the new one included, in a pod and outside."""
    access = with_fraud / "manifests/platform/access"
    rights = [*documents(access / "control-plane/incumbent.yaml"), *documents(access / "dagster/dagster.yaml")]
    roles = [each for each in rights if each["kind"] == "Role" and each["metadata"]["namespace"] == "argocd"]
    applications = sorted({policy.argocd.application for policy in read_policies(with_fraud / "policies")})
    assert "fraud" in applications
    assert [sorted(role["rules"][0]["resourceNames"]) for role in roles] == [applications] * 3


def test_dagster_on_kubernetes_reads_its_policy(with_fraud: Path) -> None:
    """The list of the ConfigMap names each policy, the new one included."""
    (generator,) = load(with_fraud / "policies/Kustomization")["configMapGenerator"]
    assert sorted(generator["files"]) == sorted(path.name for path in (with_fraud / "policies").glob("*.yaml"))
    assert "fraud-edge.yaml" in generator["files"]


def test_its_alerts_are_written(with_fraud: Path) -> None:
    """The file of alerts is what `incumbent rules` prints for the policies, the new one included."""
    text = (with_fraud / "manifests/platform/monitoring/rules/slos.yml").read_text(encoding="utf-8")
    assert text == alert_rules(read_policies(with_fraud / "policies"))
    assert "policy: fraud-edge" in text


def test_it_follows_the_settings(with_fraud: Path) -> None:
    """Its places are in homelab.yaml and agree with it, so that another owner's values reach them."""
    assert list(check(with_fraud)) == [f"Everything agrees with {FILE}."]
    owner = read_owner(with_fraud)
    assert owner.image("fraud") == "registry.example.org/acme/fraud"
    assert list(owner.models) == [*read_owner().models, "fraud"]


def test_what_is_there_stays(with_fraud: Path) -> None:
    """Of the files that were there, only lists grow: no line of them is gone."""
    after = contents(with_fraud)
    before = {file: (CHECKOUT / file).read_bytes() for file in after if (CHECKOUT / file).exists()}
    for file in before.keys() - {"manifests/platform/monitoring/rules/slos.yml"}:
        old, new = (each[file].decode().splitlines() for each in (before, after))
        assert not [line for line in unified_diff(old, new, n=0) if line.startswith("-") and line != "--- \n"], file
    assert {file for file in after if before.get(file) != after[file]} == {
        FILE,
        "argocd-apps/fraud-app.yaml",
        "argocd-apps/kustomization.yaml",
        *(
            f"manifests/applications/fraud/{name}.yaml"
            for name in ("autoscaler", "deployment", "disruption", "service")
        ),
        "manifests/platform/access/control-plane/incumbent.yaml",
        "manifests/platform/access/dagster/dagster.yaml",
        "manifests/platform/monitoring/config/scrape-models.yml",
        "manifests/platform/monitoring/rules/slos.yml",
        "policies/Kustomization",
        "policies/fraud-edge.yaml",
        "testbeds/homelab/k3d/edge.yaml",
    }


def test_a_model_can_be_made_like_a_new_one(checkout: Path) -> None:
    """What was scaffolded is a source for the next model, with the owner's registry left out where it is theirs."""
    owner = read_owner(checkout)
    list(scaffold(checkout, FRAUD))
    list(scaffold(checkout, NewModel("fraud-2", f"{owner.registry}/two@sha256:{'a' * 64}", "fraud-detection", "fraud")))
    assert read_owner(checkout).models["fraud-2"] == "two"
    ports = [node_port(policy) for policy in read_policies(checkout / "policies")]
    assert len(set(ports)) == len(ports) == 4
    assert "fraud\n" not in (checkout / "manifests/applications/fraud-2/service.yaml").read_text(encoding="utf-8")
    assert list(check(checkout)) == [f"Everything agrees with {FILE}."]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"name": LIKE},
            f"expected no model of that name, so that nothing is overwritten, found manifests/applications/{LIKE}",
        ),
        ({"name": "Fraud"}, "expected lower-case letters"),
        ({"name": "../../etc"}, "expected lower-case letters"),
        ({"image": "registry.example.org/acme/fraud"}, "--image: expected the image that serves first"),
        ({"image": "fraud:1"}, "--image: expected the image that serves first"),
        ({"like": "none"}, f"--like: expected a model of {FILE}: {LIKE}"),
    ],
)
def test_what_cannot_be_scaffolded_is_refused(checkout: Path, changed: dict[str, str], said: str) -> None:
    """A taken or wrong name, an image without version, and an unknown model are refused, and nothing is written."""
    before = contents(checkout)
    wanted = {"name": FRAUD.name, "image": FRAUD.image, "registered_model": "fraud", "like": LIKE, **changed}
    with pytest.raises(InvalidInputError) as refusal:
        list(scaffold(checkout, NewModel(**wanted)))
    assert said in str(refusal.value)
    assert contents(checkout) == before


def test_every_name_that_is_taken_counts(checkout: Path) -> None:
    """A policy, an Application or a line of homelab.yaml alone keeps its name, too."""
    shutil.copy(checkout / f"policies/{LIKE}-edge.yaml", checkout / "policies/fraud-edge.yaml")
    with pytest.raises(InvalidInputError, match=r"found policies/fraud-edge\.yaml"):
        list(scaffold(checkout, FRAUD))
    (checkout / "policies/fraud-edge.yaml").rename(checkout / "argocd-apps/fraud-app.yaml")
    with pytest.raises(InvalidInputError, match=r"found argocd-apps/fraud-app\.yaml"):
        list(scaffold(checkout, FRAUD))


def test_the_command_line(checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what it wrote and what is left to do; a second run is refused with a line and exit code 1."""
    monkeypatch.setattr(adopt_cli, "CHECKOUT", checkout)
    assert program.main(["new-model", "fraud", "--image", FRAUD.image]) == 0
    said = capsys.readouterr().out
    assert "policies/fraud-edge.yaml: written" in said
    assert "mlflow-accounts --model fraud=EXPERIMENT" in said
    assert program.main(["new-model", "fraud", "--image", FRAUD.image]) == 1
    assert "Choose another name" in capsys.readouterr().err

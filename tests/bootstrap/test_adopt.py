"""One file says what is an owner's own, and every other place follows from it."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from bootstrap import __main__ as program
from bootstrap import adopt_cli
from bootstrap.adopt import adopt, changes, files, with_settings
from bootstrap.adopt_cli import SETTINGS, ask_for_the_rest, check, origin
from bootstrap.owner import CHECKOUT, FILE, Owner, parse_owner, read_owner
from bootstrap.places import follow, places
from orchestration.dispatcher.configuration import parse_configuration
from orchestration.promotion.manifest import CurrentImage, read_image
from orchestration.promotion.policy import parse_policy
from orchestration.promotion.problems import InvalidInputError
from orchestration.promotion.yaml_text import flatten, read_stream
from tests.platform.crds import documents

OURS = read_owner()
THEIRS = {
    "repository": "https://git.example.org/acme/serving.git",
    "branch": "production",
    "registry": "registry.example.org:5000/acme",
    "images.companion": "companion",
    "images.pipeline": "pipeline",
    "models.iris-classifier": "iris",
    "models.wine-quality": "elsewhere.example.org/wine",
    "control_plane.host": "plane",
    "control_plane.address": "100.64.0.1",
    "edge.address": "100.64.0.2",
    "storage.class": "fast",
    "storage.mlflow": "7Gi",
    "storage.dagster": "9Gi",
}
FOLDERS = ("argocd-apps", "manifests", "policies", "testbeds/homelab/k3d", "testbeds/homelab/policies")


def copy_checkout(root: Path) -> Path:
    """Copy what can follow from the settings, with all that is beside it."""
    for file in {FILE, *files(CHECKOUT, places(OURS))}:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / file, root / file)
    for folder in FOLDERS:
        shutil.copytree(CHECKOUT / folder, root / folder, dirs_exist_ok=True)
    return root


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that a test may write into."""
    return copy_checkout(tmp_path)


@pytest.fixture
def only_settings(tmp_path: Path) -> Path:
    """A checkout of which no other file is read."""
    shutil.copy(CHECKOUT / FILE, tmp_path / FILE)
    return tmp_path


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout that another owner has made theirs, with another port of edge's API. No test changes it."""
    root = copy_checkout(tmp_path_factory.mktemp("theirs"))
    text = (root / FILE).read_text(encoding="utf-8")
    (root / FILE).write_text(text.replace(f"api_port: {OURS.edge.api_port}", "api_port: 7443"), encoding="utf-8")
    list(adopt(root, THEIRS))
    return root


def lines(root: Path) -> Iterator[tuple[str, str]]:
    """Yield every line of a checkout's folders that follow from the settings, with its file."""
    for path in (path for folder in (*FOLDERS, "docs", ".github/workflows") for path in (root / folder).rglob("*")):
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                yield path.relative_to(root).as_posix(), line


def named(value: str, line: str) -> bool:
    """Whether a line has a value as a word of its own: an owner may be called `cp`, and `tcp` is then no trace."""
    return re.search(rf"(?<![\w-]){re.escape(value)}(?![\w-])", line) is not None


def scalars(path: Path) -> Iterator[str]:
    for document in read_stream(path.read_bytes()).documents:
        yield from (entry[3] for entry in flatten(document.root)[0] if entry[0] == "scalar")


def test_the_checkout_agrees_with_its_settings() -> None:
    """Each place of the checkout has what its homelab.yaml says."""
    assert list(check(CHECKOUT)) == [f"Everything agrees with {FILE}."]


def test_each_place_exists() -> None:
    """No line of the table is about something that is gone: with another value, each would change a file."""
    for place in places(OURS):
        matching = [file for file in files(CHECKOUT, [place]) if fnmatchcase(file, place.files)]
        found = [
            follow(file, (CHECKOUT / file).read_bytes(), [replace(place, value="other.example")]) for file in matching
        ]
        assert [difference for _, differences in found for difference in differences], place


def test_nothing_of_an_owner_is_left(theirs: Path) -> None:
    """With another owner's settings, no file has an old name or address, in comments or not."""
    owner, name = OURS.github_repository.split("/")
    old = (owner, name, OURS.registry, OURS.control_plane.address, OURS.edge.address, str(OURS.edge.api_port))
    left = [(file, line) for file, line in lines(theirs) for value in old if named(value, line)]
    assert left == []
    hosts = [(file, line) for file, line in lines(theirs) if named(OURS.control_plane.host, line)]
    assert [(file, line) for file, line in hosts if not file.startswith((".github", "docs"))] == []  # commands, prose


def test_neither_the_branch_nor_the_storage_class_is_left(theirs: Path) -> None:
    """No value in the YAML files is the old branch or storage class, and no claim leaves its class to the cluster."""
    yaml = [path for folder in (*FOLDERS, ".github/workflows") for path in (theirs / folder).rglob("*.y*ml")]
    values = {value for path in yaml for value in scalars(path)}
    assert not {OURS.branch, OURS.storage.storage_class} & values
    everything = [document for path in (theirs / "manifests").rglob("*.yaml") for document in documents(path)]
    claims = [each["spec"] for each in everything if each.get("kind") == "PersistentVolumeClaim"]
    assert {claim["storageClassName"] for claim in claims} == {"fast"}
    assert "7Gi" in {claim["resources"]["requests"]["storage"] for claim in claims}


def test_argocd_reads_the_new_repository_and_branch(theirs: Path) -> None:
    """Every Application and project names the one repository, and every Application its branch: the models' or not."""
    everything = [document for path in (theirs / "argocd-apps").glob("*.yaml") for document in documents(path)]
    sources = [each["spec"]["source"] for each in everything if each["kind"] == "Application"]
    projects = [each["spec"]["sourceRepos"] for each in everything if each["kind"] == "AppProject"]
    assert {(source["repoURL"], source["targetRevision"]) for source in sources} == {
        (THEIRS["repository"], THEIRS["branch"]),
        (THEIRS["repository"], "models"),
    }
    assert projects == [[THEIRS["repository"]]] * len(projects)
    assert len(sources) > 8


def test_the_models_may_be_in_a_repository_of_their_own(theirs: Path, tmp_path: Path) -> None:
    """Their Applications and projects name it, and its branch, and nothing else does; the pipeline pushes to it."""
    checkout = shutil.copytree(theirs, tmp_path / "checkout", symlinks=True)
    text = (checkout / FILE).read_text(encoding="utf-8")
    own = "serving:\n  branch: live\n  repository: https://git.example.org/acme/models.git\n"
    assert text.count("serving:\n  branch: models\n") == 1
    (checkout / FILE).write_text(text.replace("serving:\n  branch: models\n", own), encoding="utf-8")
    list(adopt(checkout, {}))
    everything = [document for path in (checkout / "argocd-apps").glob("*.yaml") for document in documents(path)]
    for document in (each for each in everything if each["kind"] in ("AppProject", "Application")):
        spec, name = document["spec"], document["metadata"]["name"]
        is_model = (spec.get("project") or name) in ("models", "kserve")
        repository = "https://git.example.org/acme/models.git" if is_model else THEIRS["repository"]
        if document["kind"] == "AppProject":
            assert spec["sourceRepos"] == [repository], name
        else:
            source = spec["source"]
            branch = "live" if is_model else THEIRS["branch"]
            assert (source["repoURL"], source["targetRevision"]) == (repository, branch), name
    assert "INCUMBENT_GIT_BRANCH: live\n" in (checkout / ".github/workflows/promote.yml").read_text(encoding="utf-8")
    on_kubernetes = (checkout / "manifests/platform/dagster/config/settings.env").read_text(encoding="utf-8")
    assert "INCUMBENT_GIT_URL=https://git.example.org/acme/models.git\nINCUMBENT_GIT_BRANCH=live\n" in on_kubernetes


def test_the_models_branch_is_not_the_one_that_has_rights() -> None:
    """One branch for both would make the pipeline's token an administrator's."""
    text = (CHECKOUT / FILE).read_text(encoding="utf-8").replace("  branch: models\n", "  branch: main\n")
    with pytest.raises(InvalidInputError, match=r"serving\.branch: expected another branch"):
        parse_owner(text)


def test_policies_manifests_and_monitoring_agree(theirs: Path) -> None:
    """Policies are valid and fit their manifests, whose versions stay; alerts start the fork's workflows."""
    owner = read_owner(theirs)
    for path in (*(theirs / "policies").glob("*.yaml"), *(theirs / "testbeds/homelab/policies").glob("*.yaml")):
        policy = parse_policy(path.stem, path.read_text(encoding="utf-8"))
        image = read_image((theirs / policy.manifest.path).read_bytes(), policy)
        before = read_image((CHECKOUT / policy.manifest.path).read_bytes(), policy)
        assert isinstance(image, CurrentImage)
        assert isinstance(before, CurrentImage)
        assert policy.images.repository == owner.image(policy.model)
        version = before.value.rpartition(":")[2]
        assert image.value == f"{policy.images.repository}:{version}"
        assert policy.service.url.startswith("http://100.64.0.2:")
    dispatcher = parse_configuration(
        "dispatcher.yml", (theirs / "manifests/platform/dispatcher/config/dispatcher.yml").read_text(encoding="utf-8")
    )
    assert (dispatcher.repository, dispatcher.ref) == ("acme/serving", "production")
    rules = (theirs / "manifests/platform/monitoring/config/prometheus.yml").read_text(encoding="utf-8")
    assert "runbooks: https://git.example.org/acme/serving/blob/production/docs/runbooks.md\n" in rules


def test_only_values_change(theirs: Path) -> None:
    """Comments, order and all else of every file stay: a line differs only where a value of the settings stood."""
    for file in files(CHECKOUT, places(OURS)):
        before, after = ((root / file).read_text(encoding="utf-8").splitlines() for root in (CHECKOUT, theirs))
        assert len(before) == len(after), file
        changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
        assert all(old.partition("#")[2] == new.partition("#")[2] for old, new in changed), file


def test_running_it_twice_changes_nothing(theirs: Path) -> None:
    """The second run finds everything as it should be, and so does --check."""
    before = {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()}
    assert list(adopt(theirs, THEIRS)) == [f"Everything agrees with {FILE} already."]
    assert {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()} == before
    assert list(check(theirs)) == [f"Everything agrees with {FILE}."]


def test_a_dry_run_writes_nothing(checkout: Path) -> None:
    """It names the files that would be written, and they stay as they are."""
    said = list(adopt(checkout, {"branch": "production"}, write_it=False))
    assert f"{FILE}: would be written" in said
    assert "argocd-apps/platform-apps.yaml: would be written (3 places)" in said
    assert changes(checkout, OURS) == []


def test_a_difference_is_named_with_its_place(checkout: Path) -> None:
    """The check names file, line, what stands there and what should, and ends with the command that mends it."""
    root = checkout / "argocd-apps/root.yaml"
    text = root.read_text(encoding="utf-8")
    root.write_text(text.replace(f"targetRevision: {OURS.branch}", "targetRevision: stale"), encoding="utf-8")
    line = next(number for number, each in enumerate(text.splitlines(), 1) if "targetRevision" in each)
    with pytest.raises(InvalidInputError) as refusal:
        list(check(checkout))
    said = f"argocd-apps/root.yaml, line {line}: the branch is stale, and {FILE} says {OURS.branch}\n"
    assert said in str(refusal.value)
    assert "1 place that differs" in str(refusal.value)
    assert "Run `python -m bootstrap init`." in str(refusal.value)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (
            "argocd-apps/root.yaml",
            r"repoURL: .*",
            "repoURL: git@github.com:me/x.git",
            r"line 10: expected a place for the rep",
        ),
        ("argocd-apps/root.yaml", r"    repoURL: .*\n", "", r"nothing at spec\.source\.repoURL"),
        ("policies/wine-quality-edge.yaml", r"url: http", "url: unix", r"a place for edge's address"),
        ("manifests/platform/mlflow/mlflow.yaml", r"--allowed-hosts=\S+", "--dev", r"nothing at .*args"),
        ("docs/clusters.md", r"--tls-san=\S+ --tls-san", "--tls-san", r"no text of the form"),
    ],
)
def test_what_is_not_recognised_is_not_overwritten(checkout: Path, file: str, old: str, new: str, said: str) -> None:
    """A place that looks otherwise is refused with its file, and then no other file is written either."""
    path = checkout / file
    text, count = re.subn(old, new, path.read_text(encoding="utf-8"), count=1)
    assert count == 1
    path.write_text(text, encoding="utf-8")
    before = {each: each.read_bytes() for each in checkout.rglob("*") if each.is_file()}
    with pytest.raises(InvalidInputError, match=said) as refusal:
        list(adopt(checkout, THEIRS))
    assert str(refusal.value).startswith(file)
    assert {each: each.read_bytes() for each in checkout.rglob("*") if each.is_file()} == before


def test_an_application_of_something_else_keeps_its_address(checkout: Path) -> None:
    """An Application of a chart, and a policy of another cluster, are nobody's place."""
    root = (checkout / "argocd-apps/root.yaml").read_text(encoding="utf-8")
    chart = root.replace("path: argocd-apps", "chart: grafana").replace(OURS.repository, "https://charts.example.org")
    (checkout / "argocd-apps/chart-app.yaml").write_text(chart, encoding="utf-8")
    policy = (checkout / "policies/wine-quality-edge.yaml").read_text(encoding="utf-8")
    other = policy.replace("cluster: edge", "cluster: cloud").replace(OURS.edge.address, "wine.example.org")
    (checkout / "policies/wine-quality-cloud.yaml").write_text(other, encoding="utf-8")
    list(adopt(checkout, {"edge.address": "100.64.0.2", "branch": "production"}))
    assert (checkout / "argocd-apps/chart-app.yaml").read_text(encoding="utf-8") == chart
    assert (checkout / "policies/wine-quality-cloud.yaml").read_text(encoding="utf-8") == other


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("repository", "https://me:hunter2hunter2@github.com/me/x.git", "without a user or password"),
        ("repository", "git@github.com:me/x.git", "expected https:// or http://"),
        ("repository", "https://github.com", "address of a Git repository"),
        ("repository", "https://github.com/me/x.git?ref=main", "no query"),
        ("repository", "https://git.example.org/x.git", "github.repository: expected owner/name"),
        ("branch", "a..b", "branch: expected a branch's name"),
        ("branch", "--upload-pack=x", "branch: expected a branch's name"),
        ("registry", "ghcr.io/You", "registry: expected a registry"),
        ("registry", "you", "registry: expected a registry"),
        ("models.iris-classifier", "iris:v1", "models.iris-classifier: expected a repository's name without tag"),
        ("edge.address", "100.64.0", "edge.address: expected an IPv4 address"),
        ("edge.address", "127.0.0.1", "that the other cluster can reach"),
        ("control_plane.address", "edge.example.org", "control_plane.address: expected an IPv4 address"),
        ("control_plane.host", "plane:30500", "control_plane.host: expected a host name"),
        ("storage.class", "Fast Disk", "storage.class: expected a host name"),
        ("storage.mlflow", "five", "storage.mlflow: expected a size such as 5Gi"),
    ],
)
def test_wrong_settings_are_refused(only_settings: Path, path: str, value: str, said: str) -> None:
    """Each wrong value is named with its path, and nothing is written; a password is not repeated."""
    before = (only_settings / FILE).read_bytes()
    with pytest.raises(InvalidInputError) as refusal:
        list(adopt(only_settings, {path: value}))
    assert said in str(refusal.value)
    assert "hunter2" not in str(refusal.value)
    assert (only_settings / FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("repositry: x\n", "repositry: there is no such field"),
        ("branch: main\n", "repository: this field is missing"),
        ("- a list\n", "not a YAML mapping"),
        ("branch: [\n", "YAML that cannot be read"),
    ],
)
def test_a_file_that_says_something_else_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """Unknown and missing settings, and what is no mapping, are named."""
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=re.escape(said)):
        read_owner(tmp_path)
    (tmp_path / FILE).unlink()
    with pytest.raises(InvalidInputError, match=r"git checkout homelab\.yaml"):
        read_owner(tmp_path)


@pytest.mark.parametrize("branch", ["1.10", "true", "env@prod", "release/2026-11", "@feature"])
def test_a_branch_is_text_for_yaml(branch: str) -> None:
    """A branch that YAML would read as a number or a truth value is written in quotes, and is read as it was given."""
    content = with_settings((CHECKOUT / FILE).read_bytes(), {"branch": branch})
    assert parse_owner(content.decode("utf-8")).branch == branch
    owner = parse_owner(content.decode("utf-8"))
    after, _ = follow("argocd-apps/root.yaml", (CHECKOUT / "argocd-apps/root.yaml").read_bytes(), places(owner))
    assert branch in [entry[3] for entry in flatten(read_stream(after).documents[0].root)[0] if entry[0] == "scalar"]


def test_what_follows_can_be_stated_instead() -> None:
    """The page of the runbooks, MLflow's address, its further names and the repository at GitHub may be one's own."""
    text = (CHECKOUT / FILE).read_text(encoding="utf-8")
    text += "runbooks: https://wiki.example.org/runbooks\n"
    text += "mlflow: {url: https://mlflow.example.org, allowed_hosts: [mlflow]}\ngithub: {repository: acme/workflows}\n"
    owner: Owner = parse_owner(text)
    assert owner.runbooks_page == "https://wiki.example.org/runbooks"
    assert owner.mlflow_url == "https://mlflow.example.org"
    assert owner.allowed_hosts.startswith("mlflow.example.org,mlflow,mlflow.mlflow.svc:5000,")
    assert owner.github_repository == "acme/workflows"


def test_a_person_is_asked_for_what_is_not_given(only_settings: Path) -> None:
    """What is given is not asked, an empty answer takes what is proposed, and a wrong one is asked again."""
    answers = {"branch": ["a..b", "production"], "edge.address": ["100.64.0.2"]}
    questions = {setting.question: setting.path for setting in SETTINGS}
    asked: list[str] = []
    told: list[str] = []

    def ask(text: str) -> str:
        asked.append(questions[text.rpartition(" [")[0]])
        return (answers.get(asked[-1]) or [""]).pop(0)

    values = ask_for_the_rest(only_settings, {"registry": "ghcr.io/you"}, ask, told.append)
    wanted = [setting.path for setting in SETTINGS if setting.path != "registry"]
    assert [path for number, path in enumerate(asked) if asked.index(path) == number] == wanted
    assert asked.count("branch") == 2
    assert "branch: expected a branch's name" in told[0]
    assert (values["branch"], values["edge.address"], values["registry"]) == ("production", "100.64.0.2", "ghcr.io/you")
    assert values["repository"] == OURS.repository


@pytest.mark.parametrize(
    ("cloned", "proposed"),
    [
        ("git@github.com:you/your-fork.git", "https://github.com/you/your-fork.git"),
        ("ssh://git@github.com/you/your-fork.git", "https://github.com/you/your-fork.git"),
        ("https://github.com/you/your-fork.git", "https://github.com/you/your-fork.git"),
        ("https://token@github.com/you/your-fork.git", None),
        ("/srv/git/your-fork.git", None),
        (None, None),
    ],
)
def test_the_clones_own_address_is_proposed(tmp_path: Path, cloned: str | None, proposed: str | None) -> None:
    """Whoever cloned their fork need not type its address; one with a token in it is not shown."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    if cloned is not None:
        subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", cloned], check=True)
    assert origin(tmp_path) == proposed


def test_the_command_line(checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Flags are written without a question where nobody can answer; a difference and a wrong value end with 1."""
    monkeypatch.setattr(adopt_cli, "CHECKOUT", checkout)
    assert program.main(["init", "--check"]) == 0
    assert program.main(["init", "--branch", "production", "--dry-run"]) == 0
    assert program.main(["init", "--branch", "a..b"]) == 1
    assert "branch: expected a branch's name" in capsys.readouterr().err
    assert program.main(["init", "--branch", "production"]) == 0
    assert "commit and push to production of" in capsys.readouterr().out
    (checkout / "argocd-apps/root.yaml").write_bytes((CHECKOUT / "argocd-apps/root.yaml").read_bytes())
    assert program.main(["init", "--check"]) == 1
    assert "argocd-apps/root.yaml, line " in capsys.readouterr().err
    assert program.main(["init", "--check", "--branch", "x"]) == 1

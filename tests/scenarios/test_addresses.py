"""One image that serves all versions, and chooses its model by `MODEL_URI` from the sandbox's real MLflow.

It plays on the second model, so that what the other stories promote stays as it is.
"""

import copy
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbeds.common.processes import wait_until
from testbeds.common.state import SECOND_POLICY
from testbeds.sandbox.environment import SandboxEnvironment
from testbeds.sandbox.images import publish_image
from testbeds.story.environment import Environment
from testbeds.story.look import Git, branch
from testbeds.story.pushing import commit_and_push
from testbeds.story.seen import Commit
from testbeds.story.stories import END_SECONDS, registry
from tests.scenarios.people import Ci, answer, decide, history_from_git

pytestmark = [pytest.mark.scenarios, pytest.mark.timeout(8 * END_SECONDS)]


@pytest.fixture
def by_address(sandbox: SandboxEnvironment) -> Iterator[SandboxEnvironment]:
    """Provide the second model, deployed by a person as version 1 with an image for all versions, and its policy."""
    wine = copy.copy(sandbox)
    file = Path(sandbox.settings()["INCUMBENT_POLICIES"]) / f"{SECOND_POLICY}.yaml"
    before = file.read_text(encoding="utf-8")
    (image_line,) = (line for line in before.splitlines() if line.startswith("image: "))
    (model_line,) = (line for line in before.splitlines() if line.startswith("model: "))
    wine.policy, wine.model = SECOND_POLICY, model_line.removeprefix("model: ")
    wine.manifest = f"manifests/applications/{wine.model}/deployment.yaml"
    publish_image(sandbox.sandbox.registry_url, "acme/any-version", "1", {})
    manifest = change_manifest(wine, lambda text: with_address(text, f"models:/{wine.model}/1"))
    replace(file, before.replace(image_line, "deploys: model_uri"))
    yield wine
    for alias in (wine.challenger_alias, wine.champion_alias):
        registry(wine).delete_registered_model_alias(wine.model, alias)
    change_manifest(wine, lambda _: manifest)
    replace(file, before)


def replace(file: Path, content: str) -> None:
    """Write a file in one step, because a run may read it at any time."""
    written = file.with_suffix(".new")
    written.write_text(content, encoding="utf-8")
    written.replace(file)


def change_manifest(wine: SandboxEnvironment, change: Callable[[str], str]) -> str:
    """Commit a change of the manifest as a person, and return what it was before."""
    with tempfile.TemporaryDirectory() as folder:
        git = Git(wine, Path(folder))
        file = git.folder / wine.manifest
        before = file.read_text(encoding="utf-8")
        file.write_text(change(before), encoding="utf-8")
        commit_and_push(git, "Serve all versions with one image")
    wine.refresh()
    return before


def with_address(manifest: str, address: str) -> str:
    """The manifest with the image for all versions, and the address of the model in a variable."""
    (image,) = (line for line in manifest.splitlines() if line.strip().startswith("image: "))
    indent = image[: image.index("image: ")]
    variable = f"{indent}env:\n{indent}  - name: MODEL_URI # which version\n{indent}    value: {address}"
    return manifest.replace(image, f"{indent}image: ghcr.io/acme/any-version:1").replace(f"{indent}env:", variable)


def register_broken(wine: Environment, of: int) -> int:
    """Register a version whose model cannot be loaded: its MLmodel names a file that is not there."""
    client = registry(wine)
    original = client.get_model_version(wine.model, str(of))
    with tempfile.TemporaryDirectory() as folder:
        model_id = original.source.removeprefix("models:/")
        location = client.get_logged_model(model_id).artifact_location
        from mlflow.artifacts import download_artifacts

        file = download_artifacts(f"{location}/MLmodel", dst_path=folder, tracking_uri=wine.mlflow_url)
        client.log_artifact(original.run_id, file, "broken")
    source = f"{client.get_run(original.run_id).info.artifact_uri}/broken"
    return int(client.create_model_version(wine.model, source, run_id=original.run_id).version)


def promote(wine: SandboxEnvironment, version: int, home: Path) -> str:
    """Promote a version as CI does, which needs no daemon, and return the state in which it ended."""
    ci = Ci(wine, home)
    assert ci.register(version) == 0
    ci.materialize(version).wait(3 * END_SECONDS)
    tags = registry(wine).get_model_version(wine.model, str(version)).tags
    state, reason = (str(tags.get(f"incumbent.{wine.policy}.{name}", "")) for name in ("state", "reason"))
    print(f"version {version}: {state} ({reason})")
    return state


def address_at_head(wine: SandboxEnvironment) -> str:
    with tempfile.TemporaryDirectory() as folder:
        text = (Git(wine, Path(folder)).folder / wine.manifest).read_text(encoding="utf-8")
    return text.partition("MODEL_URI # which version\n")[2].partition("value: ")[2].partition("\n")[0]


def changed(commit: Commit) -> tuple[str, str]:
    """The one line that a commit changed, before and after."""
    (change,) = commit.changes
    return (change.removed or "").strip(), (change.added or "").strip()


def test_versions_are_promoted_taken_back_and_returned_to_by_their_address(
    by_address: SandboxEnvironment, tmp_path: Path
) -> None:
    """One image loads each version from MLflow: one is promoted, a broken one taken back, and one returned to."""
    wine, model = by_address, by_address.model
    first, second = f"models:/{model}/1", f"models:/{model}/2"

    def is_adopted() -> bool:  # it is refused until version 1 serves, and its pods have been scraped
        return answer(wine, "adopt", wine.policy, "1", "--by", "ana@localhost", "--reason", "it serves")[0] == 0

    wait_until(is_adopted, END_SECONDS, "version 1 is adopted by its address")
    assert promote(wine, 2, tmp_path / "home") == "champion"
    promoted = branch(wine)[-1]
    assert promoted.trailers["Model-Address"] == second
    assert changed(promoted) == (f"value: {first}", f"value: {second}")
    assert address_at_head(wine) == second
    code, said = answer(wine, "verify", wine.policy, "2")
    assert (code, "have that address" in said) == (0, True)

    broken = register_broken(wine, 2)
    assert promote(wine, broken, tmp_path / "home") == "rolled_back"
    back = branch(wine)[-1]
    assert (back.trailers["Model-Address"], back.trailers["Verdict"]) == (second, "Failed")
    assert changed(back) == (f"value: models:/{model}/{broken}", f"value: {second}")
    assert address_at_head(wine) == second
    assert registry(wine).get_model_version_by_alias(model, "champion").version == "2"

    assert "version 1 serves again" in decide(wine, "rollback", wine.policy)
    assert address_at_head(wine) == first
    told = history_from_git(wine, tmp_path / "empty")
    assert [(reign["version"], reign["image"]) for reign in told["reigns"]][:3] == [(1, first), (2, second), (1, first)]

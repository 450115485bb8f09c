"""The content of the homelab's GitOps repository, as far as it can be checked without a homelab."""

import shutil
from difflib import unified_diff
from pathlib import Path

import pytest

from bootstrap.adopt import write
from bootstrap.owner import read_owner
from orchestration.promotion.problems import ProblemError
from testbeds.common.state import read_policies
from testbeds.common.tools import CHECKOUT
from testbeds.homelab import gitops, settings


def lines_of(folder: Path) -> dict[str, list[str]]:
    """Return the lines of every file, by its path."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8").splitlines() for path in files}


def test_only_the_listed_lines_are_the_homelabs_own(tmp_path: Path) -> None:
    """In the homelab, Argo CD applies what `init` writes for its owner, except for the listed differences."""
    gitops.write_content(tmp_path / "homelab")
    for top in ("manifests", "argocd-apps"):
        shutil.copytree(CHECKOUT / top, tmp_path / "followed" / top)
    write(tmp_path / "followed", settings.OWNER)
    homelab, followed = lines_of(tmp_path / "homelab"), lines_of(tmp_path / "followed")
    assert homelab.keys() == followed.keys()
    new = [
        line
        for name in homelab
        for line in list(unified_diff(followed[name], homelab[name], n=0))[2:]
        if line.startswith("+")
    ]
    listed = [
        line
        for difference in gitops.differences()
        for line in difference.in_homelab.splitlines()
        if line not in difference.in_checkout.splitlines()
    ]
    assert len(new) == len(listed)
    assert not [text for text in listed if not any(text in line for line in new)]


def test_nothing_of_the_checkouts_owner_is_in_the_homelab(tmp_path: Path) -> None:
    """Neither the content nor the policies nor k3d's files name the checkout's owner, wherever the homelab is."""
    ours = read_owner()
    theirs = settings.OWNER.model_copy(
        update={
            "control_plane": settings.OWNER.control_plane.model_copy(update={"address": "10.20.30.40"}),
            "edge": settings.OWNER.edge.model_copy(update={"address": "10.20.30.40"}),
        }
    )
    gitops.write_content(tmp_path / "content", theirs)
    gitops.write_policies(tmp_path / "policies")
    content = "\n".join(line for lines in lines_of(tmp_path / "content").values() for line in lines)
    k3d = "".join(gitops.followed(f"testbeds/homelab/k3d/{name}.yaml") for name in settings.CLUSTERS)
    policies = "\n".join(line for lines in lines_of(tmp_path / "policies").values() for line in lines)
    for value in (*ours.github_repository.split("/"), ours.registry, ours.control_plane.address):
        assert value not in f"{content}{policies}{k3d}"
    # What the homelab's own services are called comes from this process's settings.
    assert settings.ADDRESS not in content.replace(gitops.URL, "").replace(settings.GITHUB_URL, "").replace(
        settings.RECEIVER_URL, ""
    ).replace(settings.REGISTRY_URL, "").replace(f"{settings.ADDRESS}:{settings.MLFLOW_PORT}", "")
    assert "targetRevision: main" not in content


def test_a_difference_whose_text_is_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a rewritten manifest lacks the text of a difference, the error names the file and the text."""
    lost = gitops.Difference("argocd-apps/root.yaml", "no such text", "anything")
    monkeypatch.setattr(gitops, "differences", lambda owner: (lost,))
    with pytest.raises(ProblemError, match=r"argocd-apps/root.yaml: expected 'no such text' once, found 0 times"):
        gitops.write_content(tmp_path / "content")


def test_the_manifests_run_the_images_of_the_settings(tmp_path: Path) -> None:
    """The manifests run exactly the images that the settings name for building, pulling and pinning."""
    gitops.write_content(tmp_path / "content")
    gitops.write_policies(tmp_path / "policies")
    lines = [line.strip() for file_lines in lines_of(tmp_path / "content").values() for line in file_lines]
    images = {line.split()[1] for line in lines if line.startswith("image: ")}
    repositories = {policy.images.repository for policy in read_policies(tmp_path / "policies")}
    models = {image for image in images if image.rpartition(":")[0] in repositories}
    assert images - models == {
        settings.MLFLOW_IMAGE,
        settings.PROMETHEUS_IMAGE,
        settings.ALERTMANAGER_IMAGE,
        settings.KUBE_STATE_METRICS_IMAGE,
        settings.GRAFANA_IMAGE,
        settings.COMPANION_IMAGE,
        settings.PIPELINE_IMAGE,
        settings.POSTGRES_IMAGE,
    }
    assert len(models) == len(repositories) == 2

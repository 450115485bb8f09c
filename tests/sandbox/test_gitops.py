"""The content of the homelab's GitOps repository, as far as it can be checked without a homelab."""

import shutil
from difflib import unified_diff
from pathlib import Path

import pytest

from orchestration.promotion.problems import ProblemError
from testbeds.common.state import read_policies, render_policies
from testbeds.common.tools import CHECKOUT
from testbeds.homelab import gitops, settings

_POLICIES = CHECKOUT / "testbeds/homelab/policies"


def lines_of(folder: Path) -> dict[str, list[str]]:
    """Return the lines of every file, by its path."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8").splitlines() for path in files}


def test_the_content_differs_from_the_checkout_in_the_listed_lines(tmp_path: Path) -> None:
    """In the homelab, Argo CD applies what the checkout contains, except for the listed differences."""
    gitops.write_content(tmp_path / "homelab")
    for top in ("manifests", "argocd-apps"):
        shutil.copytree(CHECKOUT / top, tmp_path / "checkout" / top)
    homelab, checkout = lines_of(tmp_path / "homelab"), lines_of(tmp_path / "checkout")
    assert homelab.keys() == checkout.keys()
    new = [
        line
        for name in homelab
        for line in list(unified_diff(checkout[name], homelab[name], n=0))[2:]
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


def test_another_address_replaces_the_default_everywhere(tmp_path: Path) -> None:
    """With another address, the default one occurs neither in the content nor in the policies."""
    address = "10.20.30.40"
    gitops.write_content(tmp_path / "content", address)
    render_policies(_POLICIES, tmp_path / "content" / "policies", lambda port: f"http://{address}:{port}")
    text = "\n".join(line for lines in lines_of(tmp_path / "content").values() for line in lines)
    assert address in text
    # The repository's own address comes from this process's settings, which still have the default.
    assert settings.DEFAULT_ADDRESS not in text.replace(gitops.URL, "")


def test_a_difference_whose_text_is_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a rewritten manifest lacks the text of a difference, the error names the file and the text."""
    lost = gitops.Difference("argocd-apps/root.yaml", "no such text", "anything")
    monkeypatch.setattr(gitops, "differences", lambda address: (lost,))
    with pytest.raises(ProblemError, match=r"argocd-apps/root.yaml: expected 'no such text' once, found 0 times"):
        gitops.write_content(tmp_path / "content")


def test_the_manifests_run_the_images_of_the_settings() -> None:
    """The manifests run exactly the images that the settings name for building, pulling and pinning."""
    lines = [line.strip() for file_lines in lines_of(CHECKOUT / "manifests").values() for line in file_lines]
    images = {line.split()[1] for line in lines if line.startswith("image: ")}
    repositories = {policy.images.repository for policy in read_policies(CHECKOUT / "policies")}
    models = {image for image in images if image.rpartition(":")[0] in repositories}
    assert images - models == {
        settings.MLFLOW_IMAGE,
        settings.PROMETHEUS_IMAGE,
        settings.ALERTMANAGER_IMAGE,
        settings.KUBE_STATE_METRICS_IMAGE,
        settings.GRAFANA_IMAGE,
        settings.COMPANION_IMAGE,
    }
    assert len(models) == len(repositories) == 2

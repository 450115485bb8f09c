"""What the homelab's GitOps repository holds, as far as that shows without a homelab."""

import shutil
from pathlib import Path

import pytest

from orchestration.promotion.problems import ProblemError
from testbeds.common.state import read_policies, render_policies
from testbeds.common.tools import CHECKOUT
from testbeds.homelab import gitops, settings

_POLICIES = CHECKOUT / "testbeds/homelab/policies"


def lines_of(folder: Path) -> dict[str, list[str]]:
    """Every file's lines, by its path."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8").splitlines() for path in files}


def test_it_differs_from_the_checkout_in_few_lines(tmp_path: Path) -> None:
    """What Argo CD applies in the homelab is what the checkout has, but for the differences that are listed."""
    gitops.write_content(tmp_path / "here")
    for top in ("manifests", "argocd-apps"):
        shutil.copytree(CHECKOUT / top, tmp_path / "ours" / top)
    here, ours = lines_of(tmp_path / "here"), lines_of(tmp_path / "ours")
    assert here.keys() == ours.keys()
    changed = [line for name in here for line, was in zip(here[name], ours[name], strict=True) if line != was]
    assert len(changed) == sum(difference.in_checkout.count("\n") + 1 for difference in gitops.differences())


def test_another_address_moves_everything(tmp_path: Path) -> None:
    """With HOMELAB_ADDRESS the default address stands nowhere in the content, nor in the policies."""
    address = "10.20.30.40"
    gitops.write_content(tmp_path / "content", address)
    render_policies(_POLICIES, tmp_path / "content" / "policies", lambda port: f"http://{address}:{port}")
    text = "\n".join(line for lines in lines_of(tmp_path / "content").values() for line in lines)
    assert address in text
    # The repository's own address comes from the settings, which this process has as they are.
    assert settings.DEFAULT_ADDRESS not in text.replace(gitops.URL, "")


def test_a_difference_without_a_place_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest that was rewritten does not lose its difference silently: file, text and what to correct are named."""
    lost = gitops.Difference("argocd-apps/root.yaml", "no such text", "anything")
    monkeypatch.setattr(gitops, "differences", lambda address: (lost,))
    with pytest.raises(ProblemError, match=r"argocd-apps/root.yaml: expected 'no such text' once, found 0 times"):
        gitops.write_content(tmp_path / "content")


def test_the_images_are_those_that_the_settings_name() -> None:
    """What is built, pulled early and pinned is what the manifests run."""
    lines = [line.strip() for one in lines_of(CHECKOUT / "manifests").values() for line in one]
    images = {line.split()[1] for line in lines if line.startswith("image: ")}
    repositories = {policy.image.repository for policy in read_policies(CHECKOUT / "policies")}
    models = {one for one in images if one.rpartition(":")[0] in repositories}
    assert images - models == {
        settings.MLFLOW_IMAGE,
        settings.PROMETHEUS_IMAGE,
        settings.ALERTMANAGER_IMAGE,
        settings.KUBE_STATE_METRICS_IMAGE,
        settings.GRAFANA_IMAGE,
    }
    assert len(models) == len(repositories) == 2

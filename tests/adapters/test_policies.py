"""The folder of policies: which files are policies, and what is said of the others."""

import os
from pathlib import Path

import pytest

from orchestration.adapters.policies import PolicyFolder
from orchestration.promotion.policy import parse_policy
from orchestration.promotion.problems import InvalidInputError
from tests.fakes.world import POLICY_TEXT


def write(folder: Path, *paths: str, text: str = POLICY_TEXT) -> PolicyFolder:
    for path in paths:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return PolicyFolder(folder)


def test_policies_end_with_yaml_or_yml_and_may_be_in_subfolders(tmp_path: Path) -> None:
    """A policy is named after its file alone, so that moving it to another subfolder does not rename it."""
    folder = write(tmp_path, "iris-edge.yaml", "wine/wine-edge.yml", "wine/cloud/wine-cloud.yaml")
    assert folder.names() == ("iris-edge", "wine-cloud", "wine-edge")
    assert [folder.policy(name).name for name in folder.names()] == ["iris-edge", "wine-cloud", "wine-edge"]
    (tmp_path / "wine/wine-edge.yml").rename(tmp_path / "wine-edge.yaml")
    assert folder.policy("wine-edge").name == "wine-edge"
    assert folder.ignored() == ()


def test_what_is_no_policy_is_listed(tmp_path: Path) -> None:
    """Other files and hidden ones, whole hidden folders, and endings in capital letters."""
    folder = write(tmp_path, "a.yaml", "README.md", ".b.yaml", ".git/config", "old/c.yaml.orig", "old/d.YAML")
    assert folder.names() == ("a",)
    assert folder.ignored() == (".b.yaml", ".git", "README.md", "old/c.yaml.orig", "old/d.YAML")


@pytest.mark.parametrize("name", ["Kustomization", "kustomization.yaml", "kustomization.yml"])
def test_what_makes_a_config_map_of_policies_is_no_policy(tmp_path: Path, name: str) -> None:
    """Kustomize reads a file of that name in the folder itself; nobody is told of it, because it belongs there."""
    (tmp_path / "iris-edge.yaml").write_text("model: iris")
    (tmp_path / name).write_text("configMapGenerator: []")
    folder = PolicyFolder(tmp_path)
    assert (folder.names(), folder.ignored()) == (("iris-edge",), ())


@pytest.mark.parametrize("other", ["a.yml", "sub/a.yaml", "sub/a.yml"])
def test_two_files_of_one_name_are_an_error_that_names_both(tmp_path: Path, other: str) -> None:
    """Neither is taken, because nobody can tell which of them is meant; other policies are read all the same."""
    folder = write(tmp_path, "a.yaml", other, "b.yaml")
    assert folder.names() == ("a", "b")
    with pytest.raises(InvalidInputError, match=f"found a.yaml and {other}|found {other} and a.yaml") as raised:
        folder.policy("a")
    assert "expected one file of that name" in str(raised.value)
    assert folder.policy("b").name == "b"
    (tmp_path / other).unlink()
    assert folder.policy("a").name == "a"


def test_a_mounted_config_map_is_read_once(tmp_path: Path) -> None:
    """Kubernetes keeps its files in a hidden folder of its own, and links each one, or its folder, from there."""
    write(tmp_path, "..2026_01_01/a.yaml", "..2026_01_01/sub/b.yaml")
    (tmp_path / "..data").symlink_to("..2026_01_01")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    (tmp_path / "sub").symlink_to("..data/sub")
    folder = PolicyFolder(tmp_path)
    assert (folder.names(), folder.ignored()) == (("a", "b"), ())


def test_a_link_to_a_folder_above_is_not_followed_for_ever(tmp_path: Path) -> None:
    """Each folder is entered once."""
    folder = write(tmp_path, "sub/a.yaml")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    assert folder.names() == ("a",)
    assert folder.policy("a").name == "a"


def test_a_policy_is_read_as_it_is_now(tmp_path: Path) -> None:
    """Nothing of it is remembered from before it was changed or removed, or was not there."""
    folder = write(tmp_path, "a.yaml")
    assert folder.policy("a").model == "iris"
    write(tmp_path, "a.yaml", "b.yaml", text=POLICY_TEXT.replace("model: iris", "model: wine"))
    assert [folder.policy(name).model for name in ("a", "b")] == ["wine", "wine"]
    (tmp_path / "a.yaml").unlink()
    with pytest.raises(InvalidInputError, match="found only the policies b"):
        folder.policy("a")


def test_the_folder_is_listed_once_for_all_policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After their names were asked for, policies are read without listing again, and the unchanged are not parsed."""
    folder = write(tmp_path, *(f"p{number}.yaml" for number in range(100)))
    names = folder.names()
    for name in names:
        folder.policy(name)
    parsed = parse_policy.cache_info().misses
    monkeypatch.setattr(os, "scandir", None)
    for name in names:
        folder.policy(name)
    assert parse_policy.cache_info().misses == parsed

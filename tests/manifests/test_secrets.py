"""No secret lies in Git: not in a manifest, not in a script, not in a test's leftovers."""

import re
import subprocess
from pathlib import Path

import pytest

from testbeds.common.tools import CHECKOUT
from tests.platform.programs import content

_ANYWHERE = {
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{20}",
    "AWS key": r"\bAKIA[0-9A-Z]{16}\b",
    "GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36}\b|\bgithub_pat_[A-Za-z0-9_]{40}",
    "GitLab token": r"\bglpat-[A-Za-z0-9_-]{20}\b",
    "Google key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "Slack token": r"\bxox[abprs]-[0-9A-Za-z-]{10}",
    "Tailscale key": r"\btskey-[a-z]+-[A-Za-z0-9]{8}",
    "JSON web token": r"\beyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\.",
}
_IN_SETTINGS = {
    "password in an address": r"://[^/\s:@{}$]+:[^/\s:@{}$]+@",
    "value of a secret": (
        r"(?i)\b[\w.-]*(?:password|passwd|secret|token|api[_-]?key)\"?\s*[:=]\s*[\"']?[A-Za-z0-9+/_-]{6,}[\"']?\s*$"
    ),
}
"""Only where nobody tests with made-up ones."""
_SETTINGS = (".yaml", ".yml", ".ini", ".json", ".toml", ".env", ".sh")


def tracked() -> list[Path]:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    return [CHECKOUT / name for name in names.split("\0") if name]


def found_in(text: str, patterns: dict[str, str]) -> list[str]:
    return [f"{what}: {match[0][:12]}..." for what, one in patterns.items() for match in re.finditer(one, text, re.M)]


def test_nothing_that_looks_like_a_secret_is_tracked() -> None:
    """Every file of the repository is searched; settings and manifests for passwords of any form, too."""
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        patterns = dict(_ANYWHERE)
        if path.suffix in _SETTINGS and "tests" not in path.relative_to(CHECKOUT).parts:
            patterns |= _IN_SETTINGS
        found += [f"{path.relative_to(CHECKOUT)}: {one}" for one in found_in(text, patterns)]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "password: hunter22",
        'admin_password = "correct-horse"',
        "MLFLOW_TRACKING_PASSWORD=correct-horse",
        "  GF_SECURITY_ADMIN_PASSWORD: adminadmin",
        "url: https://me:hunter22@git.example/x.git",
        "token: " + "ghp_" + 36 * "a",
    ],
)
def test_the_search_finds_what_people_leave(text: str) -> None:
    """The patterns are no empty ones."""
    assert found_in(text, _ANYWHERE | _IN_SETTINGS)


def manifests() -> list[dict[str, object]]:
    folders = {path.parent for top in ("manifests", "argocd-apps") for path in (CHECKOUT / top).rglob("*.yaml")}
    return [one for folder in sorted(folders) for one in content(folder)]


@pytest.mark.platform
def test_secrets_in_git_are_empty() -> None:
    """A Secret in Git is one that the cluster fills: the token of an account."""
    secrets = [one for one in manifests() if one["kind"] == "Secret"]
    assert {one["type"] for one in secrets} == {"kubernetes.io/service-account-token"}
    assert not [one for one in secrets if {"data", "stringData"} & set(one)]

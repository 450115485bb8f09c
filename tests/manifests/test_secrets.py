"""Git contains no secret: neither in manifests nor in scripts nor in what tests leave behind."""

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
"""Patterns for settings only, because tests contain made-up passwords."""
_SETTINGS = (".yaml", ".yml", ".ini", ".json", ".toml", ".env", ".sh")


def tracked() -> list[Path]:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    return [CHECKOUT / name for name in names.split("\0") if name]


def secrets_in(text: str, patterns: dict[str, str]) -> list[str]:
    matches = [(kind, match) for kind, pattern in patterns.items() for match in re.finditer(pattern, text, re.M)]
    return [f"{kind}: {match[0][:12]}..." for kind, match in matches]


def test_nothing_that_looks_like_a_secret_is_tracked() -> None:
    """No file in the repository contains a known kind of token, and no setting or manifest a password of any form."""
    secrets = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        patterns = dict(_ANYWHERE)
        if path.suffix in _SETTINGS and "tests" not in path.relative_to(CHECKOUT).parts:
            patterns |= _IN_SETTINGS
        secrets += [f"{path.relative_to(CHECKOUT)}: {secret}" for secret in secrets_in(text, patterns)]
    assert secrets == []


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
def test_the_search_finds_typical_secrets(text: str) -> None:
    """The patterns match secrets as people leave them in files."""
    assert secrets_in(text, _ANYWHERE | _IN_SETTINGS)


def manifests() -> list[dict[str, object]]:
    folders = {path.parent for top in ("manifests", "argocd-apps") for path in (CHECKOUT / top).rglob("*.yaml")}
    return [document for folder in sorted(folders) for document in content(folder)]


@pytest.mark.platform
def test_secrets_in_git_are_empty() -> None:
    """The only Secrets in Git are those that the cluster fills with an account's token."""
    secrets = [document for document in manifests() if document["kind"] == "Secret"]
    assert {secret["type"] for secret in secrets} == {"kubernetes.io/service-account-token"}
    assert not [secret for secret in secrets if {"data", "stringData"} & set(secret)]

"""The settings of the analysis: the language model, the repository of the issues, and the names of clusters."""

import os
from typing import TYPE_CHECKING

from orchestration.adapters.paths import path_of
from orchestration.environment import parse_pairs, required

if TYPE_CHECKING:
    from orchestration.analysis.ports import LanguageModel
    from orchestration.promotion.github import GitHub

_OF_THE_PLATFORM = "k3d=edge"
"""The alerts' name of the models' cluster, and its context in the kubeconfig that `python -m bootstrap` writes."""
_KEY_FILE = "INCUMBENT_ANALYSIS_KEY_FILE"
_ACTIONS_ACCOUNT = "github-actions[bot]"
"""Whose issues are those that a workflow makes with its own token."""


def language_model_from_environment() -> "LanguageModel | None":
    """Return the language model that the environment names; None when it names none. Nothing is contacted yet.

    Raises:
        InvalidInputError: a setting is missing or unusable.
    """
    from orchestration.adapters.language_models import ChatCompletions, Gemini

    model, url, key = (os.environ.get(f"INCUMBENT_ANALYSIS_{name}", "") for name in ("MODEL", "URL", "KEY_FILE"))
    if not model:
        return None
    if url:
        return ChatCompletions(url, model, path_of(key, _KEY_FILE) if key else None)
    return Gemini(model, path_of(required(_KEY_FILE, key), _KEY_FILE))


def github_from_environment() -> "GitHub":
    """Return the repository that issues are opened in; nothing is contacted yet.

    Raises:
        InvalidInputError: a setting is missing or unusable.
    """
    from orchestration.adapters.github import PUBLIC_API, GitHubRepository
    from orchestration.adapters.host_api import ApiNames, TokenFile

    setting = "INCUMBENT_GITHUB_TOKEN_FILE"
    token = TokenFile(path_of(required(setting, os.environ.get(setting, "")), setting), setting)
    repository = required("GITHUB_REPOSITORY", os.environ.get("GITHUB_REPOSITORY", ""))
    named = ApiNames("GITHUB_API_URL", "GITHUB_REPOSITORY")
    return GitHubRepository(os.environ.get("GITHUB_API_URL") or PUBLIC_API, repository, token, named)


def issue_author() -> str:
    """Return the account by which our issues are made."""
    return os.environ.get("INCUMBENT_GITHUB_ACCOUNT") or _ACTIONS_ACCOUNT


def context_of(cluster: str) -> str:
    """Return the kubeconfig's context of a cluster, by the name that alerts give it.

    Raises:
        InvalidInputError: INCUMBENT_CLUSTER_CONTEXTS is not a list of names and contexts.
    """
    entries = os.environ.get("INCUMBENT_CLUSTER_CONTEXTS") or _OF_THE_PLATFORM
    contexts = parse_pairs("INCUMBENT_CLUSTER_CONTEXTS", entries, "NAME=CONTEXT", _context_fault)
    return contexts.get(cluster, cluster)


def _context_fault(name: str, context: str) -> str | None:
    return None if name and context else "a cluster has a name and a context"

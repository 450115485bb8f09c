"""A policy's GitOps repository as the settings describe it: where it is, who we are there, and how commits look.

Also the pull requests into it.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from orchestration.adapters.git.authorship import parse_authorship
from orchestration.adapters.git.login import AppLogin, Login
from orchestration.adapters.git.remote import SETTINGS, Named
from orchestration.adapters.git.repository import GitRepository
from orchestration.adapters.gitea_requests import GiteaPullRequests
from orchestration.adapters.github import PUBLIC_API, AppKey, TokenFile
from orchestration.adapters.github_requests import GitHubPullRequests
from orchestration.adapters.gitlab_requests import GitLabMergeRequests
from orchestration.adapters.signing import signing_unattended
from orchestration.promotion.policy import GitTarget, Policy, PullRequestPolicy
from orchestration.promotion.ports import Clock
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.pull_requests import PullRequests
from orchestration.promotion.repository_address import host_and_path

_APP = ("INCUMBENT_GIT_APP_ID", "INCUMBENT_GIT_APP_INSTALLATION", "INCUMBENT_GIT_APP_KEY_FILE")


def git_repository(
    settings: Mapping[str, str],
    trailers: Mapping[str, str],
    own: GitTarget | None,
    policy: str,
    state: Path,
    clock: Clock,
) -> GitRepository:
    """Return a client of a policy's repository, or else of the settings' own; nothing is contacted yet.

    Args:
        settings: The settings INCUMBENT_GIT_..., each empty where it is not set.
        trailers: What INCUMBENT_GIT_TRAILERS adds to each commit.
        own: The policy's own repository, as far as it has one; None for the settings'.
        policy: The policy's name.
        state: The folder for mirrors.
        clock: The time by which leases expire.

    Raises:
        InvalidInputError: a setting cannot be used.
    """
    own = own or GitTarget.model_construct()
    url = own.url or settings["INCUMBENT_GIT_URL"]
    named = Named(
        f"git.url of policy {policy}" if own.url else SETTINGS.url,
        f"git.branch of policy {policy}" if own.branch else SETTINGS.branch,
    )
    key = settings["INCUMBENT_GIT_SIGNING_KEY"]
    authorship = parse_authorship(
        settings["INCUMBENT_GIT_AUTHOR"],
        settings["INCUMBENT_GIT_COMMITTER"],
        settings["INCUMBENT_GIT_SUBJECT"],
        trailers,
        signing_unattended(key) if key else None,
    )
    login = _login(settings, own, url)
    branch = own.branch or settings["INCUMBENT_GIT_BRANCH"]
    return GitRepository(url, branch, login=login, state=state, clock=clock, authorship=authorship, named=named)


def pull_requests(settings: Mapping[str, str], policy: Policy, rule: PullRequestPolicy, clock: Clock) -> PullRequests:
    """Return the requests into a policy's branch, at the usual address of its host's API; nothing is contacted yet.

    Args:
        settings: The settings INCUMBENT_GIT_..., each empty where it is not set.
        policy: Whose repository it is.
        rule: How the policy delivers.
        clock: By which a host's answers are waited for.

    Raises:
        InvalidInputError: a setting is missing or cannot be used.
    """
    own = policy.git or GitTarget.model_construct()
    url, branch = own.url or settings["INCUMBENT_GIT_URL"], own.branch or settings["INCUMBENT_GIT_BRANCH"]
    host, path = host_and_path(url)
    if rule.host == "gitlab":
        return GitLabMergeRequests(
            rule.api or f"https://{host}/api/v4", path, branch, _api_token_file(settings, own, url)
        )
    if rule.host == "gitea":
        token_file = _api_token_file(settings, own, url)
        return GiteaPullRequests(rule.api or f"https://{host}/api/v1", path, branch, token_file, clock)
    app = _app(settings, url) if own.token_file is None and _is_settings_host(settings, url) else None
    credentials = app.key if app is not None else TokenFile(_api_token_file(settings, own, url))
    return GitHubPullRequests(rule.api or api_of(host), path, branch, credentials)


def _api_token_file(settings: Mapping[str, str], own: GitTarget, url: str) -> Path:
    """Return the file with the token for the API of a repository's host."""
    file = own.token_file
    if file is None and _is_settings_host(settings, url):
        file = settings["INCUMBENT_GIT_API_TOKEN_FILE"] or settings["INCUMBENT_GIT_TOKEN_FILE"]
    if not file:
        expected, next_step = (
            "a file with a token",
            "Set INCUMBENT_GIT_API_TOKEN_FILE, or git.token_file in the policy.",
        )
        raise InvalidInputError(Problem(f"the API of the host of {url}", expected, "none", next_step))
    return Path(file)


def _is_settings_host(settings: Mapping[str, str], url: str) -> bool:
    """Whether a repository is where the settings' own one is, so that their secrets may be sent there."""
    return urlsplit(url)[:2] == urlsplit(settings["INCUMBENT_GIT_URL"])[:2]


def _login(settings: Mapping[str, str], own: GitTarget, url: str) -> Login:
    """Return how a repository's server is told who we are; the settings' secrets go to the settings' own host alone."""
    keys = (_path(settings["INCUMBENT_GIT_SSH_KEY_FILE"]), _path(settings["INCUMBENT_GIT_KNOWN_HOSTS_FILE"]))
    if own.token_file is not None:
        return Login(Path(own.token_file), "", None, *keys, "git.token_file of the policy")
    if not _is_settings_host(settings, url):
        return Login(None, "", None, *keys)
    token_file, username = _path(settings["INCUMBENT_GIT_TOKEN_FILE"]), settings["INCUMBENT_GIT_USERNAME"]
    app = _app(settings, url)
    if app is not None and token_file is not None:
        found = "INCUMBENT_GIT_TOKEN_FILE and the settings of a GitHub App"
        raise InvalidInputError(Problem("the Git login", "one of the two", found, "Unset one of them."))
    return Login(token_file, username, app, *keys)


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _app(settings: Mapping[str, str], url: str) -> AppLogin | None:
    """Return the GitHub App that three settings describe; None without them."""
    app_id, installation, key_file = (settings[name] for name in _APP)
    if not (app_id or installation or key_file):
        return None
    missing = [name for name in _APP if not settings[name]]
    if missing:
        found = f"no {' and no '.join(missing)}"
        raise InvalidInputError(Problem("the GitHub App for Git", ", ".join(_APP), found, "Set it as well."))
    if not (installation.isascii() and installation.isdigit()):
        expected, next_step = "the number of an installation", "It ends the address of the App's installation page."
        raise InvalidInputError(Problem(f"setting {_APP[1]}", expected, repr(installation), next_step))
    if urlsplit(url).scheme != "https":
        expected, next_step = "a repository at an https address", "Correct INCUMBENT_GIT_URL."
        raise InvalidInputError(Problem("the GitHub App for Git", expected, "another address", next_step))
    return AppLogin(api_of(urlsplit(url).netloc), _shared(app_id, int(installation), key_file))


@cache
def _shared(app_id: str, installation: int, key_file: str) -> AppKey:
    """Return the one holder of an installation's token in this process: clients come and go, and the token stays."""
    return AppKey(app_id, installation, Path(key_file))


def api_of(host: str) -> str:
    """Return the address of GitHub's API for a repository's host.

    docs.github.com: on Enterprise Cloud with data residency it is api.NAME.ghe.com, on Enterprise Server HOST/api/v3.
    """
    if host in ("github.com", "www.github.com"):
        return PUBLIC_API
    return f"https://api.{host}" if host.endswith(".ghe.com") else f"https://{host}/api/v3"

"""A policy's GitOps repository as the settings describe it: where it is, who we are there, and how commits look.

Also the pull requests into it.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from orchestration.adapters.git.authorship import parse_authorship
from orchestration.adapters.git.login import AppLogin, Login, LoginNames
from orchestration.adapters.git.remote import SETTINGS, Named
from orchestration.adapters.git.repository import GitRepository
from orchestration.adapters.gitea_requests import GiteaPullRequests
from orchestration.adapters.github import PUBLIC_API, AppKey
from orchestration.adapters.github_requests import GitHubPullRequests
from orchestration.adapters.gitlab_requests import GitLabMergeRequests
from orchestration.adapters.host_api import ApiNames, Credentials, TokenFile
from orchestration.adapters.signing import signing_unattended
from orchestration.promotion.git_names import USER_NAME, is_username
from orchestration.promotion.policy import GitTarget, Policy, PullRequestPolicy
from orchestration.promotion.ports import Clock
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.pull_requests import PullRequests
from orchestration.promotion.repository_address import host_and_path, is_same_origin, web_address

_API_PATH = re.compile(r"/api/v\d+/?$")
_TOKEN_FILE, _API_TOKEN_FILE = "INCUMBENT_GIT_TOKEN_FILE", "INCUMBENT_GIT_API_TOKEN_FILE"
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
    named = _named(own, policy)
    key = settings["INCUMBENT_GIT_SIGNING_KEY"]
    authorship = parse_authorship(
        settings["INCUMBENT_GIT_AUTHOR"],
        settings["INCUMBENT_GIT_COMMITTER"],
        settings["INCUMBENT_GIT_SUBJECT"],
        trailers,
        signing_unattended(key) if key else None,
    )
    login = _login(settings, own, policy, url)
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
    web, (host, path), written = web_address(url), host_and_path(url), _named(own, policy.name)
    if not host:
        expected = f"the address of a repository on a server, whose API ({rule.host}) takes requests"
        raise InvalidInputError(Problem(written.url, expected, "an address without a host", "Correct it."))
    usual = {"github": api_of(web), "gitlab": f"{web}/api/v4", "gitea": f"{web}/api/v1"}
    api = rule.api or usual[rule.host]
    path = path.removeprefix(_folder_of(api))
    credentials = _api_credentials(settings, own, policy.name, rule, url, api)
    address = f"delivery.pull_request of policy {policy.name} ({'api' if rule.api else 'host, or else api'})"
    named = ApiNames(address, written.url)
    match rule.host:
        case "github":
            return GitHubPullRequests(api, path, branch, credentials, named)
        case "gitlab":
            return GitLabMergeRequests(api, path, branch, credentials, named)
        case "gitea":
            return GiteaPullRequests(api, path, branch, credentials, named, clock)


def _named(own: GitTarget, policy: str) -> Named:
    """Return what an error calls the repository's address and branch."""
    return Named(
        f"git.url of policy {policy}" if own.url else SETTINGS.url,
        f"git.branch of policy {policy}" if own.branch else SETTINGS.branch,
    )


def _folder_of(api: str) -> str:
    """Return the folder that a host's web server has everything below, which its repositories' paths begin with."""
    folder = _API_PATH.sub("", urlsplit(api).path).strip("/")
    return f"{folder}/" if folder else ""


def _api_credentials(
    settings: Mapping[str, str], own: GitTarget, policy: str, rule: PullRequestPolicy, url: str, api: str
) -> Credentials:
    """Return what an API is told who we are by.

    A token that is set for the API counts first, on the host that it is for: the settings' own. Then come the policy's
    token, the settings' GitHub App and the settings' token, of which the last two stay on that host, too.
    """
    is_ours = _has_settings_api(settings, url, api)
    api_token, token = (settings[name] for name in (_API_TOKEN_FILE, _TOKEN_FILE))
    if is_ours and api_token:
        return TokenFile(Path(api_token), _API_TOKEN_FILE)
    if own.token_file is not None:
        return TokenFile(Path(own.token_file), f"git.token_file of policy {policy}")
    subject, expected = f"the API at {api} of the host of {url}", "a file with a token"
    if not is_ours:
        found = "none: the settings' token is for the host of INCUMBENT_GIT_URL alone"
        next_step = f"Set git.url and git.token_file in policy {policy}, or correct delivery.pull_request.api."
        raise InvalidInputError(Problem(subject, expected, found, next_step))
    app = _app(settings, url) if rule.host == "github" else None
    if app is not None:
        return app.key
    if not token:
        next_step = f"Set {_API_TOKEN_FILE}, or git.url and git.token_file in policy {policy}."
        raise InvalidInputError(Problem(subject, expected, "none", next_step))
    return TokenFile(Path(token), f"{_TOKEN_FILE} (or else {_API_TOKEN_FILE})")


def _has_settings_api(settings: Mapping[str, str], url: str, api: str) -> bool:
    """Whether a repository's API is that of the settings' own repository, so that their secrets may be sent there."""
    web = web_address(url)
    return is_same_origin(web, web_address(settings["INCUMBENT_GIT_URL"])) and _is_api_of(web, api)


def _is_api_of(web: str, api: str) -> bool:
    """Whether an API is on the host of a web server or below it, and not less protected."""
    (scheme, host), (api_scheme, api_host) = ((urlsplit(each).scheme, urlsplit(each).hostname) for each in (web, api))
    if host is None or api_host is None or (scheme, api_scheme) == ("https", "http"):
        return False
    return api_host == host or api_host.endswith(f".{host}")


def _is_settings_host(settings: Mapping[str, str], url: str) -> bool:
    """Whether a repository is where the settings' own one is, so that their secrets may be sent there."""
    return is_same_origin(url, settings["INCUMBENT_GIT_URL"])


def _login(settings: Mapping[str, str], own: GitTarget, policy: str, url: str) -> Login:
    """Return how a repository's server is told who we are; the settings' secrets go to the settings' own host alone."""
    keys = (_path(settings["INCUMBENT_GIT_SSH_KEY_FILE"]), _path(settings["INCUMBENT_GIT_KNOWN_HOSTS_FILE"]))
    if own.url is not None and (own.token_file is not None or not _is_settings_host(settings, url)):
        named = LoginNames(f"git.token_file of policy {policy}", f"git.username of policy {policy}")
        return Login(_path(own.token_file or ""), own.username or "", None, *keys, named)
    token_file, username = _path(settings[_TOKEN_FILE]), settings["INCUMBENT_GIT_USERNAME"]
    if username and not is_username(username):
        raise InvalidInputError(Problem("setting INCUMBENT_GIT_USERNAME", USER_NAME, repr(username), "Correct it."))
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
    if not (installation.isascii() and installation.isdigit() and len(installation) < 19):
        expected, next_step = "the number of an installation", "It ends the address of the App's installation page."
        raise InvalidInputError(Problem(f"setting {_APP[1]}", expected, repr(installation), next_step))
    if urlsplit(url).scheme != "https":
        expected, next_step = "a repository at an https address", "Correct INCUMBENT_GIT_URL."
        raise InvalidInputError(Problem("the GitHub App for Git", expected, "another address", next_step))
    return AppLogin(api_of(web_address(url)), _shared(app_id, int(installation), key_file))


@cache
def _shared(app_id: str, installation: int, key_file: str) -> AppKey:
    """Return the one holder of an installation's token in this process: clients come and go, and the token stays."""
    return AppKey(app_id, installation, Path(key_file), " and ".join((", ".join(_APP[:-1]), _APP[-1])))


def api_of(web: str) -> str:
    """Return the address of GitHub's API for the web server beside a repository.

    docs.github.com: on Enterprise Cloud with data residency it is api.NAME.ghe.com, on Enterprise Server HOST/api/v3.
    """
    host = urlsplit(web).netloc
    if host in ("github.com", "www.github.com"):
        return PUBLIC_API
    return f"https://api.{host}" if host.endswith(".ghe.com") else f"{web}/api/v3"

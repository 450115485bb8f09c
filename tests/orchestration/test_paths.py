"""Paths in settings and policies: `~` is a home folder, and where there is none, one line says so."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestration.adapters.cosign import read_public_key
from orchestration.adapters.headers import read_headers
from orchestration.adapters.keyless import trusted_identity
from orchestration.adapters.notifier import read_destinations
from orchestration.adapters.oci_logins import Logins
from orchestration.adapters.secret_files import read_secret
from orchestration.adapters.signing import signing_with
from orchestration.analysis_environment import github_from_environment, language_model_from_environment
from orchestration.cli.run import require_dagster_home
from orchestration.environment import DEFAULTS, SETTINGS, EnvironmentPlatform
from orchestration.promotion.policy import CosignPolicy, GitTarget, HeaderFile
from orchestration.promotion.problems import DependencyError, InvalidInputError, ProblemError

NOBODYS = "~no-such-user/file"
PLATFORM = EnvironmentPlatform(
    **{field: DEFAULTS.get(name, "") for field, name in SETTINGS.items()}
    | {
        "git_url": "ssh://git@127.0.0.1/gitops.git",
        "prometheus_url": "http://127.0.0.1:1",
        "prometheus_username": "",
        "argocd_context": "hub",
    }
)


def git(platform: EnvironmentPlatform) -> object:
    """Make the client of a repository that a policy names, and of the settings' own."""
    return platform.git_of("iris", GitTarget(url="ssh://git@127.0.0.1/other.git")), platform.git()


USED: dict[str, tuple[Callable[[EnvironmentPlatform], object], dict[str, str]]] = {
    "policies_folder": (EnvironmentPlatform.policy_names, {}),
    "git_token_file": (git, {}),
    "git_app_key_file": (git, {}),
    "git_ssh_key_file": (git, {}),
    "git_known_hosts_file": (git, {}),
    "git_signing_key": (git, {}),
    "git_api_token_file": (git, {}),
    "kubeconfig": (EnvironmentPlatform.contexts, {}),
    "prometheus_token_file": (EnvironmentPlatform.metrics, {}),
    "prometheus_password_file": (EnvironmentPlatform.metrics, {"prometheus_username": "edge"}),
    "prometheus_ca_file": (EnvironmentPlatform.metrics, {}),
    "prometheus_client_cert_file": (EnvironmentPlatform.metrics, {}),
    "prometheus_client_key_file": (EnvironmentPlatform.metrics, {"prometheus_client_cert_file": "/client.pem"}),
    "oci_login_file": (EnvironmentPlatform.images, {}),
    "state": (git, {}),
}
"""By field what reads it, and what else must be set."""


def test_no_setting_with_a_path_is_left_out() -> None:
    """Each one that names a file is in the table, so a new one must be added."""
    assert {field for field in SETTINGS if field.endswith("_file")} <= USED.keys()


@pytest.mark.parametrize("field", USED)
def test_a_home_folder_that_does_not_exist_is_told_by_the_settings_name(field: str) -> None:
    """In one line, and before anything is asked."""
    use, others = USED[field]
    with pytest.raises(InvalidInputError) as caught:
        use(replace(PLATFORM, **{field: NOBODYS}, **others))
    assert str(caught.value) == (
        f"setting {SETTINGS[field]}: expected a path, found '{NOBODYS}' (no home folder of ~no-such-user). "
        "Correct it, or write the whole path."
    )


def test_the_settings_beside_the_platforms_are_read_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of notifications, the analysis and Dagster."""
    monkeypatch.setenv("GITHUB_REPOSITORY", "acme/gitops")
    monkeypatch.setenv("INCUMBENT_ANALYSIS_MODEL", "gemini-x")
    for name, use in (
        ("INCUMBENT_NOTIFY_FILE", lambda: read_destinations(NOBODYS, "")),
        ("INCUMBENT_ANALYSIS_KEY_FILE", language_model_from_environment),
        ("INCUMBENT_GITHUB_TOKEN_FILE", github_from_environment),
        ("DAGSTER_HOME", require_dagster_home),
    ):
        monkeypatch.setenv(name, NOBODYS)
        with pytest.raises(InvalidInputError, match=f"^setting {name}: .*no home folder of ~no-such-user"):
            use()


@pytest.mark.parametrize("path", [NOBODYS, "/keys/\0"])
def test_a_policys_file_that_no_file_can_be_is_told_by_its_field(path: str) -> None:
    """A path in a policy counts when it is read, like a file that is missing."""
    identity = CosignPolicy(identity="ana@acme.example", issuer="https://issuer", trusted_root=path)
    reads: dict[str, Callable[[], object]] = {
        "signature.cosign.key": lambda: read_public_key(path),
        "signature.cosign.trusted_root": lambda: trusted_identity(identity),
        "service.headers": lambda: read_headers({"Authorization": HeaderFile(file=path)}),
        "git.token_file": lambda: read_secret(Path(path), "the token", "git.token_file of the policy"),
    }
    for field, read in reads.items():
        with pytest.raises(DependencyError, match=field.replace(".", r"\.")) as caught:
            read()
        assert ("no home folder" if path == NOBODYS else "null byte") in str(caught.value)


def test_a_key_to_sign_with_may_have_a_name_like_a_path() -> None:
    """What is no file is asked of gpg, whose words the error has."""
    with pytest.raises(ProblemError, match=rf"key {NOBODYS}: expected a signature"):
        signing_with(NOBODYS)(b"tag")


def test_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In settings that no shell has expanded, such as those of a service's unit."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "logins.json").write_text('{"auths": {}}')
    (tmp_path / "kubeconfig").write_text(json.dumps({"contexts": [{"name": "edge"}]}))
    (tmp_path / "policies").mkdir()
    platform = replace(
        PLATFORM, oci_login_file="~/logins.json", kubeconfig="~/kubeconfig", policies_folder="~/policies"
    )
    platform.images()
    assert (*platform.contexts(), *platform.policy_names()) == ("edge",)


def test_an_account_without_a_home_folder_has_no_logins_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run under any number; where a home folder is needed, the error says that HOME is to be set."""
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("INCUMBENT_OCI_LOGIN_FILE", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000)
    assert Logins().find("reg.example/m") is None
    with pytest.raises(InvalidInputError, match=r"setting INCUMBENT_STATE: .*no home folder of this account: set HOME"):
        PLATFORM.git()

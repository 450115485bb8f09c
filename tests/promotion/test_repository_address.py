"""Whether two addresses name one repository."""

import pytest

from orchestration.promotion.repository_address import is_same_origin, is_same_repository, web_address

OURS = "https://github.com/acme/gitops.git"


@pytest.mark.parametrize(
    "other",
    [
        "https://github.com/acme/gitops",
        "https://GitHub.com/acme/gitops.git/",
        "https://github.com:443/acme/gitops",
        "http://github.com/acme/gitops",
        "https://x-access-token@github.com/acme/gitops",
        "git@github.com:acme/gitops.git",
        "ssh://git@github.com/acme/gitops",
        "ssh://git@github.com:22/acme/gitops.git",
    ],
)
def test_spellings_of_one_repository_are_equal(other: str) -> None:
    """Scheme, user, `.git`, slash, default port and the host's case say nothing about which repository it is."""
    assert is_same_repository(OURS, other)
    assert is_same_repository(other, OURS)


@pytest.mark.parametrize(
    "other",
    [
        "https://github.com/acme/gitops2.git",
        "https://gitlab.com/acme/gitops.git",
        "https://github.com:8443/acme/gitops.git",
        "https://github.com/Acme/gitops.git",
        "git@github.com:acme/other.git",
        "https://[bad/acme/gitops",
        "",
    ],
)
def test_other_repositories_are_not(other: str) -> None:
    """Another host, port or path is another repository, and what cannot be read is none."""
    assert not is_same_repository(OURS, other)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("https://github.com/a/b.git", "https://GitHub.com:443/c/d.git", True),
        ("git@github.com:a/b.git", "ssh://git@github.com/c/d.git", True),
        ("git@good.example:a/b.git", "git@evil.example:a/b.git", False),
        ("https://github.com/a/b.git", "http://github.com/a/b.git", False),
        ("https://github.com/a/b.git", "https://github.com:8443/a/b.git", False),
        ("git@github.com:a/b.git", "", False),
        ("", "", False),
        ("file:///srv/a.git", "file:///srv/a.git", False),
    ],
)
def test_secrets_stay_with_their_scheme_host_and_port(one: str, other: str, is_same: bool) -> None:
    """However an address is written; what names no host is nobody's."""
    assert is_same_origin(one, other) is is_same_origin(other, one) is is_same


@pytest.mark.parametrize(
    ("repository", "web"),
    [
        ("https://git.example.com:3000/a/b.git", "https://git.example.com:3000"),
        ("http://user@Git.example.com/a/b.git", "http://git.example.com"),
        ("git@git.example.com:a/b.git", "https://git.example.com"),
        ("ssh://git@git.example.com:2222/a/b.git", "https://git.example.com"),
        ("ssh://git@ssh.github.com:443/a/b.git", "https://github.com"),
        ("git@altssh.gitlab.com:a/b.git", "https://gitlab.com"),
        ("http://[::1]:3000/a/b.git", "http://[::1]:3000"),
        ("https://GitHub.com:443/a/b.git", "https://github.com"),
        ("https://[bad/a/b.git", "https://"),
    ],
)
def test_the_web_server_beside_a_repository(repository: str, web: str) -> None:
    """A web address keeps its scheme and port; one for ssh tells neither, and what is no address has no host."""
    assert web_address(repository) == web

"""Whether two addresses name one repository."""

import pytest

from orchestration.promotion.repository_address import is_same_repository

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

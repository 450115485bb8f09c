"""Names of branches as Git itself accepts them, and user names as HTTP has them."""

import subprocess

import pytest

from orchestration.promotion.git_names import is_branch_name, is_username

ACCEPTED = (
    *(
        "main",
        "env@prod",
        "@",
        "@x",
        "x@",
        "feature/a-b_c.d",
        "a-",
        "a./b",
        "HEAD/x",
        "refs/heads/x",
        "#1",
        "!a",
        "2024",
    ),
    *("a=b", "a,b", "a%b", "a$b", "a&b", "a;b", "a|b", "a<b>", "a'b", 'a"b', "a{b}", "a]b", "(a)", "é", "主"),
)
REFUSED = (
    *(
        "",
        "-a",
        "HEAD",
        "a b",
        "a..b",
        "a.lock",
        "a.lock/b",
        ".a",
        "a/.b",
        "a.",
        "a//b",
        "/a",
        "a/",
        "a~b",
        "a^",
        "a:b",
    ),
    *("a?", "a*", "a[b", "a\\b", "a@{b", "@{-1}", "a\x7f", "a\tb", "a\n"),
)
UNREADABLE = ("a\u200bb", "a\u202eb", "a\u0085b", "a\u00a0b", "a\ufeff", "a\udcffb")
"""Git takes them; what people read is another branch."""


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_git_accepts_is_accepted(name: str) -> None:
    """As `git check-ref-format --branch` says, for each of these names."""
    assert is_branch_name(name)
    assert _is_accepted_by_git(name)


@pytest.mark.parametrize("name", REFUSED)
def test_what_git_refuses_is_refused(name: str) -> None:
    """Options, patterns, ranges and whatever else cannot be a branch."""
    assert not is_branch_name(name)
    assert not _is_accepted_by_git(name)


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_name_that_cannot_be_read_is_refused(name: str) -> None:
    """A name with invisible characters looks like another branch's."""
    assert not is_branch_name(name)
    assert _is_accepted_by_git(name)


@pytest.mark.parametrize(
    ("name", "is_usable"),
    [("oauth2", True), ("svc at-1", True), ("é", True), ("", False), ("a:b", False), ("a\nb", False), (" a", False)],
)
def test_user_names_are_what_basic_authentication_can_carry(name: str, is_usable: bool) -> None:
    """A colon would end the name, and a line end Git's answer."""
    assert is_username(name) is is_usable


def _is_accepted_by_git(name: str) -> bool:
    command = ["git", "check-ref-format", "--branch", name]
    # In a repository `@{-1}` may be the branch that was checked out before.
    return subprocess.run(command, capture_output=True, check=False, cwd="/").returncode == 0

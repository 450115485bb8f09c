"""No secret leaves the program."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.promotion.redact import redact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fetch https://bot:hunter2@git.example/x.git failed", "fetch https://git.example/x.git failed"),
        ("https://bot:p@ss@git.example/x", "https://git.example/x"),
        ("http://hunter2@git.example", "http://git.example"),
        ("Authorization: Basic aHVudGVyMg==", "Authorization: Basic ***"),
        ("{'Authorization': 'Bearer hunter2'}", "{'Authorization': 'Bearer ***'}"),
        ("proxy-authorization: hunter2", "proxy-authorization: ***"),
        ("Bearer abcdefghijklmnop1234", "Bearer ***"),
        ("?access_token=hunter2&page=2", "?access_token=***&page=2"),
        ('password="a b" user=x', "password=*** user=x"),
        ('{"token": "hunter2"}', '{"token": ***}'),
        ("password: hunter2", "password: ***"),
        ("Cookie: session=hunter2; a=b", "Cookie: ***"),
    ],
)
def test_known_forms_of_credentials_are_removed(text: str, expected: str) -> None:
    """User information in a URL disappears; headers and fields keep their name and lose their value."""
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "ghcr.io/team/model:abc@sha256:0123",
        "https://git.example/a/b@v1 answered 403",
        "line 3: found unexpected token: expected ':'",
        "Basic authentication is required",
        "version 7 of iris-classifier: expected metric accuracy >= 0.85, found 0.5.",
    ],
)
def test_ordinary_errors_are_left_alone(text: str) -> None:
    """A text without credentials does not change, so errors stay readable."""
    assert redact(text) == text


def test_a_given_secret_is_recognized_stripped_and_quoted() -> None:
    """A token that was read with its line end is recognized without it, and as a URL quotes it."""
    assert redact("tried s3cr/et and s3cr%2Fet", ["s3cr/et\n"]) == "tried *** and ***"


@given(st.text(), st.lists(st.text(), max_size=4))
def test_no_given_secret_survives(text: str, secrets: list[str]) -> None:
    """Whatever the text and the secrets are, the result contains none of the secrets."""
    glued = text.join(secrets) + "token=" + "".join(secrets)
    result = redact(glued, secrets)
    assert not [secret for secret in secrets if secret and secret in result]


@given(st.text(alphabet="*ab:/@= \n", max_size=60), st.lists(st.text(alphabet="*ab", max_size=3), max_size=3))
def test_secrets_made_of_the_mark_itself_do_not_survive(text: str, secrets: list[str]) -> None:
    """Even a secret that is part of the mark, or appears when two pieces join, is removed."""
    result = redact(text, secrets)
    assert not [secret for secret in secrets if secret and secret in result]


def test_hostile_text_takes_linear_time() -> None:
    """Long repetitions of characters that begin a pattern are processed within the time limit."""
    for piece in ("://", "a", "token", "password = ", "'", "authorization: "):
        text = piece * (200_000 // len(piece))
        assert isinstance(redact(text), str)

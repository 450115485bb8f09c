"""No secret leaves the program."""

import base64
import html
import json
import re
from collections.abc import Callable
from functools import partial
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.promotion.redact import redact

# In two pieces, because nothing in the repository may look like a secret.
AWS, GITHUB, GOOGLE, SLACK = "AKIA", "ghp_", "AIza", "xoxb"
KEY = (
    "-----BEGIN RSA PRIVATE KEY-----\n"
    + "MIIEpAIBAAKCAQEA0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL\n" * 3
    + "-----END RSA PRIVATE KEY-----"
)


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
        (f"loaded {KEY}, done", "loaded ***, done"),
        (KEY[:90], "***"),
        (f"{KEY[40:]}\nready", "***\nready"),
        (r"key=-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\n!", r"key=***\n!"),
        ("sent eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln!", "sent ***!"),
        (f"{AWS}ABCDEFGHIJKLMNOP used", "*** used"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "aws_secret_access_key = ***"),
        (f"{GITHUB}0123456789abcdefghijABCDEFGHIJ012345", "***"),
        ("github_pat_11AAAAAAA0abcdefghij_0123456789", "***"),
        (f"key {GOOGLE}SyA0123456789abcdefghijklmnopqrstuv", "key ***"),
        ("using sk-proj-0123456789abcdefghij", "using ***"),
        (f"{SLACK}-0123456789-abcdef", "***"),
        ("X-Api-Key: 0123456789abcdef", "X-Api-Key: ***"),
        ("api_token: s3cr3t-s3cr3t", "api_token: ***"),
        ("mlflow --db-password hunter2 --port 5000", "mlflow --db-password *** --port 5000"),
        ("postgresql://mlflow:hunter2@db:5432/mlflow", "postgresql://db:5432/mlflow"),
        ("mlflow:hunter2@tcp(db:3306)/mlflow", "mlflow:***@tcp(db:3306)/mlflow"),
        ("AccountName=a;AccountKey=aGk=;EndpointSuffix=x", "AccountName=a;AccountKey=***;EndpointSuffix=x"),
        (r'{"msg": "{\"password\": \"hunter2\", \"a\": 1}"}', r'{"msg": "{\"password\": ***, \"a\": 1}"}'),
        (r'{"password": "hun\"ter2", "a": 1}', '{"password": ***, "a": 1}'),
        (r'"{\"token\": \"hun\\\"ter2\", \"a\": 1}"', r'"{\"token\": ***, \"a\": 1}"'),
        ('{"password": "hunter2 and what was cut\nnext', '{"password": ***\nnext'),
        ('token: "hunter2"', "token: ***"),
        ("pwd: hunter2", "pwd: ***"),
        (":password => hunter2,", ":password => ***,"),
        ("X-Vault-Token: s.hunter2xyz", "X-Vault-Token: ***"),
        ('{"auths": {"r": {"auth": "aHVudGVyMg=="}}}', '{"auths": {"r": {"auth": ***}}}'),
        ("<password>hunter2</password>", "<password>***</password>"),
        ("GET /x?sv=1&sig=hunter2&se=2", "GET /x?sv=1&sig=***&se=2"),
        ("curl -u admin:hunter2 http://h", "curl -u admin:*** http://h"),
        ("https://hooks.slack.com/services/T0/B0/hunter2 failed", "https://hooks.slack.com/services/*** failed"),
        ("tailscale up --authkey " + "tskey" + "-auth-k1CNTRL-hunter2", "tailscale up --authkey ***"),
        ("K3S " + "K10" + "0123456789abcdef" * 4 + "::server:hunter2", "K3S ***"),
        ("grafana " + "glsa" + "_0123456789abcdefghijABCDEFGHIJ01_0a1b2c3d", "grafana ***"),
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
        "-----END CERTIFICATE-----",
        "the token: it has expired in 2026",
        "Secret: the name of a Secret",
        "sk-learn 1.7 loaded; task-0123456789abcdefghijklm",
        "set --token-file or --password - to read it",
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


def test_a_secret_that_a_replacement_puts_together_does_not_survive() -> None:
    """What is left on both sides of a user's name that was removed may be a secret by itself."""
    assert "mail://example" not in redact("mail://ana@example", ["mail://example"])


@given(st.text(alphabet="*ab:/@= \n", max_size=60), st.lists(st.text(alphabet="*ab", max_size=3), max_size=3))
def test_secrets_made_of_the_mark_itself_do_not_survive(text: str, secrets: list[str]) -> None:
    """Even a secret that is part of the mark, or appears when two pieces join, is removed."""
    result = redact(text, secrets)
    assert not [secret for secret in secrets if secret and secret in result]


def test_hostile_text_takes_linear_time() -> None:
    """Long repetitions of characters that begin a pattern are processed within the time limit."""
    pieces = ("://", "a", "token", "password = ", "'", "authorization: ", "eyJa-", "-----BEGIN PRIVATE KEY-----")
    for piece in (*pieces, "-----END PRIVATE KEY", "token: aaaa ", "--token ", "a:b", "sk-"):
        text = piece * (200_000 // len(piece))
        assert isinstance(redact(text), str)


TOKEN = 's3cr/et+T0ken=~"é'


def _login(encode: Callable[[bytes], bytes], user: str, charset: str, secret: str) -> str:
    """What a client sends to log in with a user and a secret."""
    return encode(f"{user}:{secret}".encode(charset)).decode()


OUTER: dict[str, Callable[[str], str]] = {
    "nothing": str,
    "percent": lambda text: quote(text, safe=""),
    "percent twice": lambda text: quote(quote(text, safe=""), safe=""),
    "lower-case percent of every byte": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "form": quote_plus,
    "JSON": json.dumps,
    "JSON in JSON": lambda text: json.dumps(json.dumps([text])),
    "JSON's escapes": lambda text: "".join(f"\\u{ord(character):04X}" for character in text),
    "HTML": lambda text: html.escape(text).replace("+", "&#x2B;").replace("=", "&#61;"),
    "Python's bytes": lambda text: repr(text.encode()),
    "lines": lambda text: "\n".join(text[start : start + 11] for start in range(0, len(text), 11)),
    "Git's remote lines": lambda text: "\nremote: ".join(text[start : start + 12] for start in range(0, len(text), 12)),
}
INNER: dict[str, Callable[[str], str]] = {
    "plain": str,
    "hexadecimal": lambda text: text.encode().hex().upper(),
    **{
        f"{name} of a {len(user)}-letter user, {charset}": partial(_login, encode, user, charset)
        for name, encode in (("base64", base64.b64encode), ("url-safe base64", base64.urlsafe_b64encode))
        for user in ("", "x", "me", "bot", "x-access-token")
        for charset in ("utf-8", "latin-1")
    },
}


@pytest.mark.parametrize("outer", OUTER)
@pytest.mark.parametrize("inner", INNER)
def test_a_secret_is_recognized_in_every_encoding_in_which_it_is_sent_or_repeated(inner: str, outer: str) -> None:
    """In base64 of `user:secret` for any user, and that or the secret itself quoted in any way, it is removed."""
    sent = OUTER[outer](INNER[inner](TOKEN))
    shown = redact(f"you sent {sent} to me", [f"{TOKEN}\n"])
    assert shown.startswith("you sent ")
    assert shown.endswith(" to me")
    assert len(re.sub(r"\W", "", shown)) <= len("yousenttome") + 20, shown  # a user's name may stay


def test_an_error_that_shows_no_secret_is_left_alone_whatever_its_escapes() -> None:
    """Decoding finds secrets and changes nothing else."""
    text = r"remote: %41 \u0041 &amp; aGVsbG8gd29ybGQgYW5k" + "\n and 68656c6c6f"
    assert redact(text, [TOKEN, "another-token"]) == text


def test_a_short_secret_is_not_looked_for_in_the_middle_of_prose() -> None:
    """Across white space, and as hexadecimal digits, only what cannot be there by chance counts."""
    assert redact("an edge verb", ["gever"]) == "an edge verb"
    assert redact("commit 6162", ["ab"]) == "commit 6162"


def test_hostile_text_takes_linear_time_with_secrets_too() -> None:
    """Escapes of all kinds, and a secret in base64 again and again, are processed within the time limit."""
    encoded = base64.b64encode(TOKEN.encode()).decode()
    for piece in (r"\u0041", "%41", "&amp;", "remote: ", "\n", encoded, f"{encoded} ", "a", "\\", "&#", TOKEN[:-1]):
        text = piece * (100_000 // len(piece))
        assert TOKEN not in redact(text, [TOKEN, "a" * 30])

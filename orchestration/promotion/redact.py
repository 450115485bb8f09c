"""Remove secrets from a text before it leaves the program in errors, logs or metadata (design rule 9)."""

import re
from collections.abc import Iterable
from urllib.parse import quote

REDACTED = "***"

_QUOTED_OR_WORD = r"""(?:"[^"]*"|'[^']*'|[^\s"'&,;]+)"""
_NAMES = r"pass(?:word|wd|phrase)?|pwd|token|secret|api[-_]?key|credentials?"
# Every repetition is bounded or ends at a character that cannot start a match, so hostile text takes linear time.
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # https://user:password@host -> https://host; everything before the last @ of the authority is user information.
    (re.compile(r"""(://)[^\s/?#'"<>]*@"""), r"\1"),
    # Authorization: Basic abc; also in Python's and JSON's notation: 'Authorization': 'Bearer abc'.
    (
        re.compile(
            r"""(?i)(authorization["']?\s{0,4}[:=]\s{0,4}["']?(?:(?:basic|bearer|token|digest|negotiate)\s{1,4})?)"""
            r"""[^\s"',;]+"""
        ),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"(?i)(cookie\s{0,4}:\s{0,4})[^\r\n]+"), rf"\1{REDACTED}"),
    (re.compile(r"(?i)\b(bearer\s{1,4})[a-z0-9._~+/=-]{16,}"), rf"\1{REDACTED}"),
    # password=x, access_token=x, {"token": "x"}, password: x.
    (re.compile(rf"(?i)((?:{_NAMES})\s{{0,4}}=\s{{0,4}}){_QUOTED_OR_WORD}"), rf"\1{REDACTED}"),
    (re.compile(rf"""(?i)((?:{_NAMES})["']\s{{0,4}}:\s{{0,4}}){_QUOTED_OR_WORD}"""), rf"\1{REDACTED}"),
    (re.compile(rf"(?i)((?:password|passphrase)\s{{0,4}}:\s{{0,4}}){_QUOTED_OR_WORD}"), rf"\1{REDACTED}"),
)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Remove user information in URLs, Authorization headers, `password=` and `token=` values, and the given secrets.

    A secret is also recognized without the white space around it (a token file ends with a line end) and as a URL
    quotes it. Whatever the text and the secrets are, the result contains none of the given secrets.
    """
    known = _forms(secrets)
    text = _replace(text, known, REDACTED)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    # A replacement can join the texts on both sides of it into a secret, or be part of one ("*"). Secrets that remain
    # are removed without a mark; each pass makes the text shorter, so this ends.
    while any(secret in text for secret in known):
        text = _replace(text, known, "")
    return text


def _forms(secrets: Iterable[str]) -> list[str]:
    """All spellings of the secrets, longest first so that replacing one leaves no part of a longer one."""
    forms: set[str] = set()
    for secret in secrets:
        for form in (secret, secret.strip()):
            forms |= {form, quote(form, safe="", errors="replace")}
    return sorted(forms - {""}, key=lambda form: (-len(form), form))


def _replace(text: str, secrets: Iterable[str], replacement: str) -> str:
    for secret in secrets:
        text = text.replace(secret, replacement)
    return text

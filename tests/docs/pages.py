"""The repository's files as a reader of its documentation meets them: pages with their anchors, links and code."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

CHECKOUT = Path(__file__).parents[2]


@cache
def files() -> tuple[Path, ...]:
    """Every file of the repository, relative to its root, including new files that Git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    return tuple(Path(name) for name in sorted(filter(None, names.split("\0"))) if (CHECKOUT / name).is_file())


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path
    """Relative to the root of the repository."""
    anchors: frozenset[str]
    """What a link may name after `#`: headings as GitHub spells them, and ids in HTML."""
    links: tuple[str, ...]
    """Targets of links and images."""
    code: tuple[str, ...]
    """Texts in backticks."""


@cache
def pages() -> tuple[Page, ...]:
    """Every Markdown file of the repository."""
    return tuple(read_page(path) for path in files() if path.suffix == ".md")


@cache
def read_page(path: Path) -> Page:
    """Read a Markdown file, given its path in the repository."""
    return parse_page(path, (CHECKOUT / path).read_text(encoding="utf-8"))


def parse_page(path: Path, text: str) -> Page:
    """Parse a Markdown text that is, or could be, the file at a path in the repository."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    parts = [part for token in tokens if token.type in ("inline", "html_block") for part in token.children or [token]]
    html = _Html()
    for part in parts:
        if part.type.startswith("html_"):
            html.feed(part.content)
    links = [str(part.attrs[name]) for part in parts for name in ("href", "src") if name in part.attrs]
    code = tuple(part.content for part in parts if part.type == "code_inline")
    return Page(path, frozenset((*_anchors(tokens), *html.ids)), (*links, *html.links), code)


def _anchors(tokens: list[Token]) -> Iterator[str]:
    """GitHub's anchors: lower case, dashes for spaces, no other punctuation, and a number after a repeated one."""
    seen: Counter[str] = Counter()
    for opening, heading in pairwise(tokens):
        if opening.type == "heading_open":
            text = "".join(part.content for part in heading.children or ())
            anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            yield f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor
            seen[anchor] += 1


class _Html(HTMLParser):
    """Links and ids of the HTML in a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.links.append(value)
            elif value and name == "id":
                self.ids.append(value)

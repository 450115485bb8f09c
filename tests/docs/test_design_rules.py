"""`docs/design-rules.md` states every design rule that the repository cites."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import CHECKOUT, files

PAGE = Path("docs/design-rules.md")
_CITING = {".py", ".yaml", ".yml", ".md", ".sh"}
_GAP = r"(?:\s|#)+"  # a citation may be broken over two lines of a comment
_CITATION = re.compile(
    rf"\b(?P<design>design{_GAP})?rules?{_GAP}(?P<numbers>\d+(?:(?:,|{_GAP}and|{_GAP}to){_GAP}\d+)*)\b", re.IGNORECASE
)


def _citations(text: str) -> Iterator[tuple[int, str, bool, list[int]]]:
    """Each citation's line, its text, whether it says `design rule`, and its numbers."""
    for match in _CITATION.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        words = " ".join(match[0].replace("#", " ").split())
        yield line, words, match["design"] is not None, [int(number) for number in re.findall(r"\d+", match["numbers"])]


def _headings() -> list[int]:
    text = (CHECKOUT / PAGE).read_text(encoding="utf-8")
    return [int(number) for number in re.findall(r"^## (\d+)\. \S", text, re.MULTILINE)]


def _cited() -> Iterator[tuple[str, str, bool, list[int]]]:
    """Citations in all files except this one, which has examples."""
    for path in files():
        if path.suffix in _CITING and path != Path(__file__).relative_to(CHECKOUT):
            text = (CHECKOUT / path).read_text(encoding="utf-8")
            for line, words, whole, numbers in _citations(text):
                yield f"{path}:{line}", words, whole, numbers


def test_the_rules_are_numbered_from_one() -> None:
    """There is one heading per rule, in order and without gaps."""
    headings = _headings()
    assert headings == list(range(1, len(headings) + 1))
    assert headings


def test_every_citation_resolves() -> None:
    """A reader who follows a citation finds a heading."""
    headings = _headings()
    unknown = [f"{where}: {words}" for where, words, _, numbers in _cited() if not set(numbers) <= set(headings)]
    assert not unknown, f"{PAGE} has no such heading; correct the number, or state the rule there"


def test_rules_are_cited_in_one_way() -> None:
    """`design rule 4` can be searched for; only the page itself may say `rule 4`."""
    short = [
        f"{where}: {words}" for where, words, whole, _ in _cited() if not whole and not where.startswith(str(PAGE))
    ]
    assert not short, 'cite it as "design rule N"'


def test_every_rule_is_cited() -> None:
    """Whoever changes the code that implements a rule must be able to see that."""
    code = {number for where, _, _, numbers in _cited() if where.startswith("orchestration/") for number in numbers}
    assert code == set(_headings()), "cite the rule where orchestration/ implements it, or remove it from the page"


@pytest.mark.parametrize(
    ("text", "citations"),
    [
        ("of the model (design rule 6).", [(1, "design rule 6", True, [6])]),
        ("Design rules 5 and 6. Only", [(1, "Design rules 5 and 6", True, [5, 6])]),
        ("design rules 1, 2 and 10", [(1, "design rules 1, 2 and 10", True, [1, 2, 10])]),
        ("about a second (rule 4)", [(1, "rule 4", False, [4])]),
        ("# as design\n# rule 12 says", [(1, "design rule 12", True, [12])]),
        ("two rules, 3 alerts; overruled 4 times; rule4", []),
    ],
)
def test_citations_of_every_form_are_found(text: str, citations: list[tuple[int, str, bool, list[int]]]) -> None:
    """In the plural, without `design`, and broken over two lines of a comment."""
    assert list(_citations(text)) == citations

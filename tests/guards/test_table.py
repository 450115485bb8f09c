"""The table of guards agrees with the pipeline, with the tests and with the documentation."""

from collections import Counter

from tests.guards.guard import CHECKOUT
from tests.guards.page import page
from tests.guards.table import ALL_GUARDS
from tests.scenarios import mutants as stories


def test_each_guard_is_where_the_table_says() -> None:
    """What its mutant replaces occurs once in the file, in something that has a name, and by another text."""
    mutants = [guard.mutant for guard in ALL_GUARDS]
    assert [mutant for mutant in mutants if mutant.times != 1 or mutant.old == mutant.new or not mutant.place] == []


def test_the_mutants_of_the_stories_occur_once() -> None:
    """The pipelines that the stories run without a guard can be made."""
    mutants = (stories.NO_ROLLBACK, stories.NO_COMPARISON, stories.NO_PUBLICATION_CHECK, stories.NO_GATE)
    assert [mutant for mutant in mutants if mutant.times != 1] == []


def test_every_named_test_exists() -> None:
    """Each guard names a test that is a function of the file."""
    wanted = {(file, name.partition("[")[0]) for file, _, name in (guard.test.partition("::") for guard in ALL_GUARDS)}
    texts = {file: (CHECKOUT / "tests" / file).read_text(encoding="utf-8") for file, _ in wanted}
    assert {(file, name) for file, name in wanted if f"\ndef {name}(" not in texts[file]} == set()


def test_each_guard_has_a_sentence_of_its_own() -> None:
    """No two guards say the same, and none takes out the same text by the same change."""
    said = Counter(guard.what for guard in ALL_GUARDS) + Counter(repr(guard.mutant) for guard in ALL_GUARDS)
    assert [text for text, times in said.items() if times > 1] == []
    assert [guard.what for guard in ALL_GUARDS if not guard.what.endswith(".") or "|" in guard.what] == []


def test_the_page_is_the_table() -> None:
    """docs/guards.md is what `python -m tests.guards.page` writes."""
    assert (CHECKOUT / "docs/guards.md").read_text(encoding="utf-8") == page()

"""An issue's text within GitHub's limits, with the facts apart from what the model wrote."""

from orchestration.analysis.report import (
    BODY_CHARACTERS,
    SECTION_CHARACTERS,
    Analysis,
    Findings,
    Section,
    facts_text,
    issue_body,
    issue_title,
    news_of,
    repeated_body,
)

LONGEST_VALUE = "`" + "x" * 500 + "`"
HUGE = Findings(
    "t",
    "Alert `Down`.",
    (LONGEST_VALUE,) * 500,
    (LONGEST_VALUE,) * 500,
    (Section.of("Part", "line\n" * 5_000),) * 10,
    (LONGEST_VALUE,) * 500,
)
ANSWER = Analysis("gemini", "&<\n" * 20_000)


def test_no_body_is_longer_than_github_takes() -> None:
    """Whatever the facts and the model say, in large pieces or small ones, and what is left out is said."""
    line = "<!-- " + "x" * 4100 + " -->"
    for body in (issue_body(line, HUGE, ANSWER), repeated_body(line, HUGE, ANSWER, (LONGEST_VALUE,) * 500)):
        assert len(body) <= BODY_CHARACTERS
        assert "more section(s) were left out" in body
        assert "- and 49" in body
        assert body.count("<details>") == body.count("</details>") > 1
    many = ("x",) * 2_000
    fine = Findings("t", "y" * 4_000, many, many, (Section("Part", "z"),) * 1_000, many)
    assert 50_000 < len(repeated_body(line, fine, ANSWER, many)) <= BODY_CHARACTERS


def test_a_log_keeps_its_end_and_a_list_its_beginning() -> None:
    """The part that is kept is the one that matters, whole lines of it."""
    text = "\n".join(f"line {number}" for number in range(5000))
    log, events = Section.of("Log", text, keep_end=True), Section.of("Events", text)
    assert log.text.endswith("line 4999")
    assert log.text.startswith("line ")
    assert events.text.startswith("line 0\n")
    assert log.left_out
    assert events.left_out
    assert max(len(log.text), len(events.text)) <= SECTION_CHARACTERS


def test_facts_and_the_models_words_stand_apart() -> None:
    """The model's section comes last, names the model, and says that nobody verified it."""
    findings = Findings("t", "Alert.", ("it is down",), (), (Section.of("Pod", "name: a"),), ("The log: `gone`",))
    body = issue_body("<!-- m -->", findings, Analysis("gemini`x @y", "I think so."))
    facts, answer = body.split("\n### Written by the language model geminix \uff20y, and not verified\n")
    assert "I think so" not in facts
    assert "name: a" in facts
    assert "Not known:\n\n- The log: `gone`" in facts
    assert answer.strip() == r"> I think so\."


def test_without_an_analysis_one_line_says_why() -> None:
    """And the facts are the same."""
    findings = Findings("t", "Alert.", ("it is down",), (), ())
    body = issue_body("", findings, Analysis("gemini", missing="`it was cut`"))
    assert body.endswith("### No analysis by a language model\n\n`it was cut`")
    assert body.split("### Facts")[0] == issue_body("", findings, Analysis("g", "yes")).split("### Facts")[0]


def test_news_are_what_differs() -> None:
    """By name, with the value before; new and lost values are told."""
    assert news_of({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "4", "d": "5"}) == (
        "`b`: `4` (`2` before)",
        "`d`: `5` (not known before)",
        "`c`: not known any more (`3` before)",
    )


def test_without_news_a_comment_is_one_sentence() -> None:
    """A night of repetitions stays readable."""
    findings = Findings("t", "Alert.", ("it is down",), (), (Section.of("Pod", "x"),))
    assert repeated_body("<!-- m -->", findings, None, ()) == (
        "<!-- m -->\n\nAlert. It fired again, and nothing that was collected has changed."
    )


def test_a_title_is_one_short_line() -> None:
    """A title from outside mentions nobody, and formats nothing."""
    title = issue_title("@octocat `x`\n\u202eDown " + "y" * 1000)
    assert title.startswith("\uff20octocat 'x' Down yy")
    assert len(title) == 200


def test_a_model_reads_no_more_than_people_do() -> None:
    """Its data is bounded like an issue's."""
    assert len(facts_text(HUGE)) <= BODY_CHARACTERS

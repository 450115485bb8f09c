"""Asking a language model about an alert, and telling it in an issue: one for each alert, however often it fires."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestration.analysis.issues import LABEL, is_ours, last_state, marker
from orchestration.analysis.markdown import code
from orchestration.analysis.ports import BusyError, LanguageModel
from orchestration.analysis.prompt import make_prompt, new_boundary
from orchestration.analysis.report import Analysis, Findings, facts_text, issue_body, news_of, repeated_body
from orchestration.promotion.github import GitHub, Issue
from orchestration.promotion.ports import Clock
from orchestration.promotion.problems import ProblemError

ModelOf = Callable[[], LanguageModel | None]
"""Returns the language model to ask, or None where none is set; raises `InvalidInputError` when it cannot be used."""
_LONGEST_WAIT = 60.0
"""Seconds that a busy language model is waited for, once."""
_WAIT_UNSAID = 10.0


@dataclass(frozen=True)
class Told:
    """Where an alert was told."""

    url: str
    is_new: bool
    """Whether an issue was opened; otherwise one that was open got a comment."""


def analyse(model_of: ModelOf, task: str, findings: Findings, clock: Clock) -> Analysis:
    """Ask a language model about the facts; whatever goes wrong with it, there is an analysis that says so.

    Args:
        model_of: Returns the model.
        task: What it is to find out.
        findings: The facts.
        clock: Waits when the model is busy.
    """
    try:
        model = model_of()
    except ProblemError as error:
        return Analysis(missing=code(error.problem))
    if model is None:
        return Analysis(missing="None is set (INCUMBENT_ANALYSIS_MODEL).")
    prompt = make_prompt(task, facts_text(findings), new_boundary())
    try:
        try:
            answer = model.ask(prompt)
        except BusyError as busy:
            seconds = busy.wait_seconds if busy.wait_seconds is not None else _WAIT_UNSAID
            if seconds > _LONGEST_WAIT:
                raise
            clock.sleep(seconds)
            answer = model.ask(prompt)
    except ProblemError as error:
        return Analysis(str(model), missing=code(error.problem))
    return Analysis(str(model), answer)


def tell(
    github: GitHub, author: str, key: str, findings: Findings, labels: Sequence[str], ask: Callable[[], Analysis]
) -> Told:
    """Open the alert's issue, or comment on the open one what is new.

    Args:
        github: The repository.
        author: The account that our issues and comments are made by; those of others are not touched.
        key: What the issue is about.
        findings: The facts.
        labels: Labels of a new issue, beside our own.
        ask: Returns the analysis; not asked when nothing is new.

    Raises:
        DependencyError: GitHub did not take it.
    """
    first_line = marker(key, findings.state)
    issue = _oldest(github, author, key)
    if issue is None:
        made = github.create_issue(findings.title, issue_body(first_line, findings, ask()), [LABEL, *labels])
        issue = _oldest(github, author, key)
        if issue is None or issue.number == made.number:
            return Told(made.url, is_new=True)
        github.close_issue(made.number, "not_planned")  # another run opened one meanwhile, which was first
    news = news_of(last_state(issue, github.comments(issue.number), author), findings.state)
    body = repeated_body(first_line, findings, ask() if news else None, news)
    return Told(github.comment(issue.number, body).url, is_new=False)


def _oldest(github: GitHub, author: str, key: str) -> Issue | None:
    """Return the alert's open issue; the oldest, should there be several, so that all runs agree on one."""
    ours = (issue for issue in github.issues([LABEL]) if is_ours(issue, key, author))
    return min(ours, key=lambda issue: issue.number, default=None)

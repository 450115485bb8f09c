"""Guards of the analysis of alerts, which tells strangers' texts to people and to a language model."""

from tests.guards.guard import Guard, Mutant

GUARDS = (
    Guard(
        "Facts hold no secret, neither in an issue nor in a question to a language model.",
        Mutant("analysis/report.py", "redact(visible(text)).strip", "visible(text).strip"),
        "orchestration/test_alert_analysis.py::test_hostile_texts_change_no_fact_and_mention_nobody",
    ),
    Guard(
        "A language model's answer shows no secret.",
        Mutant("analysis/markdown.py", "redact(visible(text)).strip()", "visible(text).strip()"),
        "analysis/test_markdown.py::test_secrets_are_removed_before_a_value_is_cut",
    ),
    Guard(
        "The hidden line of an issue has no secret.",
        Mutant("analysis/issues.py", "(name, redact(value))", "(name, value)"),
        "analysis/test_issues.py::test_no_secret_is_hidden_in_a_marker",
    ),
    Guard(
        "A value from outside mentions nobody.",
        Mutant(
            "analysis/markdown.py",
            "_MENTION.sub(_AT, redact(one_line(visible(text))))",
            "redact(one_line(visible(text)))",
        ),
        "analysis/test_markdown.py::test_a_value_is_one_piece_of_inline_code",
    ),
    Guard(
        "No log line gives a bot a command.",
        Mutant("analysis/markdown.py", 'QUOTE = "| "', 'QUOTE = ""'),
        "analysis/test_markdown.py::test_no_line_is_a_command_to_a_bot",
    ),
    Guard(
        "A language model's answer formats nothing but paragraphs, lists and inline code.",
        Mutant("analysis/markdown.py", r'_SPECIAL.sub(r"\\\1", text)', "text"),
        "analysis/test_markdown.py::test_a_models_answer_is_quoted_paragraphs_and_lists",
    ),
    Guard(
        "Facts do not contain the boundary that they stand between.",
        Mutant("analysis/prompt.py", 'facts.replace(boundary, "")', "facts"),
        "analysis/test_prompt.py::test_facts_stand_between_two_lines_that_nobody_can_guess",
    ),
    Guard(
        "Nobody can know the boundary beforehand.",
        Mutant("analysis/prompt.py", "{secrets.token_hex(16)}", "END OF THE COLLECTED DATA"),
        "analysis/test_prompt.py::test_facts_stand_between_two_lines_that_nobody_can_guess",
    ),
    Guard(
        "An issue that another account made is not ours, whatever its text says.",
        Mutant("analysis/issues.py", "issue.is_open and issue.author == author and", "issue.is_open and"),
        "analysis/test_issues.py::test_any_other_issue_is_not",
    ),
    Guard(
        "An issue is ours by its first line alone: what a text from outside says further down does not count.",
        Mutant(
            "analysis/issues.py",
            r'_MARKER.fullmatch(text.partition("\n")[0].rstrip("\r"))',
            "_MARKER.search(text)",
        ),
        "analysis/test_issues.py::test_any_other_issue_is_not",
    ),
    Guard(
        "A drift alert does nothing unless its own numbers say that the model is worse than its baseline.",
        Mutant("commands/drift.py", "if not drift.is_confirmed(known.metric):", "if False:"),
        "orchestration/test_drift.py::test_without_a_number_below_the_baseline_nothing_is_done",
    ),
    Guard(
        "Of an error, more is worse: an alert on one does what the policy says, and one that is better does not.",
        Mutant("analysis/drift.py", "self.current > self.baseline if is_error(metric) else ", ""),
        "orchestration/test_drift.py::test_of_an_error_more_is_worse",
    ),
    Guard(
        "A drift alert about a version that is the champion no more changes nothing.",
        Mutant("commands/drift.py", "if drift.version not in (None, known.champion.number):", "if False:"),
        "orchestration/test_drift.py::test_a_champion_that_was_not_measured_is_left_alone",
    ),
    Guard(
        "A drift alert is about the policy that it names, and about no other of the same model.",
        Mutant("commands/drift.py", ' and drift.policy in ("", policy.name)', ""),
        "orchestration/test_drift.py::test_only_the_policy_that_the_alert_names_is_acted_on",
    ),
    Guard(
        "A drift alert holds a policy once for each champion: what a person resumed stays resumed.",
        Mutant(
            "commands/drift.py",
            "if (before := _held_before(history.acts, known.champion.number)) is not None:",
            "if before := None:",
        ),
        "orchestration/test_drift.py::test_a_hold_is_made_once_for_each_champion",
    ),
    Guard(
        "A drift alert goes one step back, and no second one.",
        Mutant("commands/drift.py", "if attempt.by == BY and attempt.identity.version == champion:", "if False:"),
        "orchestration/test_drift.py::test_it_goes_back_once_and_no_further",
    ),
    Guard(
        "A person who returns to a version that had drifted is not overruled.",
        Mutant("commands/drift.py", "if attempt.by == BY and attempt.returns_from == str(champion):", "if False:"),
        "orchestration/test_drift.py::test_a_person_who_returns_to_the_drifted_version_is_not_overruled",
    ),
)

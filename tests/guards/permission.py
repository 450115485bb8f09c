"""Guards of holds, freezes and approvals."""

from tests.guards.guard import Guard, Mutant

GUARDS = (
    Guard(
        "A hold, a freeze or a missing approval ends the stage as waiting.",
        Mutant("stages/permission.py", "if blocked is not None:", "if False:"),
        "orchestration/test_permission.py::test_a_held_policy_commits_nothing_until_it_is_resumed",
    ),
    Guard(
        "Permission is asked on each head that is pushed on.",
        Mutant(
            "stages/manifest_commit.py",
            "    require_permission(promotion, pinned_digest(candidate.deployed), made, checklist)\n",
            "",
        ),
        "orchestration/test_permission.py::test_a_hold_that_arrives_while_the_branch_is_contended_counts",
    ),
    Guard(
        "The last look before a push reads the acts anew.",
        Mutant(
            "stages/manifest_commit.py",
            "made = act_tags(promotion.clients.git, promotion.policy.name)",
            "made = promotion.act_tags",
        ),
        "orchestration/test_permission.py::test_a_hold_that_arrives_while_the_branch_is_contended_counts",
    ),
    Guard(
        "A hold blocks.",
        Mutant(
            "promotion/permission.py",
            "findings = [_hold(policy, acts), _freeze(policy, now)]",
            "findings = [_freeze(policy, now)]",
        ),
        "promotion/test_permission.py::test_nothing_blocks_where_nothing_is_asked_for",
    ),
    Guard(
        "A freeze window blocks.",
        Mutant(
            "promotion/permission.py",
            "findings = [_hold(policy, acts), _freeze(policy, now)]",
            "findings = [_hold(policy, acts)]",
        ),
        "promotion/test_permission.py::test_nothing_blocks_where_nothing_is_asked_for",
    ),
    Guard(
        "A policy with `approval` needs approvals.",
        Mutant("promotion/permission.py", "if policy.approval is not None:", "if False:"),
        "promotion/test_permission.py::test_all_that_blocks_is_told_at_once",
    ),
    Guard(
        "As many people approve as the policy asks for.",
        Mutant("promotion/approvals.py", "len(self.given) >= self.rule.count", "len(self.given) >= 1"),
        "promotion/test_permission.py::test_as_many_people_as_the_policy_asks_for",
    ),
    Guard(
        "An approval is of one image, by its digest.",
        Mutant("promotion/approvals.py", "if act.digest != digest:", "if False:"),
        "promotion/test_permission.py::test_an_approval_that_does_not_count_is_explained",
    ),
    Guard(
        "An approval is of one version.",
        Mutant("promotion/approvals.py", "if act.version != version:", "if False:"),
        "promotion/test_permission.py::test_an_approval_that_does_not_count_is_explained",
    ),
    Guard(
        "Only the policy's approvers approve.",
        Mutant("promotion/approvals.py", "claimed = listed.get(act.by.casefold())", "claimed = act.by"),
        "promotion/test_permission.py::test_as_many_people_as_the_policy_asks_for",
    ),
    Guard(
        "Where signatures are asked for, only they count.",
        Mutant("promotion/approvals.py", "name = signers.get(act.tag) if rule.signed else claimed", "name = claimed"),
        "promotion/test_permission.py::test_where_signatures_are_asked_for_only_they_count",
    ),
    Guard(
        "The newest of hold and resume counts.",
        Mutant("promotion/acts.py", "reverse=True", "reverse=False"),
        "promotion/test_acts.py::test_the_newest_of_hold_and_resume_counts",
    ),
    Guard(
        "An act is told by its tag's whole name.",
        Mutant("promotion/acts.py", "_NAME.fullmatch(tag)", "_NAME.match(tag)"),
        "promotion/test_acts.py::test_other_tags_are_no_acts",
    ),
    Guard(
        "What a person writes in an act becomes no trailer.",
        Mutant("promotion/acts.py", "{one_line(value)}", "{value}"),
        "promotion/test_acts.py::test_a_message_cannot_lift_or_forge_a_hold",
    ),
    Guard(
        "A freeze ends when its window does.",
        Mutant("promotion/freeze.py", "is not None and end > now}", "is not None and end >= now}"),
        "promotion/test_freeze.py::test_a_window_is_open_from_its_start_and_not_at_its_end",
    ),
    Guard(
        "Windows that overlap or touch are one freeze.",
        Mutant("promotion/freeze.py", "if later <= until:", "if True:"),
        "promotion/test_freeze.py::test_windows_that_overlap_or_touch_are_one_freeze",
    ),
    Guard(
        "A signature counts for the tag whose name it signs.",
        Mutant(
            "adapters/git/signatures.py", "own = [tag for tag in tags if _is_named(mirror, tag)]", "own = list(tags)"
        ),
        "adapters/test_git_signatures.py::test_a_signature_counts_for_one_tag",
        needs_programs=True,
    ),
    Guard(
        "Keys that only this machine trusts sign for nobody.",
        Mutant(
            "adapters/git/signatures.py", 'settings = {"gpg.ssh.allowedSignersFile": str(allowed), ', "settings = {"
        ),
        "adapters/test_git_signatures.py::test_a_key_that_only_this_machine_trusts_signs_for_nobody",
        needs_programs=True,
    ),
    Guard(
        "A policy's approvers can meet its count.",
        Mutant("promotion/policy.py", "if self.count > len(self.by):", "if False:"),
        "promotion/test_policy.py::test_each_wrong_field_is_named",
    ),
    Guard(
        "Each approver has a key of their own.",
        Mutant(
            "promotion/policy.py",
            "if any(same_key(key, other) for at, key in enumerate(keys) for other in keys[:at]):",
            "if False:",
        ),
        "promotion/test_policy.py::test_each_wrong_field_is_named",
    ),
)

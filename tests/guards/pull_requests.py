"""Guards of the delivery by pull requests."""

from tests.guards.guard import Guard, Mutant

_STORIES = "orchestration/test_pull_requests.py"
_RETURNS = "orchestration/test_returns_by_request.py"
_CONTRACT = "adapters/test_pull_requests_contract.py"

GUARDS = (
    Guard(
        "A request is looked for before one is opened.",
        Mutant(
            "adapters/github_requests.py",
            "        if found is not None and found.state is RequestState.OPEN:\n            return found\n",
            "",
        ),
        f"{_CONTRACT}::test_a_request_is_opened_once[github]",
        raises="RefusedError",
    ),
    Guard(
        "What was merged without its trailers counts only with the proposed image.",
        Mutant(
            "promotion/merge_wait.py",
            "return proposed is not None and image_at(git, policy, request.merge_commit) == proposed",
            "return True",
        ),
        f"{_STORIES}::test_what_a_person_changed_before_the_merge_is_not_the_promotion",
    ),
    Guard(
        "A request that a person closed is a refusal.",
        Mutant(
            "stages/manifest_commit.py",
            "    require_not_refused(promotion, Checklist())\n",
            "",
        ),
        f"{_STORIES}::test_a_request_that_a_person_closes_is_a_refusal",
    ),
    Guard(
        "What we closed ourselves is no person's refusal.",
        Mutant("adapters/closings.py", "return by, by in marked", "return by, False"),
        f"{_CONTRACT}::test_who_closed_a_request_is_known[github]",
    ),
    Guard(
        "Who opens a request again that we withdrew, and closes it, has refused it.",
        Mutant("adapters/closings.py", "                marked.clear()\n", "                pass\n"),
        f"{_CONTRACT}::test_a_person_who_closes_what_they_reopened_has_refused_it[github]",
    ),
    Guard(
        "A request that ended before the commit was proposed is another one's.",
        Mutant(
            "promotion/merge_wait.py",
            "if request is None or request.ended_at is None or request.ended_at >= proposal.commit.committed_at:",
            "if True:",
        ),
        f"{_STORIES}::test_a_refusal_is_of_the_request_that_was_closed",
    ),
    Guard(
        "A hold closes the request, so that nobody merges it.",
        Mutant(
            "stages/pull_request.py",
            "(ended.state is State.WAITING and not is_forbidden)",
            "ended.state is State.WAITING",
        ),
        f"{_STORIES}::test_a_hold_closes_the_request_until_it_is_resumed",
    ),
    Guard(
        "The request of a version that the alias does not name any more is closed.",
        Mutant("commands/watching.py", "or _proposed(look, host, policy, named) or goes_on", "or goes_on"),
        f"{_STORIES}::test_removing_the_alias_closes_the_request",
    ),
    Guard(
        "The newer challenger closes the older one's request.",
        Mutant("stages/manifest_commit.py", "    withdraw_others(promotion)\n", ""),
        f"{_STORIES}::test_a_run_of_the_newer_challenger_closes_it_as_well",
    ),
    Guard(
        "A request that was merged while it was being closed is not superseded.",
        Mutant(
            "stages/pull_request.py",
            "if request is not None and is_merged_as_proposed(git, policy, proposal, request):",
            "if False:",
        ),
        f"{_STORIES}::test_a_request_merged_while_it_is_closed_counts_as_merged",
    ),
    Guard(
        "Nobody's commit on the request's branch is overwritten.",
        Mutant(
            "promotion/merge_wait.py",
            'return request.has_conflict and request.head in ("", proposal.commit.commit)',
            "return request.has_conflict",
        ),
        f"{_STORIES}::test_a_conflict_on_a_branch_that_a_person_works_on_is_theirs",
    ),
    Guard(
        "A commit that lost its trailers is told by Git all the same.",
        Mutant("adapters/git/history.py", "commits = _with_merged(mirror, head, commits)\n        if", "if"),
        f"{_CONTRACT}::test_each_way_of_merging_is_recognised[github]",
    ),
    Guard(
        "The host merges no other commit than the one that was judged.",
        Mutant("adapters/gitlab_requests.py", '{"sha": commit, "squash"', '{"squash"'),
        f"{_CONTRACT}::test_gitlab_merges_by_itself",
    ),
    Guard(
        "Gitea, which keeps no commit for a merge that waits, is asked to merge only the one that was judged.",
        Mutant("adapters/gitea_requests.py", "            if head != commit:\n", "            if False:\n"),
        f"{_CONTRACT}::test_gitea_merges_by_itself[True]",
    ),
    Guard(
        "A request from a branch of our name in a fork is not ours.",
        Mutant(
            "adapters/gitea_requests.py",
            '(head["label"], base["ref"], head["repo_id"]) == (branch, self._base, base["repo_id"])',
            '(head["label"], base["ref"]) == (branch, self._base)',
        ),
        f"{_CONTRACT}::test_gitea_finds_the_newest_of_the_repositorys_own",
    ),
    Guard(
        "A request that Gitea has yet to check is not made anew as if it had a conflict.",
        Mutant(
            "adapters/gitea_requests.py",
            "        if parent == base:\n            return False\n",
            "        return True\n",
        ),
        f"{_CONTRACT}::test_gitea_has_not_looked_for_a_conflict_yet",
    ),
    Guard(
        "A rollback that waits for its merge is gone on with, whatever the version's tags say.",
        Mutant("stages/cut_off.py", "    _finish_proposed_rollback(promotion, view)\n", ""),
        f"{_STORIES}::test_an_abort_that_waits_for_its_merge_keeps_the_version_from_being_judged",
    ),
    Guard(
        "A rollback that was merged is finished, although the alias does not name its version.",
        Mutant(
            "commands/watching.py",
            "(known for known in asked if known.model == policy.model and known.version not in open_ones)",
            "(known for known in ())",
        ),
        f"{_RETURNS}::test_a_merged_return_that_is_aborted_goes_back_by_a_request",
    ),
    Guard(
        "A return is proposed where the branch is protected.",
        Mutant(
            "stages/return_commit.py",
            "    if rolls_back_by_request(policy):\n        pushed",
            "    if False:\n        pushed",
        ),
        "orchestration/test_merges_told.py::test_a_return_that_waits_for_its_merge_is_told",
        raises="DependencyError",
    ),
    Guard(
        "A return whose request a person closed is over.",
        Mutant("stages/return_request.py", "    if refused is not None:\n", "    if False:\n"),
        f"{_RETURNS}::test_a_person_who_closes_the_request_keeps_what_serves",
    ),
    Guard(
        "A return leaves only what it was asked to leave.",
        Mutant(
            "promotion/merge_wait.py",
            "return before is not None and before == image_at(git, policy, head)",
            "return True",
        ),
        f"{_RETURNS}::test_a_return_ends_when_the_image_that_it_was_to_leave_is_gone",
    ),
    Guard(
        "An abort of a return counts, whatever the host said then.",
        Mutant("stages/return_request.py", "    if act is not None:\n", "    if False:\n"),
        f"{_RETURNS}::test_an_abort_while_the_host_is_down_is_finished_later",
    ),
    Guard(
        "No promotion is proposed while a return waits for its merge.",
        Mutant("stages/judge_candidate.py", "    if after is not None:\n", "    if False:\n"),
        f"{_RETURNS}::test_a_challenger_waits_for_the_end_of_the_return",
    ),
    Guard(
        "The request of a promotion is closed while a return waits for its merge.",
        Mutant("stages/return_request.py", "        _withdraw_promotions(promotion, identity)\n", ""),
        f"{_RETURNS}::test_a_challenger_waits_for_the_end_of_the_return",
    ),
    Guard(
        "What a person decided about a return is in Git before the host is asked.",
        Mutant("stages/cut_off.py", "    finish_proposed_return(promotion)\n", ""),
        f"{_RETURNS}::test_a_host_that_is_down_is_asked_again_by_the_sensor",
    ),
    Guard(
        "The text of a request shows values from outside as nothing but themselves.",
        Mutant(
            "stages/pull_request.py",
            "request_body(MergeOf.PROMOTION, intro, facts, proved, code, str(identity))",
            "request_body(MergeOf.PROMOTION, intro, facts, proved, lambda value, characters=500: str(value), '')",
        ),
        f"{_STORIES}::test_the_text_of_a_request_mentions_nobody",
    ),
)

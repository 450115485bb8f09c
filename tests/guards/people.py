"""Guards of what people decide by a command."""

from tests.guards.guard import Guard, Mutant

GUARDS = (
    Guard(
        "A return's image can still be pulled.",
        Mutant(
            "stages/return_commit.py",
            "if image is not None and desk.clients.images.resolve(image) is not None:",
            "if image is not None:",
        ),
        "orchestration/test_returns.py::test_an_image_that_is_gone_is_refused_before_the_commit",
        raises="UnfinishedError",
    ),
    Guard(
        "A promotion under way is ended before a return.",
        Mutant("stages/return_commit.py", "if open_promotion is not None:", "if False:"),
        "orchestration/test_returns.py::test_another_promotion_under_way_is_ended_first",
    ),
    Guard(
        "A return goes to a version that was verified.",
        Mutant("promotion/reigns.py", "if attempt.end is End.CHAMPION", "if attempt.end is not End.UNDER_WAY"),
        "promotion/test_reigns.py::test_champions_are_what_was_verified_or_adopted_and_not_taken_back",
    ),
    Guard(
        "An evidence tag of another commit makes no champion in the history.",
        Mutant(
            "promotion/reigns.py",
            "self._verified_at.get((identity.evidence_tag, commit.commit))",
            "next((at for (name, _), at in self._verified_at.items() if name == identity.evidence_tag), None)",
        ),
        "promotion/test_reigns.py::test_tags_of_another_commit_verify_nothing",
    ),
    Guard(
        "A version that a person left is returned to only by its number.",
        Mutant(
            "stages/return_commit.py",
            "champion.version not in excluded and not champion.left",
            "champion.version not in excluded",
        ),
        "orchestration/test_returns.py::test_a_named_champion_is_returned_to_and_each_step_goes_further_back",
    ),
    Guard(
        "A return overwrites no image that changed meanwhile.",
        Mutant("stages/return_commit.py", "str(deployed), expected=first.image)", "str(deployed))"),
        "orchestration/test_returns.py::test_an_image_that_changes_meanwhile_is_not_overwritten",
    ),
    Guard(
        "A wrong answer holds a return.",
        Mutant("stages/prove_return.py", "if len(recorded.wrong) >= policy.gate.wrong_answers:", "if False:"),
        "orchestration/test_returns.py::test_a_wrong_answer_holds_and_takes_nothing_back",
    ),
    Guard(
        "A return whose pods serve another model is held.",
        Mutant(
            "stages/prove_return.py",
            "wrong = next((pod.problem for pod in served if pod.problem), None)",
            "wrong = None",
        ),
        "orchestration/test_returns.py::test_pods_that_serve_another_version_hold_a_return",
    ),
    Guard(
        "The version that a return left is promoted again by a retry alone.",
        Mutant("stages/serving_model.py", "    record_left(promotion, committed)\n", ""),
        "orchestration/test_returns.py::test_the_version_that_was_left_is_promoted_again_by_retry_alone",
        raises="InvalidInputError",
    ),
    Guard(
        "What was verified already is not aborted.",
        Mutant("stages/abort.py", "if live and state is not None and state.is_under_way_on_branch:", "if False:"),
        "orchestration/test_abort.py::test_what_is_verified_already_is_left_by_a_rollback",
    ),
    Guard(
        "An abort counts for the requests before it alone.",
        Mutant(
            "promotion/merge_wait.py",
            "return act if act is not None and act.at >= (parse_time(requested_at) or 0.0) else None",
            "return act",
        ),
        "orchestration/test_abort.py::test_what_is_not_committed_is_refused",
    ),
    Guard(
        "Nothing is adopted while a promotion is under way.",
        Mutant("stages/adopt.py", "    _require_nothing_under_way(promotion, view)\n", ""),
        "orchestration/test_adopt.py::test_what_is_under_way_is_not_adopted",
    ),
    Guard(
        "What is adopted is what the manifest has.",
        Mutant("stages/adopt.py", "    _require_in_manifest(promotion, view, deployed)\n", ""),
        "orchestration/test_adopt.py::test_what_does_not_serve_is_refused",
    ),
    Guard(
        "What is adopted runs in each pod, by its digest.",
        Mutant("stages/adopt.py", 'if one.name in ("image", "digests")), None)', "if False), None)"),
        "orchestration/test_adopt.py::test_what_does_not_serve_is_refused",
    ),
    Guard(
        "What is adopted answers its recorded requests.",
        Mutant("stages/adopt.py", "if recorded.is_complete and not too_many_wrong:", "if True:"),
        "orchestration/test_adopt.py::test_what_does_not_serve_is_refused",
    ),
    Guard(
        "What is adopted serves no other model, by its pods' word.",
        Mutant("stages/adopt.py", "other = next((pod.problem for pod in served if pod.problem), None)", "other = None"),
        "orchestration/test_adopt.py::test_pods_that_serve_another_version_are_not_adopted",
    ),
    Guard(
        "What is adopted fits the nodes and names this version.",
        Mutant("stages/adopt.py", "    judge_image(promotion, view, image, Checklist())\n", ""),
        "orchestration/test_adopt.py::test_an_image_of_another_version_is_not_adopted",
    ),
    Guard(
        "Who and why are given for every decision.",
        Mutant("cli/run.py", "if not value.strip():", "if False:"),
        "orchestration/test_cli_serving.py::test_a_reason_is_required",
    ),
)

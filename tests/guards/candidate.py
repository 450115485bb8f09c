"""Guards of judging a candidate."""

from tests.guards.guard import Guard, Mutant

GUARDS = (
    Guard(
        "The challenger alias names the version.",
        Mutant(
            "stages/judge_candidate.py", "if named is None or named.version != version.version:", "if named is None:"
        ),
        "orchestration/test_promotion.py::test_a_newer_challenger_supersedes_one_that_waits",
    ),
    Guard(
        "The version is newer than the champion.",
        Mutant(
            "stages/judge_candidate.py", "if champion is not None and champion.version >= version.version:", "if False:"
        ),
        "orchestration/test_plan.py::test_a_version_that_the_alias_would_not_help_is_foreseen_as_refused",
    ),
    Guard(
        "An adopted champion is never refused by a run.",
        Mutant(
            "stages/judge_candidate.py",
            "if champion is not None and champion.version == version.version and version.state",
            "if False and version.state",
        ),
        "orchestration/test_adopt.py::test_an_adopted_champion_is_never_refused_by_a_run",
    ),
    Guard(
        "A version that has ended comes back only by a retry.",
        Mutant(
            "promotion/branch_standing.py",
            "if state in (State.REFUSED, State.REJECTED, State.ROLLED_BACK, State.FORMER_CHAMPION):",
            "if False:",
        ),
        "promotion/test_branch_standing.py::test_standing",
    ),
    Guard(
        "A version that was taken back comes back only by a retry, also when its tags are lost.",
        Mutant("promotion/branch_standing.py", "if newest.rollback is not None:", "if False:"),
        "promotion/test_branch_standing.py::test_standing",
    ),
    Guard(
        "A version whose commit stands is not committed again.",
        Mutant(
            "promotion/branch_standing.py",
            "if has_our_image and (later is None or later.identity.digest != newest.identity.digest):",
            "if False:",
        ),
        "promotion/test_branch_standing.py::test_standing",
    ),
    Guard(
        "No two commits have one promotion id: each attempt is numbered by those before it.",
        Mutant("promotion/branch_standing.py", "MayCommit(1 + len(attempts))", "MayCommit(1)"),
        "promotion/test_branch_standing.py::test_standing",
    ),
    Guard(
        "Another version's promotion under way is finished first.",
        Mutant("stages/judge_candidate.py", "unfinished = _unfinished_promotion(promotion, view)", "unfinished = None"),
        "orchestration/test_promotion.py::test_a_committed_version_is_finished_before_the_next",
    ),
    Guard(
        "A committed version whose tags were lost still counts as under way.",
        Mutant("promotion/branch_view.py", "return (live, other) if stands and not is_over else None", "return None"),
        "orchestration/test_ends.py::test_a_version_that_lost_its_tags_is_finished_before_the_next",
    ),
    Guard(
        "The training run is FINISHED.",
        Mutant("promotion/quality.py", 'if run.status != "FINISHED":', "if False:"),
        "promotion/test_quality.py::test_only_a_finished_run_proves_training",
    ),
    Guard(
        "A metric keeps its threshold.",
        Mutant("promotion/quality.py", "if bound.is_kept_by(value):", "if True:"),
        "promotion/test_quality.py::test_thresholds_and_margins_hold_exactly_at_their_bounds",
    ),
    Guard(
        "A metric that is NaN or infinite keeps no bound.",
        Mutant("promotion/quality.py", "if value is None or not math.isfinite(value):", "if value is None:"),
        "promotion/test_quality.py::test_a_metric_that_is_not_a_number_is_refused",
    ),
    Guard(
        "A metric is no worse than the champion's.",
        Mutant("promotion/quality.py", "problem = problem or _comparison_problem(bound, run, champion_run)", "pass"),
        "promotion/test_quality.py::test_thresholds_and_margins_hold_exactly_at_their_bounds",
    ),
    Guard(
        "Two runs are compared on the same data alone.",
        Mutant("promotion/quality.py", "if not digests or digests != champion_digests:", "if False:"),
        "promotion/test_quality.py::test_runs_on_different_or_unknown_data_are_refused_with_the_lines_that_log_it",
    ),
    Guard(
        "Runs whose data is not known are not compared.",
        Mutant(
            "promotion/quality.py", "if not digests or digests != champion_digests:", "if digests != champion_digests:"
        ),
        "promotion/test_quality.py::test_runs_on_different_or_unknown_data_are_refused_with_the_lines_that_log_it",
    ),
    Guard(
        "A champion without its run cannot be compared with.",
        Mutant(
            "stages/judge_candidate.py", "if champion is not None and champion_run is None and compared:", "if False:"
        ),
        "orchestration/test_promotion.py::test_a_champion_without_its_run_is_incomparable",
    ),
    Guard(
        "The version has recorded requests of its own.",
        Mutant(
            "stages/judge_candidate.py",
            "        recording = recording or _no_recording(version)\n",
            "        if recording is None:\n            continue\n",
        ),
        "orchestration/test_promotion.py::test_without_recorded_requests_there_is_no_candidate",
    ),
    Guard(
        "The champion's recorded requests fit the candidate's signature.",
        Mutant(
            "stages/judge_candidate.py", "if misfit is not None:", "if misfit is not None and whose == 'candidate':"
        ),
        "orchestration/test_candidates.py::test_a_candidate_that_does_not_take_the_champions_requests_is_refused",
    ),
    Guard(
        "The version's recorded requests fit its signature.",
        Mutant("stages/judge_candidate.py", "if misfit is not None:", "if misfit is not None and whose == 'champion':"),
        "orchestration/test_asking.py::test_requests_of_another_protocol_are_refused_before_the_commit",
    ),
    Guard(
        "An image that is not published by its deadline refuses the version.",
        Mutant(
            "stages/judge_candidate.py",
            "_not_in_time(promotion, chosen, found))",
            "_not_in_time(promotion, chosen, found), State.WAITING)",
        ),
        "orchestration/test_promotion.py::test_an_image_that_is_never_published_is_refused",
    ),
    Guard(
        "No image is waited for under the lease.",
        Mutant("stages/judge_candidate.py", "if promotion.lease.is_held:  # others", "if False:  # others"),
        "orchestration/test_promotion.py::test_an_image_is_not_waited_for_under_the_lease",
    ),
    Guard(
        "A run that waits for its image stops when the alias names another version.",
        Mutant(
            "stages/judge_candidate.py",
            "        clock.sleep(_POLL_SECONDS)\n        require_alias(promotion, checklist)\n",
            "        clock.sleep(_POLL_SECONDS)\n",
        ),
        "orchestration/test_promotion.py::test_a_newer_challenger_supersedes_one_that_waits",
    ),
    Guard(
        "A run that waits without the lease gives signs of life.",
        Mutant("stages/judge_candidate.py", "            promotion.record.give_sign_of_life()\n", ""),
        "orchestration/test_candidates.py::test_a_run_that_waits_for_an_image_keeps_giving_signs_of_life",
    ),
    Guard(
        "An image has a signature by the key or the identity that the policy names.",
        Mutant(
            "stages/judge_signature.py",
            "if problem is not None:\n        raise checklist.failed",
            "if False:\n        raise checklist.failed",
        ),
        "orchestration/test_image_signatures.py::test_a_wrong_signature_is_refused_at_once",
    ),
    Guard(
        "An image that is not signed by its deadline refuses the version.",
        Mutant(
            "stages/judge_signature.py",
            "        return NOT_SIGNED if self._promotion.policy.signature",
            "        return found if self._promotion.policy.signature",
        ),
        "orchestration/test_image_signatures.py::test_an_image_is_signed_some_moments_after_its_push",
    ),
    Guard(
        "The image that serves addresses is signed as well.",
        Mutant(
            "stages/judge_address.py",
            "        require_signature(promotion, with_signatures(promotion, image.resolved), checklist)\n",
            '        checklist.passed("image_signed", "believed")\n',
        ),
        "orchestration/test_image_signatures.py::test_the_image_that_serves_an_address_is_verified",
    ),
    Guard(
        "Where the platform chooses the image, no signature is taken for granted.",
        Mutant("stages/judge_address.py", "        if policy.signature is not None:\n", "        if False:\n"),
        "orchestration/test_image_signatures.py::test_a_platforms_own_image_cannot_be_verified",
    ),
    Guard(
        "A signature of another image does not count.",
        Mutant(
            "promotion/image_signatures.py",
            "of_image = [each for each in ours if each.digest == image.digest]",
            "of_image = ours",
        ),
        "adapters/test_cosign.py::test_a_signature_of_another_image_does_not_count",
    ),
    Guard(
        "A signature for another repository does not count.",
        Mutant("promotion/image_signatures.py", "each.repository is None or _same(", "True or _same("),
        "adapters/test_cosign.py::test_a_signature_of_another_image_does_not_count",
    ),
    Guard(
        "A signature that the key did not make does not count.",
        Mutant("adapters/cosign.py", "        return False\n    return True\n", "        pass\n    return True\n"),
        "adapters/test_cosign.py::test_a_changed_signature_does_not_count",
    ),
    Guard(
        "What is signed by the key without being cosign's payload does not count.",
        Mutant("adapters/cosign.py", '        fault = fault or "no signature of an image"\n', "        pass\n"),
        "adapters/test_cosign.py::test_a_changed_signature_does_not_count",
    ),
    Guard(
        "A signature of another identity does not count.",
        Mutant(
            "adapters/keyless.py",
            "Identity(identity=wanted.identity, issuer=wanted.issuer)",
            '__import__("sigstore.verify.policy", fromlist=["policy"]).OIDCIssuer(wanted.issuer)',
        ),
        "adapters/test_keyless.py::test_who_or_what_is_wrong_does_not_count",
    ),
    Guard(
        "A signature of an identity that another issuer vouches for does not count.",
        Mutant("adapters/keyless.py", "issuer=wanted.issuer)", "issuer=None)"),
        "adapters/test_keyless.py::test_who_or_what_is_wrong_does_not_count",
    ),
    Guard(
        "A bundle that Sigstore's library does not verify does not count.",
        Mutant("adapters/keyless.py", "Envelope(*claimed(bundle), _words(error))", "Envelope(*claimed(bundle), None)"),
        "adapters/test_keyless.py::test_no_change_of_a_bundle_is_taken_or_crashes",
    ),
    Guard(
        "A signature without a proof that it was logged is no identity's.",
        Mutant("adapters/keyless.py", "        return _OLDER\n", "        return None\n"),
        "adapters/test_keyless.py::test_cosigns_older_format_is_refused_by_name",
    ),
    Guard(
        "An identity is nobody without its issuer.",
        Mutant("promotion/policy.py", "if (self.identity is None) != (self.issuer is None):", "if False:"),
        "promotion/test_policy.py::test_each_wrong_field_is_named",
    ),
    Guard(
        "An attestation about an image is no signature of it.",
        Mutant("adapters/cosign.py", 'or statement.get("predicateType") != _SIGNED:', "or False:"),
        "adapters/test_cosign.py::test_what_is_not_signed_does_not_count",
    ),
    Guard(
        "The image has a platform of the cluster's nodes.",
        Mutant("stages/judge_address.py", "if wanted & offered:", "if True:"),
        "orchestration/test_candidates.py::test_an_image_for_other_nodes_is_refused",
    ),
    Guard(
        "The image names no other model than this version.",
        Mutant(
            "stages/judge_candidate.py",
            "found = (image_problem(platform.environment, version) for platform in image.platforms)",
            "found = ()",
        ),
        "orchestration/test_promotion.py::test_an_image_of_another_version_is_refused",
    ),
    Guard(
        "The manifest names no other model than this version.",
        Mutant(
            "stages/judge_candidate.py",
            "problems = [manifest_problem(place, variable.value, version, promotion.how_to_retry)]",
            "problems = []",
        ),
        "orchestration/test_what_serves.py::test_a_manifest_that_names_another_model_is_refused_before_the_commit",
    ),
    Guard(
        "An image that follows an alias or a stage is refused.",
        Mutant(
            "promotion/served_model.py",
            'if uri == f"models:/{version.model}/{version.version}":',
            'if uri.startswith(f"models:/{version.model}"):',
        ),
        "promotion/test_served_model.py::test_an_image_of_another_model_is_refused",
    ),
    Guard(
        "A copied version is known by its originals alone, and only as far as they are followed.",
        Mutant("promotion/originals.py", "len(originals) < _MOST_COPIES", "len(originals) < 10 * _MOST_COPIES"),
        "orchestration/test_what_serves.py::test_a_copy_is_followed_no_further_than_needed",
    ),
    Guard(
        "Of a metric's values on several data sets, none is taken by chance.",
        Mutant(
            "promotion/logged_model.py", "return None, frozenset(named)", "return _newest(values), frozenset(named)"
        ),
        "promotion/test_logged_model.py::test_values_on_several_data_sets_decide_nothing",
    ),
    Guard(
        "What another run measured is not taken for measured on the training run's data.",
        Mutant("promotion/logged_model.py", " if newest.run_id == run.run_id else frozenset()", ""),
        "promotion/test_logged_model.py::test_models_are_compared_on_the_data_of_their_own_numbers",
    ),
    Guard(
        "The image is in the policy's one repository.",
        Mutant("promotion/images.py", "if image.repository != repository:", "if False:"),
        "promotion/test_images.py::test_foreign_malformed_and_contradictory_tags_are_refused",
    ),
    Guard(
        "An image reference matches the OCI grammar as a whole.",
        Mutant("promotion/images.py", "_REFERENCE.fullmatch(text)", "_REFERENCE.match(text)"),
        "promotion/test_images.py::test_what_is_not_a_reference_as_a_whole_is_none",
    ),
    Guard(
        "A malformed image tag of a version is refused, and never ignored.",
        Mutant("promotion/images.py", "if value is not None and not grammar(value):", "if False:"),
        "promotion/test_images.py::test_foreign_malformed_and_contradictory_tags_are_refused",
    ),
    Guard(
        "The image tags of a version do not contradict each other.",
        Mutant(
            "promotion/images.py", "if in_image is not None and in_tag is not None and in_image != in_tag:", "if False:"
        ),
        "promotion/test_images.py::test_foreign_malformed_and_contradictory_tags_are_refused",
    ),
    Guard(
        "A Git commit that names an image is a whole commit id.",
        Mutant("promotion/images.py", "if not _GIT_COMMIT.fullmatch(commit):", "if False:"),
        "promotion/test_images.py::test_a_run_without_a_full_commit_id_names_no_image",
    ),
    Guard(
        "A version that was refused meanwhile is not gone on with.",
        Mutant(
            "stages/judge_candidate.py",
            "if named.state(policy.name) is State.REFUSED and version.state(policy.name) is not State.REFUSED:",
            "if False:",
        ),
        "orchestration/test_abort.py::test_a_run_that_waits_for_its_image_stops",
    ),
    Guard(
        "An end before the commit is not written on a version that is on the branch by now.",
        Mutant("stages/judge_candidate.py", "if isinstance(promotion.look().standing, MayCommit):", "if True:"),
        "orchestration/test_candidates.py::test_a_look_at_a_version_that_has_ended_keeps_its_reason",
    ),
    Guard(
        "A version that has ended is not requested by `register`.",
        Mutant(
            "commands/requesting.py",
            "if state is not None and (state in (State.REFUSED, State.ROLLED_BACK, State.REJECTED) or is_held):",
            "if False:",
        ),
        "orchestration/test_requests.py::test_register_refuses_what_has_ended",
    ),
    Guard(
        "A version that a person holds is not requested by `register`.",
        Mutant(
            "commands/requesting.py",
            "state in (State.REFUSED, State.ROLLED_BACK, State.REJECTED) or is_held",
            "state in (State.REFUSED, State.ROLLED_BACK, State.REJECTED)",
        ),
        "orchestration/test_requests.py::test_register_refuses_what_a_person_holds",
    ),
    Guard(
        "A former champion is not promoted again: only a rollback leads back to it.",
        Mutant("commands/requesting.py", "if state not in (State.CHAMPION, State.FORMER_CHAMPION):", "if True:"),
        "orchestration/test_requests.py::test_a_former_champion_is_refused",
    ),
    Guard(
        "Only what has ended is retried.",
        Mutant(
            "commands/requesting.py",
            "if state not in _MAY_BE_RETRIED and not (state is State.REJECTED and not is_under_way):",
            "if False:",
        ),
        "orchestration/test_requests.py::test_retry_refuses_what_has_not_ended",
    ),
    Guard(
        "A retry after a rollback is the next attempt.",
        Mutant("commands/requesting.py", "attempt = len(attempts) + (not goes_on)", "attempt = len(attempts)"),
        "orchestration/test_requests.py::test_retry_after_a_rejection_is_the_next_attempt",
    ),
)

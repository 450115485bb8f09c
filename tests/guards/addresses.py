"""Guards of promotions that deploy the address of a model in place of an image."""

from tests.guards.guard import Guard, Mutant

GUARDS = (
    Guard(
        "An address has no characters that two programs may read in two ways.",
        Mutant("promotion/deployed.py", "(?P<rest>[A-Za-z0-9._~=+:@/-]+)", "(?P<rest>.+)"),
        "promotion/test_deployed.py::test_what_could_be_read_in_two_ways_or_holds_a_login_is_no_address",
    ),
    Guard(
        "An address holds no login.",
        Mutant(
            "promotion/deployed.py",
            'if at and (":" in login or match["scheme"] not in _CONTAINER_BEFORE_HOST):',
            "if False:",
        ),
        "promotion/test_deployed.py::test_what_could_be_read_in_two_ways_or_holds_a_login_is_no_address",
    ),
    Guard(
        "An address leaves no folder that it names.",
        Mutant("promotion/deployed.py", '{"", ".", ".."} & set(segments) or ', ""),
        "promotion/test_deployed.py::test_what_could_be_read_in_two_ways_or_holds_a_login_is_no_address",
    ),
    Guard(
        "The artifacts of a version are below the prefix that the policy names.",
        Mutant("promotion/version_image.py", " or not location.startswith(policy.artifacts_below)", ""),
        "orchestration/test_addresses.py::test_artifacts_outside_the_allowed_place_are_refused",
    ),
    Guard(
        "A place that begins with the policy's prefix and is no address is refused, whichever form is deployed.",
        Mutant("promotion/version_image.py", "address is None or not location", "not location"),
        "orchestration/test_addresses.py::test_artifacts_outside_the_allowed_place_are_refused"
        "[name-mlflow-artifacts:/1/models/%2e%2e/evil-%2e%2e]",
    ),
    Guard(
        "A refusal does not show the login of the registry's place.",
        Mutant("promotion/version_image.py", "shown(repr(location))", "repr(location)"),
        "orchestration/test_addresses.py::test_artifacts_with_a_login_are_refused_without_showing_it",
    ),
    Guard(
        "An address leads to a model that has files.",
        Mutant("promotion/version_image.py", "if location is None:", "if False:"),
        "orchestration/test_addresses.py::test_a_model_without_files_is_refused",
    ),
    Guard(
        "The version whose address is deployed is in the registry.",
        Mutant(
            "promotion/version_image.py", "if registry.version(policy.model, version.version) is None:", "if False:"
        ),
        "orchestration/test_addresses.py::test_a_version_that_is_deleted_while_it_is_judged_has_no_address",
    ),
    Guard(
        "An alias or a stage is no way back, because it may be moved meanwhile.",
        Mutant("stages/rollback_target.py", "if not address.is_fixed:", "if False:"),
        "orchestration/test_addresses.py::test_an_alias_is_no_way_back",
    ),
    Guard(
        "The version to go back to still has its files.",
        Mutant(
            "stages/rollback_target.py",
            "if version is not None and registry.model_location(version) is not None:",
            "if version is not None:",
        ),
        "orchestration/test_addresses.py::test_the_place_of_the_artifacts_is_deployed_where_the_policy_wants_it",
    ),
    Guard(
        "The image that serves the address is in its registry.",
        Mutant(
            "stages/judge_address.py",
            "image = serving_image(promotion.clients.images, policy, view.content)",
            "image = None",
        ),
        "orchestration/test_addresses.py::test_the_serving_image_must_be_there_and_fit_the_nodes",
    ),
    Guard(
        "The image that serves the address has a platform of the cluster's nodes.",
        Mutant(
            "stages/judge_address.py", "problem = architecture_problem(promotion, image.resolved)", "problem = None"
        ),
        "orchestration/test_addresses.py::test_the_serving_image_must_be_there_and_fit_the_nodes",
    ),
    Guard(
        "No variable beside the address names another model.",
        Mutant("stages/judge_address.py", "problem = _contradiction(promotion, view)", "problem = None"),
        "orchestration/test_addresses.py::test_a_variable_that_contradicts_the_argument_is_refused",
    ),
    Guard(
        "A variable whose value is elsewhere, as with `valueFrom`, is not edited.",
        Mutant(
            "promotion/manifest_place.py",
            'if value is None or get(entry, "valueFrom") is not None:',
            "if value is None:",
        ),
        "promotion/test_manifest_address.py::test_what_has_no_one_place_is_refused",
    ),
    Guard(
        "A variable that is there twice is not edited.",
        Mutant(
            "promotion/manifest_place.py",
            "if variables is None or len(entries) != 1:",
            "if variables is None or not (entries := entries[:1]):",
        ),
        "promotion/test_manifest_address.py::test_what_has_no_one_place_is_refused",
    ),
    Guard(
        "Nothing but an address is written where one stands.",
        Mutant("promotion/manifest.py", "if parse_address(image) is None:", "if False:"),
        "promotion/test_manifest_address.py::test_only_an_address_is_written",
    ),
    Guard(
        "(e) Each new pod's own spec has our address, whatever its template says.",
        Mutant(
            "promotion/rollout_conditions.py",
            "if expected.slot != IMAGE and not is_same(value, str(expected.deployed)):",
            "if False:",
        ),
        "promotion/test_rollout_of_address.py::test_a_pod_that_still_has_the_old_value_is_not_judged",
    ),
    Guard(
        "(e) New pods run the one serving image that the manifest pins.",
        Mutant("promotion/rollout_conditions.py", "if expected.is_pinned:", "if False:"),
        "promotion/test_rollout_of_address.py::test_a_serving_image_that_changed_within_the_rollout_is_not_judged",
    ),
    Guard(
        "(e) New pods of a tag run one serving image.",
        Mutant("promotion/rollout_conditions.py", " if len(running) > 1 else None", " if len(running) > 2 else None"),
        "promotion/test_rollout_of_address.py::test_pods_of_a_tag_must_run_one_image",
    ),
    Guard(
        "The server's own word proves an address, and a pod's spec does not.",
        Mutant("promotion/served_model.py", "and not one.by_server)", "and not one.confirmed)"),
        "orchestration/test_addresses.py::test_a_server_that_says_nothing_proves_nothing",
    ),
    Guard(
        "The gate of an address passes no pod whose server is silent.",
        Mutant(
            "stages/measure.py",
            "if silent := unproved(policy, scraped_pods, doubt=doubt):",
            "if silent := None:",
        ),
        "orchestration/test_addresses.py::test_a_server_that_says_nothing_proves_nothing",
    ),
    Guard(
        "No address is committed over servers that never say what they loaded.",
        Mutant(
            "stages/look_before.py",
            "return refused(SERVERS_WORD, problem)",
            'return noted(SERVERS_WORD, "silent")',
        ),
        "orchestration/test_addresses.py::test_pods_that_have_served_for_long_and_say_nothing_stop_the_commit",
    ),
    Guard(
        "A silent server is proved by its answers only if what served before gave others.",
        Mutant(
            "stages/serving_model.py",
            "        return NOT_TOLD_APART\n",
            '        return ""\n',
        ),
        "orchestration/test_addresses.py::test_a_server_that_says_nothing_proves_nothing",
    ),
    Guard(
        "Versions that answer alike are not told apart by their answers.",
        Mutant(
            "promotion/live_answers.py",
            '    return ""\n\n\ndef _is_of_a_pod',
            '    return "no difference"\n\n\ndef _is_of_a_pod',
        ),
        "orchestration/test_addresses.py::test_silent_versions_that_answer_alike_are_not_committed",
    ),
    Guard(
        "What answered at a wrong path was no model, and tells nothing apart.",
        Mutant(
            "promotion/live_answers.py",
            'asked of what serves now"\n    if (misdirected := _misdirected(policy, subject, recorded))',
            'asked of what serves now"\n    if (misdirected := None)',
        ),
        "orchestration/test_addresses.py::test_an_answer_that_is_not_the_models_tells_nothing_apart",
    ),
    Guard(
        "An error of what serves, or an answer of the service alone, tells nothing apart.",
        Mutant("promotion/live_answers.py", "not _is_silence(fault) and (is_well or fault.status < 300)", "True"),
        "promotion/test_live_answers.py::test_what_is_no_other_answer_of_a_pod_tells_nothing_apart",
    ),
    Guard(
        "Only the pod that serves shows what serves, and not what the service leads to.",
        Mutant(
            "promotion/live_answers.py",
            "for fault in recorded.wrong if _is_of_a_pod(fault)",
            "for fault in recorded.wrong",
        ),
        "promotion/test_live_answers.py::test_what_is_no_other_answer_of_a_pod_tells_nothing_apart",
    ),
    Guard(
        "Over pods of which none is ready, answers prove an address only if its server is known to follow addresses.",
        Mutant("stages/look_before.py", "if proved is not None and recording", "if recording"),
        "orchestration/test_addresses.py::test_pods_that_do_not_answer_for_a_moment_prove_nothing",
    ),
    Guard(
        "Recorded requests that were made anew after the commit prove no address.",
        Mutant("stages/serving_model.py", "if told_apart.requests != digest_of(asked.recording):", "if False:"),
        "orchestration/test_addresses.py::test_requests_that_are_recorded_anew_after_the_commit_prove_nothing",
    ),
    Guard(
        "Pods with another image than the one that was told apart prove no address by their answers.",
        Mutant("stages/serving_model.py", "if told_apart.image and any(", "if False and any("),
        "orchestration/test_addresses.py::test_another_image_may_bring_another_model",
    ),
    Guard(
        "A return to an address waits for each server's own word.",
        Mutant(
            "stages/prove_return.py",
            "silent = unproved(policy, served, doubt=doubt)",
            "silent = None",
        ),
        "orchestration/test_addresses.py::test_a_return_waits_until_each_server_says_what_it_loaded",
    ),
    Guard(
        "An address is adopted only by each server's own word.",
        Mutant(
            "stages/adopt.py",
            "other or unproved(policy, served, doubt=doubt)",
            "other",
        ),
        "orchestration/test_addresses.py::test_what_does_not_serve_is_not_adopted",
    ),
)

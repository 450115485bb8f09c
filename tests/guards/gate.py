"""Guards of the gate, its measurements and the recorded requests."""

from tests.guards.guard import Guard, Mutant

GUARDS = (
    Guard(
        "Nothing passes before the soak is over, by its start, its last evaluation and its window.",
        Mutant(
            "promotion/gate.py",
            "soaked = min(now - soak_started, last.at - soak_started, last.window) >= gate.soak",
            "soaked = True",
        ),
        "promotion/test_gate.py::test_nothing_passes_before_the_soak_is_over",
    ),
    Guard(
        "The window of real traffic is as long as the soak.",
        Mutant(
            "promotion/gate.py",
            "soaked = min(now - soak_started, last.at - soak_started, last.window) >= gate.soak",
            "soaked = min(now - soak_started, last.at - soak_started) >= gate.soak",
        ),
        "promotion/test_gate.py::test_nothing_passes_before_the_soak_is_over",
    ),
    Guard(
        "No setting lets a server answer with old evidence.",
        Mutant(
            "adapters/prometheus_access.py",
            '_OWN_PARAMETERS = ("query", "time", "nocache")',
            '_OWN_PARAMETERS = ("query", "time")',
        ),
        "adapters/test_prometheus.py::test_settings_that_cannot_be_used_are_refused",
    ),
    Guard(
        "Old evidence does not pass.",
        Mutant("promotion/gate.py", "recent = age <= gate.every + stale_after(gate)", "recent = True"),
        "promotion/test_gate.py::test_old_evidence_never_passes",
    ),
    Guard(
        "Evidence that is old again after its last recorded request does not pass.",
        Mutant("promotion/gate.py", "elif soaked and recent and not gaps:", "elif soaked and not gaps:"),
        "promotion/test_gate.py::test_a_round_that_takes_long_does_not_make_its_evaluation_old",
    ),
    Guard(
        "Each pod has as many scrapes as the policy asks for.",
        Mutant(
            "promotion/gate.py",
            "if freshness.newest_at is None or freshness.scrapes < gate.min_samples:",
            "if freshness.newest_at is None:",
        ),
        "promotion/test_gate.py::test_no_guard_lets_incomplete_evidence_pass",
    ),
    Guard(
        "Each pod's newest scrape is fresh.",
        Mutant("promotion/gate.py", "if abs(at - freshness.newest_at) > stale_after(gate):", "if False:"),
        "promotion/test_gate.py::test_no_guard_lets_incomplete_evidence_pass",
    ),
    Guard(
        "All pods are measured.",
        Mutant("promotion/gate.py", "if evaluation.wanted < 1 or len(evaluation.freshness) < owed.count:", "if False:"),
        "promotion/test_gate.py::test_no_guard_lets_incomplete_evidence_pass",
    ),
    Guard(
        "A dependency that did not answer keeps the gate shut.",
        Mutant("promotion/gate.py", "for problem in evaluation.problems:", "for problem in ():"),
        "promotion/test_gate.py::test_no_guard_lets_incomplete_evidence_pass",
    ),
    Guard(
        "A recorded request without an answer keeps the gate shut.",
        Mutant("promotion/gate.py", "if recorded.unanswered:", "if False:"),
        "promotion/test_gate.py::test_no_guard_lets_incomplete_evidence_pass",
    ),
    Guard(
        "All recorded requests are sent.",
        Mutant("promotion/gate.py", "elif recorded.due < 1 or recorded.asked < recorded.due:", "elif False:"),
        "promotion/test_gate.py::test_no_guard_lets_incomplete_evidence_pass",
    ),
    Guard(
        "An SLO without enough requests does not pass.",
        Mutant("promotion/gate.py", "elif not reading.enough:", "elif False:"),
        "promotion/test_gate.py::test_no_guard_lets_incomplete_evidence_pass",
    ),
    Guard(
        "A violation that is not confirmed does not pass.",
        Mutant("promotion/gate.py", "elif not reading.kept:", "elif False:"),
        "promotion/test_gate.py::test_no_guard_lets_incomplete_evidence_pass",
    ),
    Guard(
        "A violation is confirmed by two evaluations in a row.",
        Mutant(
            "promotion/gate.py",
            "violated = _violations(earlier, owed_then, gate)",
            "violated = _violations(later, owed, gate)",
        ),
        "promotion/test_gate.py::test_a_violation_is_confirmed_by_two_evaluations_in_a_row",
    ),
    Guard(
        "Reading the same scrape again confirms nothing.",
        Mutant(
            "promotion/gate.py",
            "if name in violated and (not reading.slo.needs_scrapes or _is_newer(later, earlier)):",
            "if name in violated:",
        ),
        "promotion/test_gate.py::test_the_same_scrape_read_twice_confirms_nothing",
    ),
    Guard(
        "A violation counts only with enough requests behind it.",
        Mutant("promotion/gate.py", "        and reading.enough\n", ""),
        "promotion/test_gate.py::test_a_violation_counts_only_with_its_minima_met",
    ),
    Guard(
        "A violation counts only with complete scrapes behind it.",
        Mutant("promotion/gate.py", "        and (scraped or not reading.slo.needs_scrapes)\n", ""),
        "promotion/test_gate.py::test_a_violation_counts_only_with_its_minima_met",
    ),
    Guard(
        "Wrong recorded answers fail the version at once.",
        Mutant(
            "promotion/gate.py",
            "if evaluation.recorded is not None and len(evaluation.recorded.wrong) >= gate.wrong_answers:",
            "if False:",
        ),
        "promotion/test_gate.py::test_a_wrong_recorded_answer_fails_at_once",
    ),
    Guard(
        "A pod that serves another version fails it at once.",
        Mutant(
            "promotion/gate.py",
            "if other := next((served.problem for seen in soak for served in seen.served if served.problem), None):",
            "if other := None:",
        ),
        "orchestration/test_measure.py::test_a_pod_that_serves_another_version_fails_at_once",
    ),
    Guard(
        "Evaluations of another pod template prove nothing.",
        Mutant(
            "promotion/gate.py",
            "lambda evaluation: evaluation.template_hash == begun_with is not None",
            "lambda evaluation: True",
        ),
        "promotion/test_gate.py::test_a_changed_template_means_soaking_again",
    ),
    Guard(
        "A query that Prometheus refuses is an error, and no verdict about the model.",
        Mutant(
            "promotion/gate.py",
            "if refused := next((problem for evaluation in soak for problem in evaluation.rejected), None):",
            "if refused := None:",
        ),
        "promotion/test_gate.py::test_a_query_that_prometheus_refuses_is_an_error_at_once",
    ),
    Guard(
        "What the platform kept from being judged is Error, and not too little data.",
        Mutant(
            "promotion/gate.py",
            "VerdictKind.ERROR if any(gap.platform_fault for gap in gaps) else VerdictKind.INCONCLUSIVE",
            "VerdictKind.INCONCLUSIVE",
        ),
        "promotion/test_gate.py::test_when_time_is_over_the_platforms_fault_is_told_from_too_little_data",
    ),
    Guard(
        "A pod that scaling adds stands in for none that is no longer scraped.",
        Mutant("promotion/gate.py", "(not young or complete < owed.count)", "not young"),
        "promotion/test_gate.py::test_a_pod_that_replaces_another_owes_its_evidence",
    ),
    Guard(
        "A scaling to nothing and back excuses no pod.",
        Mutant(
            "promotion/gate.py",
            "(evaluation.wanted or math.inf for evaluation in evaluations)",
            "(evaluation.wanted for evaluation in evaluations)",
        ),
        "promotion/test_gate.py::test_scaling_to_nothing_and_back_excuses_no_pod",
    ),
    Guard(
        "NaN and infinity are no values.",
        Mutant(
            "promotion/evaluation.py",
            "if isinstance(self.answer, Unusable) or not math.isfinite(self.answer) else",
            "if isinstance(self.answer, Unusable) else",
        ),
        "promotion/test_gate.py::test_no_guard_lets_incomplete_evidence_pass",
    ),
    Guard(
        "An answer with warnings is not believed.",
        Mutant("promotion/promql.py", "if answer.warnings:", "if False:"),
        "promotion/test_promql.py::test_only_one_fresh_finite_number_is_an_answer",
    ),
    Guard(
        "Several results are not one number.",
        Mutant("promotion/promql.py", "if len(answer.samples) > 1:", "if False:"),
        "promotion/test_promql.py::test_only_one_fresh_finite_number_is_an_answer",
    ),
    Guard(
        "An answer that was evaluated at another time is not believed.",
        Mutant("promotion/promql.py", "if abs(now - sample.at) > tolerance:", "if False:"),
        "promotion/test_promql.py::test_only_one_fresh_finite_number_is_an_answer",
    ),
    Guard(
        "An answer that is not finite is no measurement.",
        Mutant("promotion/promql.py", "if not math.isfinite(sample.value):", "if False:"),
        "promotion/test_promql.py::test_only_one_fresh_finite_number_is_an_answer",
    ),
    Guard(
        "No query is asked about no pods: it would match other workloads.",
        Mutant("promotion/promql.py", "if not pods:", "if False:"),
        "promotion/test_promql.py::test_neither_an_empty_list_of_pods_nor_an_odd_name_reaches_a_query",
    ),
    Guard(
        "Only Kubernetes names get into a query.",
        Mutant("promotion/promql.py", "if not _OBJECT_NAME.fullmatch(name):", "if False:"),
        "promotion/test_promql.py::test_neither_an_empty_list_of_pods_nor_an_odd_name_reaches_a_query",
    ),
    Guard(
        "Real errors are not diluted: recorded requests stand in only where real ones are too few.",
        Mutant(
            "stages/measure.py",
            "or real >= slo.min_requests or not traffic.may_stand_in:",
            "or not traffic.may_stand_in:",
        ),
        "orchestration/test_measure.py::test_enough_real_traffic_is_judged_alone",
    ),
    Guard(
        "With `real_only`, recorded requests meet no minimum.",
        Mutant("stages/measure.py", 'may_stand_in=gate.traffic == "replayed_ok")', "may_stand_in=True)"),
        "orchestration/test_measure.py::test_with_real_only_replayed_requests_never_meet_a_minimum",
    ),
    Guard(
        "Counters that do not tell recorded requests get a whole soak of real traffic first.",
        Mutant(
            "stages/measure.py",
            'gate.traffic == "replayed_ok" and prometheus.at - real_since >= gate.soak',
            'gate.traffic == "replayed_ok"',
        ),
        "orchestration/test_replays.py::test_without_real_traffic_recorded_requests_stand_in_after_a_whole_soak",
    ),
    Guard(
        "Counters that do not tell recorded requests are kept free of them.",
        Mutant(
            "stages/measure.py", "if policy.gate.tells_replayed or sent is None or not sent.is_complete:", "if True:"
        ),
        "orchestration/test_replays.py::test_real_traffic_is_judged_without_the_recorded_requests",
    ),
    Guard(
        "The window of real traffic begins after each pod was scraped since the last recorded request.",
        Mutant(
            "promotion/evaluation.py",
            "scrape is not None and scrape > replayed_until + COUNTED_WITHIN",
            "scrape is not None",
        ),
        "promotion/test_gate.py::test_the_window_of_real_traffic_begins_when_each_pod_was_scraped_after_the_last_recorded_request",
    ),
    Guard(
        "What serves has a value to compare with only with enough requests.",
        Mutant("stages/measure.py", "value is not None and (requests or 0.0) >= slo.min_requests", "value is not None"),
        "orchestration/test_measure.py::test_what_serves_has_no_value_with_too_few_requests",
    ),
    Guard(
        "What serves is not left out because Prometheus is down.",
        Mutant("stages/measure.py", "    if problems:\n        raise DependencyError(problems[0])\n", ""),
        "orchestration/test_measure.py::test_what_serves_is_not_left_out_because_prometheus_is_down",
    ),
    Guard(
        "An SLO does not count recorded requests where the policy can tell them from real ones.",
        Mutant("promotion/policy.py", "if slo.counts_replayed]):", "if False]):"),
        "promotion/test_policy.py::test_the_source_is_told_in_all_queries_or_in_none",
    ),
    Guard(
        "A success ratio is not bounded from above, which would pass what fails.",
        Mutant("promotion/policy.py", "            if getattr(self, wanted) is None:", "            if False:"),
        "promotion/test_policy.py::test_each_wrong_field_is_named",
    ),
    Guard(
        "The stricter of an absolute and a relative bound counts.",
        Mutant(
            "promotion/policy.py",
            "return max(absolute, relative) if self.higher_is_better else min(absolute, relative)",
            "return relative",
        ),
        "promotion/test_gate.py::test_the_stricter_of_an_absolute_and_a_relative_bound_counts",
    ),
    Guard(
        "A trailer's value that is not finite is not compared with.",
        Mutant("promotion/live_before.py", " and math.isfinite(value)", ""),
        "promotion/test_live_before.py::test_what_is_no_value_is_left_out",
    ),
    Guard(
        "Of several scrape jobs, the slowest that succeeds decides.",
        Mutant("stages/measure.py", "count = min(of_jobs, default", "count = max(of_jobs, default"),
        "orchestration/test_measure.py::test_of_several_jobs_the_slowest_that_succeeds_decides",
    ),
    Guard(
        "A count that cannot be believed meets no minimum.",
        Mutant(
            "stages/measure.py",
            "return 0.0 if isinstance(found, Unusable) and found.empty else found",
            "return 0.0 if isinstance(found, Unusable) else found",
        ),
        "orchestration/test_measure.py::test_a_count_that_cannot_be_believed_meets_no_minimum",
    ),
    Guard(
        "An answer is wrong only when it is wrong again at once.",
        Mutant("stages/replay.py", "for _ in range(2):", "for _ in range(1):"),
        "orchestration/test_measure.py::test_an_answer_is_wrong_only_when_it_is_wrong_again_at_once",
    ),
    Guard(
        "Wrong answers of a pod that is lost meanwhile do not count.",
        Mutant(
            "stages/replay.py",
            "if bad and pod is not None and (excuse := _excuse(asked.clients, asked.policy, pod, problems)):",
            "if excuse := None:",
        ),
        "orchestration/test_measure.py::test_the_answers_of_a_pod_that_is_lost_meanwhile_do_not_count",
    ),
    Guard(
        "The API server's own answer is not the model's.",
        Mutant("stages/replay.py", "if answer.from_api:", "if False:"),
        "orchestration/test_measure.py::test_the_models_own_5xx_is_wrong_and_the_apis_is_not",
    ),
    Guard(
        "A request without an answer is not a wrong answer.",
        Mutant("stages/replay.py", "if answer.status == 0:", "if False:"),
        "orchestration/test_narrow_moments.py::test_a_pod_that_does_not_answer_is_not_the_models_fault",
    ),
    Guard(
        "A route that leads to no pod yet is not a wrong answer.",
        Mutant("stages/replay.py", "if behind_routes and not answer.is_routed:", "if False:"),
        "orchestration/test_measure.py::test_a_service_without_a_route_to_a_pod_has_not_answered",
    ),
    Guard(
        "The lease is kept between requests.",
        Mutant("stages/replay.py", "            asked.keep_lease()\n", ""),
        "orchestration/test_measure.py::test_the_lease_is_kept_between_requests",
    ),
    Guard(
        "Recorded requests are marked, so that they do not count as real traffic.",
        Mutant("stages/replay.py", "{**service.headers, REPLAY_HEADER: asked.promotion}", "{**service.headers}"),
        "orchestration/test_measure.py::test_pods_are_asked_as_the_policy_says",
    ),
    Guard(
        "The service is asked as well as each pod.",
        Mutant("stages/replay.py", "    targets.append((url, None, lambda", "    _ = ((url, None, lambda"),
        "orchestration/test_measure.py::test_a_wrong_answer_of_the_service_fails",
    ),
    Guard(
        "Restarts are those of the container, and not of its node.",
        Mutant(
            "promotion/pods.py",
            "return max(0, status.restarts - (status.last_terminated_reason == _LOST))",
            "return status.restarts",
        ),
        "promotion/test_slo_sources.py::test_restarts_are_added_up_over_the_pods_of_the_current_template",
    ),
    Guard(
        "Crashes of a pod that was evicted since count, too.",
        Mutant("promotion/slo_sources.py", "workload.current_pods", "workload.new_pods"),
        "promotion/test_slo_sources.py::test_restarts_are_added_up_over_the_pods_of_the_current_template",
    ),
    Guard(
        "An answer has the recorded status.",
        Mutant("promotion/recorded_requests.py", "if answer.status != expected.status:", "if False:"),
        "promotion/test_recorded_requests.py::test_any_other_status_than_the_recorded_one_is_wrong",
    ),
    Guard(
        "A list keeps its length.",
        Mutant("promotion/answer_comparison.py", "if len(expected) != len(actual):", "if False:"),
        "promotion/test_recorded_requests.py::test_a_wrong_answer_has_a_reason",
    ),
    Guard(
        "Content that is not JSON is compared by its digest.",
        Mutant("promotion/recorded_requests.py", "if digest == expected.sha256:", "if True:"),
        "promotion/test_recorded_requests.py::test_content_that_is_not_json_is_compared_by_digest_and_type",
    ),
    Guard(
        "A server that says that it serves another model is a problem.",
        Mutant("promotion/served_model.py", "if known and not any(known):", "if False:"),
        "promotion/test_served_model.py::test_a_copy_is_known_by_the_names_of_its_originals",
    ),
    Guard(
        "Without the server's word, the pod's spec decides.",
        Mutant("promotion/served_model.py", "elif not known and uri:", "elif False:"),
        "promotion/test_served_model.py::test_without_the_servers_word_the_pods_spec_decides",
    ),
    Guard(
        "An answer is recorded only where something stays the same that is compared.",
        Mutant("promotion/steady_answers.py", "if not any(compared):", "if False:"),
        "promotion/test_steady_answers.py::test_an_answer_that_may_lack_its_prediction_is_not",
    ),
    Guard(
        "An answer is recorded only where its prediction is compared.",
        Mutant(
            "promotion/steady_answers.py",
            "if any(placed) and not any(is_there):",
            "if False:",
        ),
        "promotion/test_steady_answers.py::test_where_the_protocol_has_its_predictions_one_must_be_compared",
    ),
    Guard(
        "A place named like a prediction is left out by a person only.",
        Mutant(
            "promotion/steady_answers.py",
            "        if names and _PREDICTION.search(names[-1]) and not",
            "        if False and not",
        ),
        "orchestration/test_requests.py::test_record_refuses_a_prediction_that_varies_unless_it_is_told_that_it_is_none",
    ),
    Guard(
        "What repeats the request does not stand for a prediction that was left out.",
        Mutant("promotion/steady_answers.py", "rules.ignore + repeated", "rules.ignore"),
        "promotion/test_steady_answers.py::test_what_repeats_the_request_is_no_prediction_where_a_part_is_left_out",
    ),
    Guard(
        "What changes and may be the prediction is left out only beside one that is known as such.",
        Mutant(
            "promotion/steady_answers.py", "if in_doubt and not _has_prediction(", "if False and not _has_prediction("
        ),
        "orchestration/test_requests.py::"
        "test_record_never_loses_the_prediction_beside_what_also_depends_on_the_request",
    ),
    Guard(
        "An error that is answered with status 200 is not recorded as a prediction.",
        Mutant("promotion/steady_answers.py", "if all(map(_is_error, compared)):", "if False:"),
        "orchestration/test_requests.py::"
        "test_record_never_loses_the_prediction_beside_what_also_depends_on_the_request",
    ),
    Guard(
        "A date that is predicted is not taken for the time of the answer.",
        Mutant(
            "promotion/clock_values.py",
            "if _never_goes_back(path, readings, asked_each, now)",
            "if path in readings[0]",
        ),
        "promotion/test_clock_values.py::test_a_date_that_is_predicted_is_compared",
    ),
)

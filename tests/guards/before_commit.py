"""Guards of the looks before a commit, and the commit."""

from tests.guards.guard import Guard, Mutant

GUARDS = (
    Guard(
        "Every dependency answers.",
        Mutant("stages/manifest_commit.py", "            ask()\n", "            pass\n"),
        "orchestration/test_asking.py::test_a_header_without_its_value_keeps_the_version_from_being_committed",
    ),
    Guard(
        "Argo CD syncs by itself.",
        Mutant("stages/manifest_commit.py", "if not application.auto_sync:", "if False:"),
        "orchestration/test_plan.py::test_all_problems_are_shown_at_once",
    ),
    Guard(
        "The image to go back to can still be pulled.",
        Mutant(
            "stages/rollback_target.py",
            "if isinstance(deployed, ImageRef) and promotion.clients.images.resolve(deployed) is not None:",
            "if isinstance(deployed, ImageRef):",
        ),
        "orchestration/test_persons_images.py::test_an_image_that_cannot_be_pulled_is_no_way_back",
    ),
    Guard(
        "What a look finds in the way ends the stage.",
        Mutant("stages/manifest_commit.py", "if look.problem is not None:", "if False:"),
        "orchestration/test_look_before.py::test_nothing_is_committed_that_cannot_be_judged",
    ),
    Guard(
        "A version that a person aborted while it was judged is not committed.",
        Mutant("stages/manifest_commit.py", "require_not_aborted(promotion, checklist)", "pass"),
        "orchestration/test_abort.py::test_an_abort_that_a_waiting_run_overwrote_still_counts",
    ),
    Guard(
        "Tags that were copied with a version do not hide that it was never judged.",
        Mutant("stages/manifest_commit.py", "_disown_copied_tags(promotion, candidate.attempt)", "pass"),
        "orchestration/test_ends.py::test_copied_tags_do_not_hide_that_a_version_was_never_judged",
    ),
    Guard(
        "An image that changed since it was judged is judged again, and never overwritten.",
        Mutant(
            "stages/manifest_commit.py",
            "if view.image != judged.image or view.standing != judged.standing:",
            "if False:",
        ),
        "orchestration/test_persons_images.py::test_an_image_that_keeps_changing_is_never_overwritten",
    ),
    Guard(
        "A standing that changed since it was judged is judged again.",
        Mutant(
            "stages/manifest_commit.py",
            "if view.image != judged.image or view.standing != judged.standing:",
            "if view.image != judged.image:",
        ),
        "orchestration/test_narrow_moments.py::test_a_version_that_is_taken_back_while_the_branch_is_contended_is_not_committed",
    ),
    Guard(
        "The alias is asked for again on each head that is pushed on.",
        Mutant("stages/manifest_commit.py", "    require_alias(promotion, checklist)\n    edit", "    edit"),
        "orchestration/test_narrow_moments.py::test_an_alias_that_moves_while_the_branch_is_contended_stops_the_commit",
    ),
    Guard(
        "A later state of a version is not overwritten by `committed`.",
        Mutant(
            "stages/manifest_commit.py", "promotion.record.state not in (State.CHAMPION, State.REJECTED) or", "True or"
        ),
        "orchestration/test_champions.py::test_a_champion_whose_commit_is_looked_at_again_stays_champion",
    ),
    Guard(
        "The Application reads this repository.",
        Mutant(
            "promotion/application_source.py",
            "if not is_same_repository(source.repository, address.url) and not follows():",
            "if False:",
        ),
        "promotion/test_application_source.py::test_what_is_not_deployed_is_refused",
    ),
    Guard(
        "The Application follows this branch.",
        Mutant(
            "promotion/application_source.py",
            'if source.revision not in (address.branch, f"refs/heads/{address.branch}") and (',
            "if False and (",
        ),
        "promotion/test_application_source.py::test_what_is_not_deployed_is_refused",
    ),
    Guard(
        "The Application builds the file.",
        Mutant(
            "promotion/application_source.py",
            "or _place_problem(subject, source, application, target, read)",
            "or None",
        ),
        "promotion/test_application_source.py::test_what_is_not_deployed_is_refused",
    ),
    Guard(
        "The Application sets no other image over the file.",
        Mutant("promotion/application_source.py", "or _override(subject, policy, one, read)", "or None"),
        "promotion/test_application_source.py::test_an_image_in_the_application_is_refused",
    ),
    Guard(
        "The Application deploys the branch, and not commits of a hydrator.",
        Mutant("promotion/application_source.py", "if application.hydrates:", "if False:"),
        "promotion/test_application_source.py::test_what_is_not_deployed_is_refused",
    ),
    Guard(
        "The workload exists.",
        Mutant(
            "promotion/live_target.py",
            'return refused(WORKLOAD, Problem(subject, expected, "no such workload", next_step))',
            "return fits(WORKLOAD, subject)",
        ),
        "promotion/test_live_target.py::test_a_missing_workload_without_an_application_is_the_policys_fault",
    ),
    Guard(
        "The workload rolls a new image out by itself.",
        Mutant("promotion/live_target.py", "if workload.never_rolls_out is not None:", "if False:"),
        "orchestration/test_workloads.py::test_a_workload_that_never_rolls_out_by_itself_is_refused_before_the_commit",
    ),
    Guard(
        "The workload wants a replica.",
        Mutant("promotion/live_target.py", "if workload.wanted < 1:", "if False:"),
        "promotion/test_live_target.py::test_a_workload_that_cannot_roll_out_is_waited_for",
    ),
    Guard(
        "The workload is not paused.",
        Mutant("promotion/live_target.py", "if workload.paused:", "if False:"),
        "promotion/test_live_target.py::test_a_workload_that_cannot_roll_out_is_waited_for",
    ),
    Guard(
        "The workload has the container.",
        Mutant(
            "promotion/live_target.py",
            'return refused(CONTAINER, Problem(str(workload), f"a container {name}", found, next_step))',
            "return fits(CONTAINER, found)",
        ),
        "promotion/test_live_target.py::test_a_container_by_another_name_is_refused",
    ),
    Guard(
        "The port at which pods are asked is known.",
        Mutant(
            "promotion/live_target.py", "return waits(what, port.then(_WAITING)) if", "return fits(what, str(port)) if"
        ),
        "orchestration/test_asking.py::test_a_port_that_is_not_known_keeps_the_version_from_being_committed",
    ),
    Guard(
        "What is live is what the file says, where Argo CD has synced it.",
        Mutant("promotion/live_target.py", "return waits(LIVE_IMAGE, problem)", "return fits(LIVE_IMAGE, live)"),
        "promotion/test_live_target.py::test_another_live_image_is_waited_for",
    ),
    Guard(
        "What the API server refuses in a dry run is not committed.",
        Mutant("promotion/manifest_look.py", "if refusal is None:", "if True:"),
        "orchestration/test_try_manifest.py::test_a_dry_run_is_of_what_would_be_committed",
    ),
    Guard(
        "The manifest is tried as it would be committed, and not as it is.",
        Mutant("stages/look_before.py", "edit.content if isinstance(edit, Edited) else view.content", "view.content"),
        "orchestration/test_try_manifest.py::test_a_dry_run_is_of_what_would_be_committed",
    ),
    Guard(
        "A dry run counts only on top of the file as it is, because it has all fields that are there.",
        Mutant("stages/try_manifest.py", "if applied is None:", "if False:"),
        "orchestration/test_try_manifest.py::test_a_file_that_is_not_synced_is_not_tried_on_top_of_another_one",
    ),
    Guard(
        "A dry run that refuses also what Argo CD has applied says nothing about a version.",
        Mutant("stages/try_manifest.py", "trial(as_deployed(policy, applied)) is None", "True"),
        "orchestration/test_try_manifest.py::test_a_refusal_of_what_runs_says_nothing_about_the_version",
    ),
    Guard(
        "A dry run applies as Argo CD does.",
        Mutant("stages/try_manifest.py", "server_side=server_side)\n    try:", "server_side=True)\n    try:"),
        "orchestration/test_try_manifest.py::test_a_dry_run_applies_as_argo_cd_does",
    ),
    Guard(
        "The schema finds nothing wrong with what Argo CD has applied.",
        Mutant("promotion/manifest_look.py", "if fault not in known", "if True"),
        "orchestration/test_try_manifest.py::test_what_argo_cd_has_applied_is_not_wrong",
    ),
    Guard(
        "What the API server cannot decode is refused, although it answers as if it were at fault itself.",
        Mutant("stages/try_manifest.py", "if look.bearing is Bearing.REFUSED:", "if False:"),
        "orchestration/test_try_manifest.py::test_what_cannot_be_decoded_is_told_by_the_schema",
    ),
    Guard(
        "What goes by server-side apply has no field that its schema does not know.",
        Mutant("promotion/manifest_schema.py", 'if not strict or schema.get("type")', 'if True or schema.get("type")'),
        "promotion/test_manifest_schema.py::test_what_the_api_server_cannot_decode_is_found",
    ),
    Guard(
        "A manifest has each field that its schema requires.",
        Mutant("promotion/manifest_schema.py", "if name not in instance and not (", "if False and not ("),
        "promotion/test_manifest_schema.py::test_what_the_api_server_cannot_decode_is_found",
    ),
    Guard(
        "A manifest's plain scalars have the types that Argo CD gives them.",
        Mutant("promotion/yaml_values.py", "if text in _WORDS:", 'if text == "":'),
        "promotion/test_manifest_schema.py::test_what_the_api_server_cannot_decode_is_found",
    ),
    Guard(
        "Prometheus takes each query, and answers one number.",
        Mutant("promotion/gate_queries.py", "if answer.reply is not Reply.EMPTY:", "if False:"),
        "promotion/test_gate_queries.py::test_a_query_that_can_never_be_read_is_refused",
    ),
    Guard(
        "An answer with warnings is waited for.",
        Mutant("promotion/gate_queries.py", "if answer.reply is Reply.DOUBTFUL:", "if False:"),
        "promotion/test_gate_queries.py::test_a_doubtful_answer_is_waited_for",
    ),
    Guard(
        "A champion that has served has data for each query.",
        Mutant("promotion/gate_queries.py", "if not is_owed or (is_count and has_counted):", "if True:"),
        "promotion/test_gate_queries.py::test_no_data_is_refused_where_there_must_be_some",
    ),
    Guard(
        "Prometheus scrapes each pod that serves.",
        Mutant("promotion/gate_queries.py", "if pod.name not in counted:", "if False:"),
        "promotion/test_gate_queries.py::test_scrapes_are_counted",
    ),
    Guard(
        "Scrapes are frequent enough to judge a soak.",
        Mutant("promotion/gate_queries.py", "if count < gate.min_samples and is_old:", "if False:"),
        "promotion/test_gate_queries.py::test_scrapes_are_counted",
    ),
    Guard(
        "The way in which requests are asked reaches the model.",
        Mutant(
            "promotion/live_answers.py", "if (why := _wrong_way(fault)) is not None:", "if (why := None) is not None:"
        ),
        "promotion/test_live_answers.py::test_each_answer_tells_whose_fault_it_is",
    ),
    Guard(
        "A service that does not answer its recorded requests is waited for.",
        Mutant("promotion/live_answers.py", "if silent is not None or not recorded.is_complete:", "if False:"),
        "promotion/test_live_answers.py::test_each_answer_tells_whose_fault_it_is",
    ),
)

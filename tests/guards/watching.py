"""Guards of requesting and resuming runs."""

from tests.guards.guard import Guard, Mutant

GUARDS = (
    Guard(
        "A client's library is imported by one thread at a time, or a process may never get a complete one.",
        Mutant(
            "adapters/mlflow_registry.py",
            "    with importing:\n        from mlflow import MlflowClient\n",
            "    from mlflow import MlflowClient\n",
        ),
        "adapters/test_importing.py::test_a_library_is_imported_by_one_thread_at_a_time",
    ),
    Guard(
        "A challenger is a new request only while it has no state, or was superseded.",
        Mutant("promotion/sensor_rules.py", "return version.state(policy) in (None, State.SUPERSEDED)", "return True"),
        "promotion/test_sensor_rules.py::test_what_was_requested_is_no_new_challenger",
    ),
    Guard(
        "What has ended is not resumed.",
        Mutant("promotion/sensor_rules.py", "not state.is_end and not is_held_by_person", "not is_held_by_person"),
        "promotion/test_sensor_rules.py::test_ends",
    ),
    Guard(
        "What a person holds is not resumed.",
        Mutant("promotion/sensor_rules.py", " and not is_held_by_person(version, policy)\n", "\n"),
        "promotion/test_sensor_rules.py::test_held_by_a_person",
    ),
    Guard(
        "No second run is requested while one holds the lease or gives signs of life.",
        Mutant(
            "commands/watching.py",
            "(_is_about_to_start(look, policy, request) or _is_worked_on(look, policy, version))",
            "_is_about_to_start(look, policy, request)",
        ),
        "orchestration/test_sensor.py::test_a_run_that_waits_for_an_image_is_not_doubled",
    ),
    Guard(
        "No second run is requested while one is about to start.",
        Mutant(
            "commands/watching.py",
            "(_is_about_to_start(look, policy, request) or _is_worked_on(look, policy, version))",
            "_is_worked_on(look, policy, version)",
        ),
        "orchestration/test_sensor.py::test_a_run_that_is_about_to_start_is_not_doubled",
    ),
    Guard(
        "Each resume has a run key of its own, or Dagster would not start it.",
        Mutant("promotion/sensor_rules.py", 'return f"{self.tag(policy)}/{self.number}"', "return self.tag(policy)"),
        "promotion/test_sensor_rules.py::test_each_resume_has_its_own_run_key",
    ),
    Guard(
        "A version whose run a person cancelled is held, and not resumed.",
        Mutant(
            "commands/watching.py",
            "if cancelled is None or not is_cancelled(version, policy.name, cancelled):",
            "if True:",
        ),
        "orchestration/test_sensor.py::test_a_run_that_is_cancelled_before_its_first_stage_holds_its_version",
    ),
    Guard(
        "A cancelled run holds its version once, so that what leads out of the hold is not held again.",
        Mutant(
            "promotion/sensor_rules.py",
            "cancelled is not None and version.tag(policy, CANCELLED_TAG) != cancelled",
            "cancelled is not None",
        ),
        "orchestration/test_sensor.py::test_what_leads_out_of_a_hold_is_not_held_again",
    ),
    Guard(
        "A cancelled run that still has the lease writes its hold itself.",
        Mutant("commands/watching.py", "if lease is not None and lease.holder == cancelled:", "if False:"),
        "orchestration/test_sensor.py::test_a_cancelled_run_that_is_still_at_work_writes_its_hold_itself",
    ),
    Guard(
        "A committed version is finished before a newer challenger's turn.",
        Mutant(
            "commands/watching.py",
            "_committed_first(look, policy, version) or _proposed(",
            "_proposed(",
        ),
        "orchestration/test_sensor.py::test_a_committed_version_goes_before_a_newer_challenger",
    ),
    Guard(
        "A policy that cannot be watched stops no other.",
        Mutant("commands/sensor_tick.py", "except InvalidInputError as error:", "except ZeroDivisionError as error:"),
        "orchestration/test_sensor.py::test_a_broken_policy_stops_no_other",
        raises="InvalidInputError",
    ),
    Guard(
        "Two files of one name are no policy, because nobody can tell which of them is meant.",
        Mutant("adapters/policies.py", "        if len(files) > 1:", "        if False:"),
        "adapters/test_policies.py::test_two_files_of_one_name_are_an_error_that_names_both",
    ),
    Guard(
        "Without a memory the alias counts as not moved: a lost cursor takes nothing up and answers nothing.",
        Mutant(
            "promotion/sensor_rules.py",
            "return memory is not None and memory.named is not None and memory.named != named",
            "return memory is None or memory.named != named",
        ),
        "orchestration/test_sensor.py::test_what_a_person_holds_is_not_resumed",
    ),
    Guard(
        "An alias that is moved to a version that has ended gets one answer for each move.",
        Mutant(
            "promotion/sensor_rules.py",
            'f"{memory.named}-{format_time(memory.named_at)}", 0, is_answer=True',
            '"moved", 0, is_answer=True',
        ),
        "orchestration/test_sensor.py::test_an_alias_that_is_moved_to_an_ended_version_gets_one_answer",
    ),
    Guard(
        "While nothing new blocks a version, the sensor looks without a run.",
        Mutant(
            "commands/watching.py", "if blocked is not None and is_said(unfinished, policy.name, blocked):", "if False:"
        ),
        "orchestration/test_permission.py::test_the_sensor_looks_without_a_run_until_nothing_blocks",
    ),
    Guard(
        "An image that is pushed again while its version waits for approval is said.",
        Mutant(
            "commands/watching.py",
            "return isinstance(image, Problem) or image.digest != version.tag(policy.name, DIGEST_TAG)",
            "return False",
        ),
        "orchestration/test_sensor.py::test_a_tag_that_is_pushed_again_is_said_while_a_version_waits_for_approval",
    ),
    Guard(
        "The state is written last, so that whoever sees it finds what belongs to it.",
        Mutant("promotion/model_version.py", 'for name in sorted(tags, key="state".__eq__)', "for name in tags"),
        "promotion/test_sensor_rules.py::test_the_state_is_written_last",
    ),
    Guard(
        "A request is dated after the question for the alias, and never before it.",
        Mutant(
            "commands/watching.py",
            (
                "    version = registry.version_by_alias(policy.model, policy.challenger_alias)\n"
                "    return Named(version, clock.now())"
            ),
            (
                "    at = clock.now()\n"
                "    return Named(registry.version_by_alias(policy.model, policy.challenger_alias), at)"
            ),
        ),
        "orchestration/test_sensor.py::test_a_request_is_never_dated_before_its_alias",
    ),
    Guard(
        "MLflow's word is believed only with its signature.",
        Mutant(
            "promotion/registry_webhook.py", 'if not hmac.compare_digest(b"v1," + digest, given):', "if not digest:"
        ),
        "promotion/test_registry_webhook.py::test_what_is_not_signed_so_is_not_believed",
    ),
    Guard(
        "MLflow's word is believed for five minutes.",
        Mutant("promotion/registry_webhook.py", " or abs(now - int(timestamp)) > OLDEST_SECONDS", ""),
        "promotion/test_registry_webhook.py::test_what_is_not_signed_so_is_not_believed",
    ),
    Guard(
        "MLflow's word counts once.",
        Mutant("promotion/registry_webhook.py", "is_new = delivery not in self._taken", "is_new = True"),
        "promotion/test_registry_webhook.py::test_a_delivery_is_taken_once",
    ),
    Guard(
        "However often MLflow's word comes, the registry is asked ten times a second at most.",
        Mutant(
            "commands/sensor_tick.py", "min(tick.pause / RUNG_SHARE, left)", "min(tick.pause / RUNG_SHARE / 3, left)"
        ),
        "orchestration/test_sensor_tick.py::test_however_often_the_bell_rings_the_registry_is_asked_ten_times_a_second_at_most",
    ),
)

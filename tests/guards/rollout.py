"""Guards of the conditions of a rollout, and whose fault a failure is."""

from tests.guards.guard import Guard, Mutant

GUARDS = (
    Guard(
        "(a) The compared and the synced revision have our image.",
        Mutant("promotion/rollout_conditions.py", "if known is not Revision.OURS and not was_synced:", "if False:"),
        "promotion/test_rollout_assessment.py::test_a_commit_that_brings_back_what_was_synced_last_needs_no_sync",
    ),
    Guard(
        "(a) The synced revision counts, and not the compared one alone.",
        Mutant("promotion/rollout_conditions.py", '        ("synced", application.operation_revision),\n', ""),
        "promotion/test_rollout_assessment.py::test_a_commit_that_brings_back_what_was_synced_last_needs_no_sync",
    ),
    Guard(
        "(a) A descendant of our commit counts only while it has our image.",
        Mutant("stages/await_rollout.py", "if found == image:", "if True:"),
        "orchestration/test_promotion.py::test_a_persons_image_in_mid_soak_is_never_crowned",
    ),
    Guard(
        "(b) The sync operation succeeded.",
        Mutant("promotion/rollout_conditions.py", 'if phase != "Succeeded":', "if False:"),
        "promotion/test_rollout_assessment.py::test_condition_b_the_operation_succeeded_and_its_result_was_compared",
    ),
    Guard(
        "(b) Argo CD has compared its result since.",
        Mutant("promotion/rollout_conditions.py", "if reconciled is None or reconciled < finished:", "if False:"),
        "promotion/test_rollout_assessment.py::test_condition_b_the_operation_succeeded_and_its_result_was_compared",
    ),
    Guard(
        "(c) The live workload has our image.",
        Mutant(
            "promotion/rollout_conditions.py",
            'Condition("image", is_same(text, str(expected.deployed)), ',
            'Condition("image", True, ',
        ),
        "promotion/test_rollout_assessment.py::test_condition_c_the_live_image_is_ours",
    ),
    Guard(
        "(d) The controller has seen the newest generation.",
        Mutant("promotion/rollout_conditions.py", "(workload.is_observed, ", "(True, "),
        "promotion/test_rollout_assessment.py::test_condition_d_all_wanted_pods_are_new_and_no_old_one_is_left",
    ),
    Guard(
        "(d) The rollout is not paused.",
        Mutant("promotion/rollout_conditions.py", "(not workload.paused, ", "(True, "),
        "promotion/test_rollout_assessment.py::test_condition_d_all_wanted_pods_are_new_and_no_old_one_is_left",
    ),
    Guard(
        "(d) The workload's own controller is done.",
        Mutant("promotion/rollout_conditions.py", "(workload.unfinished is None, ", "(True, "),
        "promotion/test_workload_kinds.py::test_a_paused_rollout_is_waited_for_and_said",
    ),
    Guard(
        "(d) All wanted pods are updated.",
        Mutant("promotion/rollout_conditions.py", "(workload.updated == workload.wanted, ", "(True, "),
        "promotion/test_rollout_assessment.py::test_condition_d_all_wanted_pods_are_new_and_no_old_one_is_left",
    ),
    Guard(
        "(d) All wanted pods are available.",
        Mutant("promotion/rollout_conditions.py", "(workload.available == workload.wanted, ", "(True, "),
        "promotion/test_rollout_assessment.py::test_condition_d_all_wanted_pods_are_new_and_no_old_one_is_left",
    ),
    Guard(
        "(d) There are no more pods than are wanted.",
        Mutant("promotion/rollout_conditions.py", "(workload.total == workload.wanted, ", "(True, "),
        "promotion/test_rollout_assessment.py::test_condition_d_all_wanted_pods_are_new_and_no_old_one_is_left",
    ),
    Guard(
        "(d) No old pod is left.",
        Mutant("promotion/rollout_conditions.py", "(not workload.old_pods, ", "(True, "),
        "promotion/test_rollout_assessment.py::test_condition_d_all_wanted_pods_are_new_and_no_old_one_is_left",
    ),
    Guard(
        "(d) Each new pod is ready.",
        Mutant("promotion/rollout_conditions.py", "(len(new) == ready == workload.wanted, ", "(True, "),
        "promotion/test_rollout_assessment.py::test_condition_d_all_wanted_pods_are_new_and_no_old_one_is_left",
    ),
    Guard(
        "(d) A workload without replicas proves nothing.",
        Mutant("promotion/rollout_conditions.py", "(workload.wanted > 0, ", "(True, "),
        "promotion/test_rollout_assessment.py::test_condition_d_all_wanted_pods_are_new_and_no_old_one_is_left",
    ),
    Guard(
        "(e) Each new pod runs a digest of our image.",
        Mutant("promotion/rollout_conditions.py", "if unreported or others:", "if unreported:"),
        "promotion/test_rollout_assessment.py::test_condition_e_is_not_met_by_another_digest",
    ),
    Guard(
        "(e) A pod that has not reported its image is waited for.",
        Mutant("promotion/rollout_conditions.py", "if unreported or others:", "if others:"),
        "promotion/test_rollout_assessment.py::test_condition_e_a_pod_that_has_not_reported_its_image_is_waited_for",
    ),
    Guard(
        "(e) Another digest is an error at once.",
        Mutant(
            "promotion/rollout_conditions.py",
            "if digest is None or digest in known:",
            "if True:",
        ),
        "promotion/test_rollout_assessment.py::test_condition_e_another_digest_is_an_error_at_once",
    ),
    Guard(
        "A crash of the image before says nothing about the model.",
        Mutant(
            "promotion/rollout_assessment.py",
            "if workload is not None and image_condition(workload, expected).met:\n        # What",
            "if workload is not None:\n        # What",
        ),
        "promotion/test_rollout_assessment.py::test_a_crash_of_the_old_image_says_nothing_about_the_model",
    ),
    Guard(
        "Only trouble that waiting cannot end ends the waiting.",
        Mutant(
            "promotion/rollout_assessment.py",
            'if trouble.final and trouble.fault == "model":',
            'if trouble.fault == "model":',
        ),
        "promotion/test_rollout_assessment.py::test_condition_d_waits_for_the_pods_that_scaling_adds",
    ),
    Guard(
        "At the deadline the model is blamed for its own faults alone.",
        Mutant("promotion/rollout_assessment.py", 'if ranked and ranked[0].fault == "model":', "if ranked:"),
        "promotion/test_rollout_assessment.py::test_the_deadline_blames_the_model_only_for_what_is_its_own",
    ),
    Guard(
        "A lost node or an unschedulable pod weighs more than a pod that is not ready.",
        Mutant("promotion/rollout_assessment.py", 'return 3 if trouble.kind == "evicted" else 1', "return 3"),
        "promotion/test_rollout_assessment.py::test_the_deadline_blames_the_model_only_for_what_is_its_own",
    ),
    Guard(
        "Auto-sync that is switched off is not the model's fault.",
        Mutant("promotion/rollout_assessment.py", "if not application.auto_sync:", "if False:"),
        "promotion/test_rollout_assessment.py::test_auto_sync_switched_off_during_a_rollout_is_not_judged",
    ),
    Guard(
        "A sync of our commit that failed is not waited for without end.",
        Mutant(
            "promotion/rollout_assessment.py",
            'if application.operation_phase in ("Failed", "Error") and revision',
            "if False and revision",
        ),
        "promotion/test_rollout_assessment.py::test_a_failed_sync_of_our_commit_is_the_platforms_fault_and_final",
    ),
    Guard(
        "A pull that failed is the model's fault only when there is no such image.",
        Mutant("promotion/pods.py", " and _PULL_DENIED.search(plain) is None", ""),
        "promotion/test_pods.py::test_a_pull_is_the_models_fault_only_when_there_is_no_such_image",
    ),
    Guard(
        "The second crash is final.",
        Mutant("promotion/pods.py", "looping or status.restarts >= CRASHES_ARE_FINAL", "looping"),
        "promotion/test_pods.py::test_the_second_crash_is_final_and_names_exit_code_and_log",
    ),
    Guard(
        "Another container's trouble is not the model's.",
        Mutant(
            "promotion/pods.py",
            "if other.name not in changed and (trouble := _container_trouble(pod, other)):",
            "if trouble := _container_trouble(pod, other):\n            return trouble\n        if False:",
        ),
        "promotion/test_pods.py::test_another_containers_crash_is_the_platforms_fault",
    ),
    Guard(
        "A container that ended with its node did not crash.",
        Mutant(
            "promotion/pods.py",
            ("    if _LOST in (status.terminated_reason, status.last_terminated_reason):\n        lost"),
            "    if False:\n        lost",
        ),
        "promotion/test_pods.py::test_a_container_that_was_lost_with_its_node_is_the_platforms_fault",
    ),
    Guard(
        "A crash while the registry is down is not the model's fault.",
        Mutant(
            "stages/judge_rollout.py",
            "platform_fault = platform_fault_after_all(promotion, failed, promotion.version)",
            "platform_fault = None",
        ),
        "orchestration/test_promotion.py::test_a_crash_while_the_registry_is_down_is_not_the_models_fault",
    ),
    Guard(
        "A crash while the registry's artifact store is down is not the model's fault.",
        Mutant(
            "stages/judge_rollout.py",
            "return None if version is None else _files_fault(promotion, failed, version)",
            "return None",
        ),
        "orchestration/test_promotion.py::test_a_crash_while_the_artifact_store_is_down_is_not_the_models_fault",
    ),
    Guard(
        "A store that lists a model's files may still not give them.",
        Mutant("stages/judge_rollout.py", "registry.artifact(version.run_id, RECORDING_PATH)", "pass"),
        "orchestration/test_promotion.py::test_a_crash_while_the_artifact_store_is_down_is_not_the_models_fault",
    ),
    Guard(
        "A crash while the model's files are gone is not the model's fault.",
        Mutant("stages/judge_rollout.py", "    if location is None:", "    if location is None and False:"),
        "orchestration/test_promotion.py::test_a_crash_is_not_the_models_fault_while_its_files_are_gone",
    ),
    Guard(
        "A download from a store that nobody here can ask says nothing about the model.",
        Mutant(
            "stages/judge_rollout.py",
            "if is_download and not location.startswith(PROXIED):",
            "if False:",
        ),
        "orchestration/test_addresses.py::test_a_failed_download_from_elsewhere_is_not_the_models_fault",
    ),
    Guard(
        "The cluster itself is asked each time: Argo CD calls a dead one healthy.",
        Mutant("stages/await_rollout.py", "    clients.cluster.ready()\n", ""),
        "orchestration/test_narrow_moments.py::test_a_cluster_that_is_not_ready_is_not_believed",
    ),
    Guard(
        "A Deployment's current pods are told by an equal template, not by an annotation.",
        Mutant("promotion/workload_kinds.py", '_bare(mapping_at(replicaset, "spec", "template")) == template', "True"),
        "promotion/test_cluster_json.py::test_the_current_replicaset_is_found_by_its_template_and_not_by_a_stale_annotation",
    ),
    Guard(
        "A StatefulSet's revision of an older generation is not believed.",
        Mutant(
            "promotion/workload_kinds.py",
            'text_of(status, "updateRevision") if read.is_observed else None',
            'text_of(status, "updateRevision")',
        ),
        "promotion/test_workload_kinds.py::test_a_revision_of_an_older_generation_is_not_believed",
    ),
    Guard(
        "A Rollout is done when its new pods are its stable ones.",
        Mutant("promotion/workload_kinds.py", 'if stable == text_of(status, "currentPodHash"):', "if True:"),
        "promotion/test_workload_kinds.py::test_a_rollout_at_full_weight_is_not_done_while_a_step_is_left",
    ),
    Guard(
        "A Rollout's status of an older generation is not believed.",
        Mutant("promotion/workload_kinds.py", "    if not read.is_observed:\n        return read\n", ""),
        "promotion/test_workload_kinds.py::test_a_rollouts_status_of_another_generation_says_nothing",
    ),
    Guard(
        "A Rollout's status that is about the images before is not believed, whatever generation it names.",
        Mutant(
            "promotion/workload_kinds.py", "if current not in _hashes_of_equal_images(raw, replicasets):", "if False:"
        ),
        "promotion/test_workload_kinds.py::test_a_rollouts_status_that_is_about_the_template_before_says_nothing",
    ),
    Guard(
        "A person's abort of a Rollout counts once its controller has dealt with it.",
        Mutant("promotion/workload_kinds.py", ' or progressing.get("reason") != "RolloutAborted"', ""),
        "promotion/test_workload_kinds.py::test_an_abort_counts_once_its_controller_has_dealt_with_it",
    ),
    Guard(
        "An abort that may be the deadline's is not taken for a person's verdict.",
        Mutant(
            "promotion/workload_kinds.py", 'if spec.get("progressDeadlineAbort") is True and not', "if False and not"
        ),
        "promotion/test_workload_kinds.py::test_an_abort_that_may_be_the_deadlines_is_nobodys_verdict",
    ),
    Guard(
        "An analysis of a Rollout that could not measure says nothing about the model.",
        Mutant("promotion/workload_kinds.py", '"assessed Error" not in message', "True"),
        "promotion/test_workload_kinds.py::test_an_aborted_rollout_is_a_failed_one",
    ),
    Guard(
        "A pod that crashed says more than the abort that followed.",
        Mutant("promotion/rollout_assessment.py", 'if worst is not None and worst.fault == "model":', "if False:"),
        "promotion/test_workload_kinds.py::test_what_a_pod_says_is_believed_before_the_abort",
    ),
    Guard(
        "A DaemonSet's current pods are told by its revision with an equal template.",
        Mutant(
            "promotion/workload_kinds.py",
            ' and _bare(mapping_at(revision, "data", "spec", "template")) == template',
            "",
        ),
        "promotion/test_workload_kinds.py::test_a_daemon_sets_pods_are_told_by_the_revision_with_an_equal_template",
    ),
    Guard(
        "Another DaemonSet's revision with an equal template is not taken for its own.",
        Mutant("promotion/workload_kinds.py", "if controller_uid(revision) == owner and", "if"),
        "promotion/test_workload_kinds.py::test_a_daemon_sets_pods_are_told_by_the_revision_with_an_equal_template",
    ),
    Guard(
        "A workload's pods are those that it controls, whatever labels others have.",
        Mutant("promotion/cluster_json.py", "            if controller_uid(pod) in owners\n", ""),
        "promotion/test_cluster_json.py::test_pods_with_the_same_labels_that_another_object_controls_are_not_old_ones",
    ),
    Guard(
        "A workload that selects its pods by nothing is refused.",
        Mutant("adapters/clusters.py", "if not selector:", "if False:"),
        "adapters/test_clusters.py::test_a_deployment_that_selects_everything_is_refused",
    ),
)

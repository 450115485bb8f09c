"""Guards of taking back, holding, and finishing what was cut off."""

from tests.guards.guard import Guard, Mutant

GUARDS = (
    Guard(
        "`rejected` is written before the rollback's commit.",
        Mutant("stages/rollback.py", "if promotion.record.state is not State.REJECTED:", "if False:"),
        "orchestration/test_narrow_moments.py::test_a_failed_version_is_rejected_before_its_rollback_is_pushed",
    ),
    Guard(
        "A rollback takes back our image alone: a person's is left.",
        Mutant("stages/rollback.py", "if not is_image_of(committed.identity, view.image):", "if False:"),
        "orchestration/test_persons_images.py::test_a_commit_that_was_replaced_at_once_ends_as_rolled_back",
    ),
    Guard(
        "A rollback is committed once.",
        Mutant("stages/rollback.py", "if known.rollback is not None:", "if False:"),
        "orchestration/test_narrow_moments.py::test_a_rollback_that_was_committed_is_finished_without_another_end",
    ),
    Guard(
        "The target is no image that was taken back itself.",
        Mutant(
            "stages/rollback_target.py", "had is not None and not _was_taken_back(promotion, had)", "had is not None"
        ),
        "orchestration/test_persons_images.py::test_an_image_that_was_taken_back_is_no_rollback_target",
    ),
    Guard(
        "An earlier target was verified.",
        Mutant(
            "stages/rollback_target.py",
            "if differs and is_verified(promotion.clients.git, known) and",
            "if differs and",
        ),
        "orchestration/test_narrow_moments.py::test_the_way_back_leads_to_what_was_verified",
    ),
    Guard(
        "The target is no other attempt of the version that is left.",
        Mutant(
            "stages/rollback_target.py",
            "    differs = differs and known.identity.version != promotion.version.version",
            "    pass",
        ),
        "orchestration/test_returns.py::test_a_return_that_is_aborted_never_goes_back_to_an_earlier_attempt_of_its_own_version",
        raises="UnfinishedError",
    ),
    Guard(
        "A rollback waits until its target serves.",
        Mutant("stages/rollback.py", "        _wait_for_target(promotion, outcome)\n", "        pass\n"),
        "orchestration/test_narrow_moments.py::test_a_rollback_whose_target_does_not_serve_has_not_ended",
    ),
    Guard(
        "An end that no commit shows is recorded in Git once.",
        Mutant("stages/rollback.py", "if was_ended(git, identity):", "if False:"),
        "orchestration/test_narrow_moments.py::test_an_end_without_a_commit_is_recorded_once",
    ),
    Guard(
        "A revert by someone else counts as a rejection.",
        Mutant(
            "stages/cut_off.py",
            "            roll_back(promotion, committed, problem, reject=True)\n",
            "            roll_back(promotion, committed, problem, reject=False)\n",
        ),
        "orchestration/test_narrow_moments.py::test_a_revert_by_someone_else_is_the_models_fault",
    ),
    Guard(
        "Each stage finishes what was cut off.",
        Mutant("stages/runner.py", "                finish_cut_off(promotion, view)\n", ""),
        "orchestration/test_promotion.py::test_a_rejection_without_its_rollback_is_finished_first",
    ),
    Guard(
        "A rejection without its rollback is finished.",
        Mutant("stages/cut_off.py", "if state is State.REJECTED:", "if False:"),
        "orchestration/test_promotion.py::test_a_rejection_without_its_rollback_is_finished_first",
    ),
    Guard(
        "The promotion of a version that was deleted is taken back.",
        Mutant("stages/cut_off.py", "if promotion.record.is_gone:", "if False:"),
        "orchestration/test_ends.py::test_the_promotion_of_a_deleted_version_is_taken_back_by_the_sensors_run",
    ),
    Guard(
        "A promotion that was overtaken ends.",
        Mutant(
            "stages/cut_off.py",
            "case Overtaken(committed, by) if state is not None:",
            "case Overtaken(committed, by) if False:",
        ),
        "orchestration/test_persons_images.py::test_a_promotion_that_was_overtaken_ends",
    ),
    Guard(
        "Whatever breaks off after the commit holds.",
        Mutant("stages/settle.py", "if is_committed:", "if False:"),
        "orchestration/test_promotion.py::test_what_cannot_be_read_after_the_commit_holds",
    ),
    Guard(
        "Whether a version is committed is told by the branch, and not by its tag.",
        Mutant(
            "stages/settle.py",
            "        is_committed = committed is not None\n",
            "        is_committed = promotion.record.state in _ON_BRANCH\n",
        ),
        "orchestration/test_ends.py::test_a_committed_version_is_held_by_the_branch_and_not_by_its_tag",
    ),
    Guard(
        "A state that another run wrote is not overwritten before the commit.",
        Mutant("stages/settle.py", "if version.state(policy.name) not in _BEFORE_COMMIT:", "if False:"),
        "orchestration/test_ends.py::test_a_state_of_another_run_is_not_overwritten_while_git_is_down",
    ),
    Guard(
        "A person who cancels a run holds its version.",
        Mutant(
            "stages/runner.py",
            "        hold_by_person(record, platform.git(record.under), host.run_id)\n",
            "        pass\n",
        ),
        "orchestration/test_promotion.py::test_a_cancelled_promotion_is_held_by_a_person",
    ),
    Guard(
        "What has ended stays ended when its run is cancelled.",
        Mutant("stages/settle.py", "if committed is None and state is not None and state.is_end:", "if False:"),
        "orchestration/test_ends.py::test_cancelling_a_look_at_a_champion_does_not_end_it",
    ),
    Guard(
        "A rollback that was begun is not held by a person.",
        Mutant("stages/settle.py", "    if state is State.REJECTED:\n        return False\n", ""),
        "orchestration/test_ends.py::test_cancelling_a_rollback_does_not_end_it",
    ),
    Guard(
        "A host that shuts down holds nothing.",
        Mutant(
            "assets.py",
            "return run is not None and run.status in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)",
            "return True",
        ),
        "orchestration/test_promotion.py::test_a_host_that_shuts_down_holds_nothing",
    ),
    Guard(
        "A run that has lost its lease writes no state.",
        Mutant("stages/version_record.py", "if self._lease.is_held or self._lease.is_lost:", "if False:"),
        "orchestration/test_promotion.py::test_a_lease_that_is_lost_before_the_commit_leaves_the_state_alone",
    ),
    Guard(
        "The lease is given back however a stage ends.",
        Mutant("stages/lease.py", "            self.release()\n", "            pass\n"),
        "orchestration/test_promotion.py::test_a_dead_cluster_blocks_the_commit",
    ),
    Guard(
        "A lease that another run has is not written under.",
        Mutant("stages/lease.py", "if current is None or current.object_id != ours.object_id:", "if False:"),
        "orchestration/test_narrow_moments.py::test_a_lease_that_is_lost_before_the_alias_moves_nothing",
    ),
    Guard(
        "A lease is renewed while it is used.",
        Mutant("stages/lease.py", "if record.expires_at - self._clock.now() < LEASE_SECONDS / 2:", "if False:"),
        "orchestration/test_narrow_moments.py::test_a_lease_is_renewed_when_half_of_its_time_is_over",
    ),
    Guard(
        "A run that loses its lease to an abort says so.",
        Mutant("stages/lease.py", "if lost.current is not None and is_abort(lost.current.holder):", "if False:"),
        "orchestration/test_abort.py::test_a_run_that_loses_its_lease_to_an_abort_is_told_from_one_that_waits",
    ),
)

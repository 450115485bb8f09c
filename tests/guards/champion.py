"""Guards of making a champion, and what was not judged."""

from tests.guards.guard import Guard, Mutant

GUARDS = (
    Guard(
        "Pods that were replaced after they passed are soaked anew.",
        Mutant("stages/serving_model.py", "!= gate.workload.template_hash", "== 'x'"),
        "orchestration/test_narrow_moments.py::test_pods_that_are_replaced_after_they_passed_are_soaked",
    ),
    Guard(
        "Evidence counts only for the commit that it is of.",
        Mutant(
            "stages/serving_model.py",
            "if evidence is not None and evidence.commit == committed.commit.commit:",
            "if evidence is not None:",
        ),
        "orchestration/test_narrow_moments.py::test_an_evidence_tag_of_another_commit_crowns_nobody",
    ),
    Guard(
        "An evidence tag verifies only the promotion whose commit it is on.",
        Mutant(
            "promotion/branch_view.py",
            "return tag is not None and tag.commit == committed.commit.commit",
            "return tag is not None",
        ),
        "orchestration/test_narrow_moments.py::test_the_way_back_leads_to_what_was_verified",
    ),
    Guard(
        "No champion without an evidence tag in Git.",
        Mutant(
            "stages/serving_model.py",
            "    promotion.lease.create_tag(identity.evidence_tag, committed.commit.commit, message)\n",
            "",
        ),
        "orchestration/test_narrow_moments.py::test_a_champion_has_its_evidence_in_git",
    ),
    Guard(
        "The lease is read again before the alias moves.",
        Mutant("stages/champion_alias.py", "    promotion.lease.confirm()\n", ""),
        "orchestration/test_narrow_moments.py::test_a_lease_that_is_lost_before_the_alias_moves_nothing",
    ),
    Guard(
        "The alias is read back.",
        Mutant("stages/champion_alias.py", "if named is not None and named.version == version.version:", "if True:"),
        "orchestration/test_narrow_moments.py::test_an_alias_that_does_not_stay_is_no_champion",
    ),
    Guard(
        "The lease is read again before evidence is stored.",
        Mutant("stages/evidence.py", "    promotion.lease.confirm()\n", ""),
        "orchestration/test_narrow_moments.py::test_a_lease_that_is_lost_before_the_evidence_leaves_no_evidence",
    ),
    Guard(
        "An alias that someone moved meanwhile is told.",
        Mutant("stages/serving_model.py", 'if now in (before, f"version {promotion.version.version}"):', "if True:"),
        "orchestration/test_champions.py::test_an_alias_that_a_person_moves_in_mid_soak_is_set_and_told",
    ),
    Guard(
        "Only champions of this model become former ones.",
        Mutant("stages/champion_alias.py", "is_champion = other.model == policy.model and ", "is_champion = "),
        "orchestration/test_champions.py::test_only_a_champion_of_this_model_and_policy_becomes_a_former_one",
    ),
    Guard(
        "A version that the gate fails is rejected.",
        Mutant(
            "stages/serving_model.py",
            "roll_back(promotion, committed, problem, reject=True)",
            "roll_back(promotion, committed, problem, reject=False)",
        ),
        "orchestration/test_narrow_moments.py::test_a_failed_version_is_rejected_before_its_rollback_is_pushed",
    ),
    Guard(
        "A version that could not be judged is not rejected.",
        Mutant(
            "stages/unjudged.py",
            "roll_back(promotion, committed, ended.problem, reject=False)",
            "roll_back(promotion, committed, ended.problem, reject=True)",
        ),
        "orchestration/test_promotion.py::test_when_unjudged_roll_back_does_not_reject",
    ),
    Guard(
        "A version that could not be judged is held where the policy says so.",
        Mutant(
            "stages/unjudged.py",
            'if promotion.policy.gate.when_unjudged == "hold" or is_return(committed):',
            "if is_return(committed):",
        ),
        "orchestration/test_promotion.py::test_prometheus_down_in_the_gate_holds",
    ),
    Guard(
        "A champion that cannot be looked at again stays champion.",
        Mutant("stages/unjudged.py", "if promotion.record.state is State.CHAMPION:", "if False:"),
        "orchestration/test_ends.py::test_a_champion_that_cannot_be_judged_again_stays_champion",
    ),
    Guard(
        "A return that cannot be proved is held, whatever the policy says.",
        Mutant("stages/unjudged.py", " or is_return(committed):", ":"),
        "orchestration/test_returns.py::test_whatever_fails_after_the_commit_is_held",
    ),
)

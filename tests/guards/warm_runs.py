"""Guards of runs that are forked from a warm process."""

from tests.guards.guard import Guard, Mutant

_TESTS = "orchestration/test_warm_runs.py"

GUARDS = (
    Guard(
        "A forked run executes nothing before its launcher has noted who it is, so no other launcher starts it, too.",
        Mutant(
            "warm_runs/parent.py", "            return  # the launcher let Dagster start the run", "            pass"
        ),
        f"{_TESTS}::test_a_launcher_that_ends_at_once_starts_no_run",
    ),
    Guard(
        "Forked runs draw numbers of their own.",
        Mutant("warm_runs/parent.py", '        sys.modules["numpy"].random.seed()', "        pass"),
        f"{_TESTS}::test_runs_draw_numbers_of_their_own",
    ),
    Guard(
        "A warm process whose settings or code no longer count forks nothing more.",
        Mutant(
            "warm_runs/parent.py",
            "settings != self._environment or code_version() != self._code",
            "code_version() != self._code",
        ),
        f"{_TESTS}::test_other_settings_end_the_warm_process_and_not_its_runs",
    ),
    Guard(
        "Without a warm process, Dagster starts the run.",
        Mutant("warm_runs/launcher.py", "            super().launch_run(context)", "            pass"),
        f"{_TESTS}::test_without_a_warm_process_dagster_starts_runs",
    ),
    Guard(
        "Where runs are launched otherwise, as on Kubernetes, no warm process is kept, and that launcher is not made.",
        Mutant(
            "warm_runs/launcher.py",
            "    launcher = instance.get_ref().run_launcher_data\n",
            "    launcher = instance.run_launcher.inst_data\n",
        ),
        f"{_TESTS}::test_where_runs_are_launched_otherwise_no_warm_process_is_kept",
    ),
    Guard(
        "A process that has got the id of a run's is not interrupted.",
        Mutant("warm_runs/worker.py", "            if not self.is_alive:", "            if False:"),
        f"{_TESTS}::test_another_process_of_the_same_id_is_not_interrupted",
    ),
    Guard(
        "Only the owner of a DAGSTER_HOME may have runs forked.",
        Mutant("warm_runs/parent.py", "os.umask(0o177)", "os.umask(0o022)"),
        f"{_TESTS}::test_only_the_owner_may_start_runs",
    ),
)

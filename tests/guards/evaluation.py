"""Guards of evaluations of the served champion by labelled rows."""

from tests.guards.guard import Guard, Mutant

GUARDS = (
    Guard(
        "Nothing is asked while a promotion is under way.",
        Mutant(
            "commands/evaluating.py",
            "if promotions := [act for act in status.under_way if act.version is not None]:",
            "if promotions := list[Any]():",
        ),
        "orchestration/test_evaluating.py::test_a_promotion_under_way_is_not_disturbed",
    ),
    Guard(
        "What is evaluated is the champion, and not something else that serves.",
        Mutant(
            "commands/evaluating.py",
            "if status.live is None or status.live.version != status.champion:",
            "if status.live is None:",
        ),
        "orchestration/test_evaluating.py::test_what_serves_must_be_the_champion",
    ),
    Guard(
        "Nothing is asked while the cluster has yet to run what Git has.",
        Mutant("commands/evaluating.py", "return status.differences[0] if status.differences else None", "return None"),
        "orchestration/test_evaluating.py::test_an_image_that_is_still_to_be_rolled_out_is_waited_for",
    ),
    Guard(
        "What was settled before is asked for again afterwards: the answers are of one version.",
        Mutant("commands/evaluating.py", "if after != before:", "if False:"),
        "orchestration/test_evaluating.py::test_a_champion_that_changes_meanwhile_keeps_nothing",
    ),
    Guard(
        "Rows are evaluated once.",
        Mutant(
            "commands/evaluating.py",
            "if last is not None and (last.version, last.rows_digest) == (before, rows.digest):",
            "if False:",
        ),
        "orchestration/test_evaluating.py::test_rows_are_evaluated_once",
    ),
    Guard(
        "Requests of an evaluation are marked, so that no gate takes them for a client's.",
        Mutant("commands/evaluating.py", '{**service.headers, REPLAY_HEADER: "evaluation"}', "{**service.headers}"),
        "orchestration/test_evaluating.py::test_the_served_champion_is_measured",
        raises="KeyError",
    ),
    Guard(
        "Names of classes are not compared with their numbers.",
        Mutant("promotion/served_quality.py", "if len(kinds) > 1 or (", "if ("),
        "promotion/test_served_quality.py::test_names_are_not_compared_with_numbers",
    ),
    Guard(
        "A prediction that is no finite number is not measured: no alert is above or below NaN.",
        Mutant("promotion/served_quality.py", "if not _is_usable(value):", "if False:"),
        "promotion/test_served_quality.py::test_a_prediction_that_is_no_number_is_refused",
    ),
    Guard(
        "Rows of the future do not count until their time comes.",
        Mutant("promotion/labelled_rows.py", " & (times <= until)", ""),
        "promotion/test_served_quality.py::test_rows_of_the_future_are_left_out_and_counted",
    ),
    Guard(
        "An evaluation that did not end does not count.",
        Mutant("adapters/mlflow_registry.py", " AND attributes.status = 'FINISHED'", ""),
        "adapters/test_mlflow_registry.py::test_an_unfinished_evaluation_does_not_count",
        raises="DependencyError",
    ),
)

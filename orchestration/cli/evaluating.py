"""`incumbent evaluate`: how good the served champion still is."""

from dataclasses import asdict

import click

from orchestration.cli.run import (
    json_option,
    platform_of_environment,
    policy_argument,
    print_json,
    problems,
    progress,
    say,
)


@click.command(short_help="Measure the served champion on newly labelled rows.")
@policy_argument
@json_option
def evaluate(policy_name: str, as_json: bool) -> None:
    """Ask the served champion of POLICY about newly labelled rows, and keep how good it still is.

    The policy's field `evaluation` says where the rows are and which column has the labels. The answers are measured
    as in training, and kept in MLflow's experiment incumbent-evaluations, from where `incumbent companion` exposes them
    to Prometheus: an alert fires below 0.95 of the training metric, and another one when labels stop coming. The rows'
    inputs are compared with the training sample. Rows that were evaluated already are not asked about again.

    Nothing is asked while a promotion is under way, or when something else than the champion serves.

    \b
    Example:
      incumbent evaluate iris-classifier-edge

    \b
    Exit code:
      0  evaluated, or nothing was new
      2  wrong usage
      3  refused (no such policy, a promotion is under way, too few labels); the reason is on standard error
      4  a dependency did not answer
    """
    with problems():
        from orchestration.commands.evaluating import NotNow, evaluate_champion
        from orchestration.promotion.problems import InvalidInputError

        evaluation = evaluate_champion(platform_of_environment(), policy_name, progress)
        if isinstance(evaluation, NotNow):
            raise InvalidInputError(evaluation.problem)
    found = evaluation.found
    if as_json:
        print_json({**asdict(found), "is_new": evaluation.is_new, "url": evaluation.url or None})
        return
    measured = f"version {found.version}: {found.metric} {found.value:.4g} of {found.rows} rows"
    if not evaluation.is_new:
        say(f"no new labels since {measured} was measured")
        return
    say(f"{measured}, {found.baseline:.4g} in training")
    for each in evaluation.drift:
        if each.drifted:
            say(f"input {each.name} has drifted ({each.test} {each.statistic:.3g}, p {each.p_value:.2g})")
    if found.not_compared:
        say(f"inputs not compared: {found.not_compared}")
    elif not found.drifted_inputs:
        say(f"none of {found.compared_inputs} inputs has drifted")
    say(f"kept at {evaluation.url}")

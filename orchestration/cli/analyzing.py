"""`incumbent analyze-alert` and `incumbent analyze-drift`: what is known of an alert, in an issue."""

from typing import TYPE_CHECKING

import click

from orchestration.cli.run import platform_of_environment, problems, progress, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestration.analysis.report import Analysis, Findings
    from orchestration.promotion.github import GitHub
    from orchestration.promotion.ports import Clock

_ISSUE = click.option(
    "--issue", is_flag=True, help="Tell it in an issue of GITHUB_REPOSITORY; otherwise it is printed."
)


def _named(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Refuse a blank name: a workflow that is started by hand may have one, and its issue would be about nothing."""
    if not value.strip():
        raise click.BadParameter("expected a name, found nothing. Give it as the alert has it.")
    return value


@click.command("analyze-alert", short_help="Tell an alert on a pod or a policy in an issue.")
@click.option(
    "--cluster", metavar="NAME", required=True, callback=_named, help="The alert's cluster, such as k3d or gcp."
)
@click.option(
    "--alert",
    "name",
    metavar="NAME",
    required=True,
    callback=_named,
    help="The alert's name, such as ModelPodOOMKilled.",
)
@click.option("--severity", metavar="TEXT", default="unknown", show_default=True, help="The alert's severity.")
@click.option("--namespace", metavar="NAME", required=True, help="The pod's namespace.")
@click.option("--pod", metavar="NAME", default="", help="The pod; leave it out for an alert that names none.")
@click.option("--policy", metavar="NAME", default="", help="The policy whose pods it is about, if it names no pod.")
@click.option("--summary", metavar="TEXT", default="", help="What the alert says in words.")
@_ISSUE
def analyze_alert(
    cluster: str, name: str, severity: str, namespace: str, pod: str, policy: str, summary: str, issue: bool
) -> None:
    """Collect what the cluster and Git know of an alert about pods, and ask a language model what it makes of it.

    The facts are the pod's status, its containers and their last ends, events, log lines, limits, and the recent
    promotions of its workload, without secrets; of an alert that names a policy and no pod, they are those of the
    policy's pods. They stand apart from what the language model writes, and are told
    without one as well. With --issue, the open issue of the same alert and workload gets a comment that says what is
    new, or else an issue is opened. The names may be anything: nothing in them is trusted.

    \b
    Examples:
      incumbent analyze-alert --cluster k3d --alert ModelPodOOMKilled --severity critical \\
        --namespace ml-apps --pod iris-classifier-7d9c6b5f4-x2x9z
      incumbent analyze-alert --cluster k3d --alert ModelErrorBudgetBurnsFast --severity critical \\
        --namespace ml-apps --policy iris-classifier-edge
      incumbent analyze-alert --cluster gcp --alert MLflowDown --severity critical --namespace mlflow --issue

    \b
    Exit code:
      0  told; what could not be found out is part of it
      2  wrong usage
      3  refused (a setting is missing or unusable); the reason is on standard error
      4  GitHub did not take the issue
    """
    with problems():
        from orchestration.analysis.alert import alert_of
        from orchestration.analysis.alert_findings import alert_findings
        from orchestration.analysis.issues import key_of
        from orchestration.analysis.prompt import ALERT_TASK
        from orchestration.analysis_environment import context_of
        from orchestration.commands.alert_facts import collect_alert

        github = _github(issue)
        alert, platform = alert_of(cluster, name, severity, namespace, pod, policy, summary), platform_of_environment()
        progress("collecting the facts")
        facts = collect_alert(platform, context_of(alert.cluster), alert)
        key = key_of("alert", alert.name, alert.cluster, alert.namespace, facts.workload or alert.about)
        _tell(alert_findings(facts), key, ["log-analysis"], ALERT_TASK, github, platform.clock())


@click.command("analyze-drift", short_help="Tell in an issue what a drifted champion's data show.")
@click.option("--model", metavar="NAME", required=True, callback=_named, help="The registered model.")
@click.option("--current", metavar="NUMBER", required=True, help="Its metric now, as the alert has it.")
@click.option("--baseline", metavar="NUMBER", required=True, help="What it is compared with.")
@click.option(
    "--policy", metavar="NAME", default="", help="The policy whose champion drifted; all of the model's, if none."
)
@click.option("--version", metavar="NUMBER", default="", help="The version that was measured, if the alert names it.")
@_ISSUE
def analyze_drift(model: str, current: str, baseline: str, policy: str, version: str, issue: bool) -> None:
    """Compare the champion of MODEL with the champion before it, and say which differences may explain the drift.

    Compared are the metrics, parameters, data sets and code of both training runs, for each policy of the model, or for
    the one that is named. The numbers are of the policy's metric, whatever it is. A policy with `on_drift: hold` or
    `roll_back` is then held or goes back to the former champion, once for each champion, as `incumbent hold` and
    `incumbent rollback` do it; but not if the alert is about another version than the champion.

    \b
    Example:
      incumbent analyze-drift --model iris-classifier --current 0.81 --baseline 0.93

    \b
    Exit code:
      0  told; what could not be found out is part of it
      2  wrong usage
      3  refused (a setting is missing or unusable, or what the policy asks for was refused)
      4  GitHub did not take the issue, or what the policy asks for is not finished
    """
    with problems():
        import uuid

        from orchestration.analysis.drift import drift_of
        from orchestration.analysis.drift_findings import drift_findings
        from orchestration.analysis.issues import key_of
        from orchestration.analysis.prompt import DRIFT_TASK
        from orchestration.commands.drift import BY, act_on_drift, collect_drift
        from orchestration.stages.lease import command_holder

        github = _github(issue)
        drift, platform = drift_of(model, current, baseline, policy, version), platform_of_environment()
        progress("collecting the facts")
        run = command_holder("rollback", BY, uuid.uuid4().hex[:8])
        facts = act_on_drift(platform, collect_drift(platform, drift), run, progress)
        key = key_of("drift", drift.model, drift.policy)
        _tell(drift_findings(facts), key, ["drift"], DRIFT_TASK, github, platform.clock())
        if facts.failure is not None:
            raise facts.failure


def _github(issue: bool) -> "GitHub | None":
    """Return where issues are opened, if one is asked for; asked first, so that a missing setting ends it at once."""
    from orchestration.analysis_environment import github_from_environment

    return github_from_environment() if issue else None


def _tell(
    findings: "Findings", key: str, labels: "Sequence[str]", task: str, github: "GitHub | None", clock: "Clock"
) -> None:
    """Tell it in an issue and print where, or else print the report."""
    from orchestration.analysis.report import issue_body
    from orchestration.analysis_environment import issue_author, language_model_from_environment
    from orchestration.commands.telling_alerts import analyse, tell

    def ask() -> "Analysis":
        progress("asking the language model")
        return analyse(language_model_from_environment, task, findings, clock)

    if github is None:
        say(f"# {findings.title}\n\n{issue_body('', findings, ask())}")
        return
    told = tell(github, issue_author(), key, findings, labels, ask)
    say(f"{'opened' if told.is_new else 'commented on'} {told.url}")

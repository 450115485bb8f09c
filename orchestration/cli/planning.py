"""`incumbent plan`, `incumbent doctor` and `incumbent init`: what comes before a promotion, and changes nothing."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestration.cli.run import (
    REFUSED,
    UNANSWERED,
    Version,
    json_option,
    platform_of_environment,
    policy_argument,
    print_json,
    problems,
    say,
)

if TYPE_CHECKING:
    from orchestration.commands.probes import Finding, Probe
    from orchestration.stages.plan import Plan

_COLOURS = {"passed": "green", "ok": "green", "refused": "red", "failed": "red", "no answer": "red"}


@click.command(short_help="Show what a promotion would do now, without doing it.")
@policy_argument
@click.argument("version", type=Version(), required=False)
@json_option
def plan(policy_name: str, version: int | None, as_json: bool) -> None:
    """Show what a promotion of VERSION under POLICY would do now; without VERSION, of the challenger.

    It shows every check before the commit (a promotion ends at the first that fails), the change of the manifest, the
    image to which a rollback would return, the gate's queries with their values for the pods that serve now, and what
    else is under way. It changes nothing: no commit, tag, lease, alias or state.

    \b
    Examples:
      incumbent plan iris-classifier-edge
      incumbent plan iris-classifier-edge 7 --json

    \b
    Exit code:
      0  it would be promoted as far as the commit; what comes after is judged by the gate
      2  wrong usage
      3  it would be refused or would wait; the reasons are in the table
      4  it is not known, because a dependency did not answer
    """
    with problems():
        from orchestration.stages.plan import Outlook, plan_promotion

        platform = platform_of_environment()
        policy = platform.policy(policy_name)
        found = plan_promotion(platform.clients(policy), policy, version, _progress)
        if as_json:
            print_json(_plan_document(found))
        else:
            say("\n".join(_plan_lines(found)))
        code = {Outlook.PASSED: 0, Outlook.UNANSWERED: UNANSWERED}.get(found.outlook, REFUSED)
    sys.exit(code)


def _progress(text: str) -> None:
    """Show what is being done to a person at a terminal; a pipe or a log gets the result alone."""
    if sys.stderr is not None and sys.stderr.isatty():
        click.echo(f"{text} ...", err=True)


def mark(word: str, width: int) -> str:
    """Return a word as a mark of that width, in colour; click removes the colours where nobody would see them."""
    return click.style(word.ljust(width), fg=_COLOURS.get(word, "yellow"))


def _plan_lines(found: "Plan") -> list[str]:
    lines = [f"{found.version} under {found.policy}; nothing is changed", "", "Checks"]
    for check in found.checks:
        lines.append(f"  {mark(str(check.outlook), 9)}  {check.name.ljust(21)}  {check.finding}")
        lines += [" " * 36 + check.next_step] if check.next_step else []
    lines += ["", f"Commit to {found.manifest}"]
    lines += _commit_lines(found)
    no_way_back = "not asked: it is committed already" if found.would_promote else "not known: see the checks"
    lines += ["", "A rollback would return to", f"  {found.way_back or no_way_back}"]
    if found.queries:
        lines += ["", f"The gate's queries, asked now about the pods that serve now ({', '.join(found.pods)})"]
        for answer in found.queries:
            asked = answer.asked
            bound = f", must be {asked.bound}" if asked.bound else ""
            lines.append(f"  {asked.name} ({asked.source}){bound}: {answer.finding}")
            lines += [f"      {line}" for line in asked.query.strip().splitlines()]
    else:
        lines += [
            "",
            "The gate's queries",
            "  not asked: no pod serves now, or the cluster or Prometheus does not answer",
        ]
    lines += ["", "Under way", *(f"  {line}" for line in found.under_way or ["nothing else"])]
    return [*lines, "", _conclusion(found)]


def _commit_lines(found: "Plan") -> list[str]:
    if found.subject is None:
        return ["  none: see the checks" if not found.would_promote else "  none: it is committed already"]
    trailers = [f"  {key}: {value}" for key, value in found.trailers.items()]
    return [f"  {found.subject}", *trailers, "", *(f"  {line}" for line in found.diff.splitlines())]


def _conclusion(found: "Plan") -> str:
    version = f"Version {found.version.version} of {found.version.model}"
    match str(found.outlook):
        case "passed":
            return f"{version} would be promoted." if found.subject else f"{version} is on the branch already."
        case "waiting":
            return f"{version} would wait."
        case "refused":
            return f"{version} would not be promoted."
    return f"It is not known whether {found.version} would be promoted: a dependency did not answer."


def _plan_document(found: "Plan") -> dict[str, object]:
    return {
        "policy": found.policy,
        "model": found.version.model,
        "version": found.version.version,
        "outlook": str(found.outlook),
        "would_promote": found.would_promote,
        "checks": [
            {
                "name": check.name,
                "outlook": str(check.outlook),
                "finding": check.finding,
                "next_step": check.next_step,
            }
            for check in found.checks
        ],
        "manifest": found.manifest,
        "image_now": found.image,
        "commit": {"subject": found.subject, "trailers": found.trailers, "diff": found.diff} if found.subject else None,
        "rollback_target": found.way_back,
        "pods": list(found.pods),
        "queries": [
            {
                "name": answer.asked.name,
                "source": answer.asked.source,
                "query": answer.asked.query,
                "bound": answer.asked.bound,
                "value": answer.value,
                "finding": answer.finding,
            }
            for answer in found.queries
        ],
        "under_way": found.under_way,
    }


@click.command(short_help="Examine everything that promotions will need.")
@click.argument("policy_name", metavar="[POLICY]", required=False)
@json_option
def doctor(policy_name: str | None, as_json: bool) -> None:
    """Examine everything that promotions under POLICY will need; without POLICY, under all of them.

    It asks for each setting, address, login, right, version and label, and shows what it found and how to put it
    right. It goes on after failures, and leaves out only what cannot be asked because of one. It changes nothing.

    \b
    Examples:
      incumbent doctor
      incumbent doctor iris-classifier-edge --json

    \b
    Exit code:
      0  nothing is wrong, as far as can be known
      2  wrong usage
      3  something is wrong, also when a dependency does not answer as well
      4  a dependency did not answer, or refused the login, and nothing else is wrong
    """
    with problems():
        from orchestration.commands.doctor import policies_to_examine, probes
        from orchestration.commands.probes import Outcome, examine

        platform = platform_of_environment()
        asked = probes(platform, policies_to_examine(platform, policy_name))
        found = list(examine(asked, _count))
        if as_json:
            print_json(_doctor_document(found))
        else:
            say("\n".join(_doctor_lines(found)))
    wrong = [finding.unanswered for _, finding in found if finding.outcome is Outcome.FAILED]
    sys.exit((UNANSWERED if all(wrong) else REFUSED) if wrong else 0)


def _count(done: int, of: int) -> None:
    """Show a person at a terminal how far it is, on one line that is then overwritten."""
    if sys.stderr is not None and sys.stderr.isatty():
        line = f"{done} of {of} probes done" if done < of else ""
        click.echo(f"\r{line.ljust(30)}\r", err=True, nl=False)


def _doctor_lines(found: "list[tuple[Probe, Finding]]") -> list[str]:
    lines: list[str] = []
    width = max(len(probe.name) for probe, _ in found)
    area = None
    for probe, finding in found:
        if probe.area != area:
            lines += ["", probe.area] if lines else [probe.area]
            area = probe.area
        lines.append(f"  {mark(str(finding.outcome), 9)}  {probe.name.ljust(width)}  {finding.text}")
        lines += [f"{' ' * (width + 15)}{finding.fix}"] if finding.fix else []
    counts: dict[str, int] = {}
    for _, finding in found:
        counts[str(finding.outcome)] = counts.get(str(finding.outcome), 0) + 1
    return [*lines, "", ", ".join(f"{count} {outcome}" for outcome, count in counts.items())]


def _doctor_document(found: "list[tuple[Probe, Finding]]") -> list[dict[str, object]]:
    return [
        {
            "area": probe.area,
            "name": probe.name,
            "outcome": str(finding.outcome),
            "finding": finding.text,
            "fix": finding.fix,
            "unanswered": finding.unanswered,
        }
        for probe, finding in found
    ]


def _application(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, str]:
    namespace, slash, name = value.partition("/")
    if not slash or not all(re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", part) for part in (namespace, name)):
        raise click.BadParameter(f"expected NAMESPACE/NAME such as argocd/iris-classifier, found {value!r}")
    return namespace, name


@click.command(short_help="Draft a policy from a live Argo CD application.")
@click.argument("model")
@click.option(
    "--application",
    metavar="NAMESPACE/NAME",
    callback=_application,
    required=True,
    help="The Argo CD Application that rolls the model out.",
)
@click.option("--policy", "policy_name", metavar="NAME", help="The policy's name.  [default: the application's]")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to write it.  [default: the policy's place in the policies folder]",
)
def init(model: str, application: tuple[str, str], policy_name: str | None, output: Path | None) -> None:
    """Draft a policy for the registered MODEL from a live Argo CD application.

    It takes the manifest from the application and the branch, the container and the image's repository from the
    workload, the gate's queries from the metrics that Prometheus has of its pods, and the quality bounds from the
    newest version's run. Every bound is a proposal. What it cannot find out is a comment "# TODO:" in the file, and is
    said on standard error; a policy with such a gap is refused until it is filled in. No file is overwritten.

    \b
    Example:
      incumbent init iris-classifier --application argocd/iris-classifier --policy iris-classifier-edge

    \b
    Exit code:
      0  written; standard error says what is left to fill in
      2  wrong usage
      3  refused (no such application, or the file exists); the reason is on standard error
      4  Argo CD did not answer
    """
    with problems():
        from orchestration.commands.drafting import draft_policy
        from orchestration.promotion.policy import require_policy_name

        namespace, name = application
        policy_name = policy_name or (output.stem if output is not None else name)
        require_policy_name(policy_name)
        platform = platform_of_environment()
        file = output or Path(platform.policies_folder) / f"{policy_name}.yaml"
        _require_new(file)
        draft = draft_policy(platform, model, namespace, name, policy_name, platform.argocd_context)
        _write_new(file, draft.text)
        for field, meaning in draft.open.items():
            click.echo(f"TODO {field}: {meaning}", err=True)
        left = f"; {len(draft.open)} field(s) are left to fill in" if draft.open else ""
        say(f"wrote {file}{left}. Next: incumbent doctor {policy_name}")


def _require_new(file: Path) -> None:
    from orchestration.promotion.problems import InvalidInputError, Problem

    if file.exists():
        next_step = "Name another file with --output, or remove this one."
        raise InvalidInputError(Problem(str(file), "no file of that name", "a file, which is kept", next_step))
    if not file.parent.is_dir():
        next_step = "Create it, set INCUMBENT_POLICIES, or name another file with --output."
        raise InvalidInputError(Problem(str(file.parent), "a folder for the policy", "no such folder", next_step))


def _write_new(file: Path, text: str) -> None:
    from orchestration.promotion.problems import InvalidInputError, Problem

    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(text)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        next_step = "Name another file with --output."
        raise InvalidInputError(Problem(str(file), "a new file that can be written", reason, next_step)) from error

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
    count,
    json_option,
    platform_of_environment,
    policy_argument,
    print_json,
    problems,
    progress,
    say,
    say_styled,
    tell,
)
from orchestration.cli.tables import beside, paragraph, printable, shown, width

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

    Of a version that is not the challenger, it shows what would happen if it were.

    It shows every check before the commit (a promotion ends at the first that fails), the change of the manifest, the
    image to which a rollback would return, the gate's queries with their values for the pods that serve now, and what
    else is under way. It changes nothing: no commit, tag, lease, alias or state.

    \b
    Examples:
      incumbent plan iris-classifier-edge
      incumbent plan iris-classifier-edge 7 --json

    \b
    Exit code:
      0  it would be promoted as far as the commit, or would if it were the challenger
      2  wrong usage
      3  it would be refused or would wait; the reasons are in the table
      4  it is not known, because a dependency did not answer
    """
    with problems():
        from orchestration.stages.plan import Outlook, plan_promotion

        platform = platform_of_environment()
        policy = platform.policy(policy_name)
        found = plan_promotion(platform.clients(policy), policy, version, progress)
        if as_json:
            print_json(_plan_document(found))
        else:
            say_styled("\n".join(_plan_lines(found)))
        code = {Outlook.PASSED: 0, Outlook.UNANSWERED: UNANSWERED}.get(found.outlook, REFUSED)
    sys.exit(code)


def mark(word: str, size: int) -> str:
    """Return a word as a mark of that width, in colour; click removes the colours where nobody would see them."""
    return click.style(word.ljust(size), fg=_COLOURS.get(word, "yellow"))


def _plan_lines(found: "Plan") -> list[str]:
    columns = width()

    def listed(*texts: str) -> list[str]:
        return [paragraph(text, columns) for text in texts]

    lines = [paragraph(f"{found.version} under {found.policy}; nothing is changed", columns, 0), "", "Checks"]
    for check in found.checks:
        head = f"  {mark(str(check.outlook), 9)}  {check.name.ljust(21)}  "
        lines += beside(head, (check.finding, check.next_step), columns)
    lines += ["", shown(f"Commit to {found.manifest}"), *_commit_lines(found, columns)]
    no_way_back = "not asked: it is committed already" if found.would_promote else "not known: see the checks"
    lines += ["", "A rollback would return to", *listed(found.way_back or no_way_back)]
    lines += ["", *_query_lines(found, columns)]
    lines += ["", "Under way", *listed(*(found.under_way or ["nothing else"]))]
    return [*lines, "", paragraph(_conclusion(found), columns, 0)]


def _commit_lines(found: "Plan", columns: int) -> list[str]:
    """Show the commit; its diff as it is, because a folded one would not be the diff."""
    if found.subject is None:
        return ["  none: see the checks" if not found.would_promote else "  none: it is committed already"]
    trailers = (f"{key}: {value}" for key, value in found.trailers.items())
    message = [paragraph(line, columns) for line in (found.subject, *trailers)]
    return [*message, "", *(f"  {line}" for line in printable(found.diff).splitlines())]


def _query_lines(found: "Plan", columns: int) -> list[str]:
    """Show what the gate asks; each query as it is, so that it can be copied."""
    if not found.queries:
        none = "not asked: no pod serves now, or the cluster or Prometheus does not answer"
        return ["The gate's queries", paragraph(none, columns)]
    asked_about = f"The gate's queries, asked now about the pods that serve now ({', '.join(found.pods)})"
    lines = [paragraph(asked_about, columns, 0)]
    for answer in found.queries:
        asked = answer.asked
        bound = f", must be {asked.bound}" if asked.bound else ""
        source = f" ({asked.source})" if asked.source else ""
        lines.append(paragraph(f"{asked.name}{source}{bound}: {answer.finding}", columns))
        lines += [f"      {line}" for line in printable(asked.query).strip().splitlines()]
    return lines


def _conclusion(found: "Plan") -> str:
    version = f"Version {found.version.version} of {found.version.model}"
    condition = f" if alias {found.alias} named it" if found.as_if_challenger else ""
    match str(found.outlook):
        case "passed" if found.subject is None:
            return f"{version} is on the branch already."
        case "passed":
            return f"{version} would be promoted{condition}."
        case "waiting":
            return f"{version} would wait{condition}."
        case "refused":
            return f"{version} would not be promoted{condition}."
    return f"It is not known whether {found.version} would be promoted{condition}: a dependency did not answer."


def _plan_document(found: "Plan") -> dict[str, object]:
    return {
        "policy": found.policy,
        "model": found.version.model,
        "version": found.version.version,
        "as_if_challenger": found.as_if_challenger,
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
        from orchestration.commands.doctor import probes
        from orchestration.commands.probes import Outcome, examine

        found = list(examine(probes(platform_of_environment(), policy_name), count))
        if as_json:
            print_json(_doctor_document(found))
        else:
            say_styled("\n".join(_doctor_lines(found)))
    wrong = [finding.unanswered for _, finding in found if finding.outcome is Outcome.FAILED]
    sys.exit((UNANSWERED if all(wrong) else REFUSED) if wrong else 0)


def _doctor_lines(found: "list[tuple[Probe, Finding]]") -> list[str]:
    lines: list[str] = []
    columns, size = width(), max(len(shown(probe.name)) for probe, _ in found)
    area = None
    for probe, finding in found:
        if probe.area != area:
            lines += ["", shown(probe.area)] if lines else [shown(probe.area)]
            area = probe.area
        head = f"  {mark(str(finding.outcome), 9)}  {shown(probe.name).ljust(size)}  "
        lines += beside(head, (finding.text, finding.fix), columns)
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
@click.option("--git-url", metavar="URL", help="The policy's own GitOps repository.  [default: INCUMBENT_GIT_URL]")
@click.option("--git-branch", metavar="BRANCH", help="The branch in it.  [default: INCUMBENT_GIT_BRANCH]")
@click.option(
    "--git-username",
    metavar="NAME",
    help="The user name beside the token of --git-token-file.  [default: the one that the host is known to take]",
)
@click.option(
    "--git-token-file",
    metavar="FILE",
    help="A file with a token for --git-url, where that is not on the host of INCUMBENT_GIT_URL.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to write it.  [default: the policy's place in the policies folder]",
)
def init(
    model: str,
    application: tuple[str, str],
    policy_name: str | None,
    git_url: str | None,
    git_branch: str | None,
    git_username: str | None,
    git_token_file: str | None,
    output: Path | None,
) -> None:
    """Draft a policy for the registered MODEL from a live Argo CD application.

    It takes the manifest from the application and the branch, the container and the image's repository from the
    workload, the gate's queries from the metrics that Prometheus has of its pods, and the quality bounds from the
    newest version's run. Every bound is a proposal. What it cannot find out is a comment "# TODO:" in the file, and is
    said on standard error; a policy with such a gap is refused until it is filled in. No file is overwritten.

    \b
    Examples:
      incumbent init iris-classifier --application argocd/iris-classifier \\
          --policy iris-classifier-edge
      incumbent init iris-classifier --application argocd/iris-production \\
          --git-url https://github.com/acme/models-production.git --git-branch production

    \b
    Exit code:
      0  written; standard error says what is left to fill in
      2  wrong usage
      3  refused (no such application or repository, or the file exists); the reason is on standard error
      4  Argo CD did not answer
    """
    if git_token_file and not git_url:
        raise click.UsageError("--git-token-file is for the repository of --git-url: give both")
    if git_username and not git_token_file:
        raise click.UsageError("--git-username goes with the token of --git-token-file: give both")
    with problems():
        from orchestration.commands.drafting import draft_policy
        from orchestration.promotion.policy import git_target, require_policy_name

        namespace, name = application
        policy_name = policy_name or (output.stem if output is not None else name)
        require_policy_name(policy_name)
        platform = platform_of_environment()
        file = output or platform.policies_path / f"{policy_name}.yaml"
        _require_new(file)
        stated = {"url": git_url, "branch": git_branch, "username": git_username, "token_file": git_token_file}
        own = git_target(stated)
        draft = draft_policy(platform, model, namespace, name, policy_name, own)
        _write_new(file, draft.text)
        for field, meaning in draft.open.items():
            tell(shown(f"TODO {field}: {meaning}"))
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

"""Decides whether a story came true, from what it left behind in Git, MLflow, the serving processes and a client's log.

It imports nothing from the pipeline, so it shares none of the pipeline's mistakes.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from testbeds.story.expectation import (
    End,
    Expected,
    evidence_content,
    evidence_document,
    evidence_path,
    promotion_commits,
    rollback_commits,
    version_tag,
    window,
)
from testbeds.story.seen import Commit, Request, Seen, Tag, seconds_of

SLOW_SECONDS = 1.0
"""An answer slower than this counts as harm; it is the latency bound of the sandbox's policy."""
_ENOUGH = 10
"""A window with fewer requests than this shows nothing."""


@dataclass(frozen=True)
class Finding:
    """One claim about the story, whether it holds, and what shows it."""

    claim: str
    holds: bool
    evidence: str


def verify(seen: Seen, story: Expected) -> list[Finding]:
    """Judge every claim of the story on its own; the story came true when all claims hold."""
    findings: list[Finding] = []
    for end in story.ends:
        findings += _state(seen, story, end)
        if end.state == "refused":
            findings += _never_committed(seen, story, end)
        else:
            findings += _committed_once(seen, story, end)
            findings += _evidence(seen, story, end) if end.served else _never_became_ready(seen, story, end)
        if end.state == "champion":
            findings += _good_for_the_client(seen, story, end)
        if end.state == "rolled_back":
            findings += _taken_back(seen, story, end)
            findings += _harm(seen, story, end) if end.served else ()
    findings += _no_failures_elsewhere(seen, story)
    findings += _at_the_end(seen, story)
    return findings


def false_claims(findings: Sequence[Finding]) -> dict[str, str]:
    """Return the claims that do not hold, each with what was found instead."""
    return {finding.claim: finding.evidence for finding in findings if not finding.holds}


def _finding(claim: str, faults: list[str], evidence: str) -> Finding:
    return Finding(claim, not faults, "; ".join(faults) if faults else evidence)


def _short(commits: list[Commit]) -> str:
    return ", ".join(commit.commit[:8] for commit in commits) or "none"


def _one_line(commit: Commit, story: Expected) -> list[str]:
    """List the faults of a commit that must change the manifest's image line and nothing else."""
    changes = [(change.path, change.removed, change.added) for change in commit.changes]
    if len(changes) == 1 and commit.image is not None:
        path, removed, added = changes[0]
        replaces_line = path == story.manifest and removed is not None and added is not None
        if replaces_line and _without_image(removed) == _without_image(added):
            return []
    return [f"commit {commit.commit[:8]} changes {changes}"]


def _without_image(line: str | None) -> str:
    """Cut the image out of its line, so that indentation, quotes and comments can be compared."""
    return re.sub(r"(?<=image: )[^\s'\"]+", "", line or "")


def _state(seen: Seen, story: Expected, end: End) -> Iterator[Finding]:
    version = seen.versions.get(end.version)
    state, reason = version_tag(version, story, "state"), version_tag(version, story, "reason")
    shown = f"{state or 'no state'}{f': {reason}' if reason else ''}"
    succeeded = end.state == "champion" and end.version != story.champion
    wanted = "former_champion" if succeeded else end.state
    yield Finding(f"version {end.version} ended as {wanted}", state == wanted, shown)
    if end.reason:
        explains = re.search(end.reason, reason) is not None
        yield Finding(f"version {end.version}'s reason says why", explains, reason or "no reason")


def _never_committed(seen: Seen, story: Expected, end: End) -> Iterator[Finding]:
    commits = promotion_commits(seen, story, end.version) + rollback_commits(seen, story, end.version)
    digest = _image_digest(seen, end.version)
    commits += [
        commit for commit in seen.commits if digest and digest in (commit.image or "") and commit not in commits
    ]
    yield Finding(f"version {end.version} was never committed", not commits, f"commits: {_short(commits)}")
    tags = _evidence_tags(seen, story, end.version)
    answered = [request for request in seen.requests if request.version == str(end.version)]
    left_no_trace = not tags and not answered
    yield Finding(
        f"version {end.version} never served and has no evidence tag",
        left_no_trace,
        f"{len(answered)} answers, {len(tags)} tags",
    )


def _never_became_ready(seen: Seen, story: Expected, end: End) -> Iterator[Finding]:
    """Claims about a version none of whose pods became ready: it was not measured, and it harmed no client."""
    answered = [request for request in seen.requests if request.version == str(end.version)]
    claim = f"version {end.version} never answered the client"
    yield Finding(claim, not answered and len(seen.requests) >= _ENOUGH, f"{len(answered)} answers")
    tags = ", ".join(tag.name for tag in _evidence_tags(seen, story, end.version))
    content = evidence_content(seen, story, end.version)
    shown = f"tags: {tags or 'none'}, {len(content)} bytes of evidence"
    yield Finding(f"version {end.version} was never judged by the gate", not tags and not content, shown)


def _image_digest(seen: Seen, number: int) -> str:
    version = seen.versions.get(number)
    return version.tags.get("image_digest", "") if version is not None else ""


def _committed_once(seen: Seen, story: Expected, end: End) -> Iterator[Finding]:
    commits = promotion_commits(seen, story, end.version)
    yield Finding(f"version {end.version} has exactly one promotion commit", len(commits) == 1, _short(commits))
    if len(commits) != 1:
        return
    commit, version, digest = commits[0], seen.versions.get(end.version), _image_digest(seen, end.version)
    short = digest.removeprefix("sha256:")[:12]
    wanted = {
        "Promotion-Id": f"{story.policy}/{end.version}/{short}/1",
        "Model-Version": str(end.version),
        "MLflow-Run": version.run_id if version is not None else "a registered version",
        "Image-Digest": digest,
    }
    faults = [
        f"trailer {name} is {commit.trailers.get(name)!r}, not {value!r}"
        for name, value in wanted.items()
        if commit.trailers.get(name) != value
    ]
    subject = f"Promote {story.policy} to version {end.version}"
    faults += [f"subject is {commit.subject!r}"] if commit.subject != subject else []
    yield _finding(
        f"version {end.version}'s commit describes the promotion", faults, f"{commit.commit[:8]} {commit.subject}"
    )
    faults = _one_line(commit, story)
    if not digest or not (commit.image or "").endswith(f"@{digest}"):
        faults.append(f"image {commit.image}, not the published {digest or 'digest (none on the version)'}")
    yield _finding(f"version {end.version}'s commit changes only the image, to the published one", faults, digest)


def _evidence_tags(seen: Seen, story: Expected, version: int) -> list[Tag]:
    start = f"incumbent/{story.policy}/{version}-"
    return [tag for tag in seen.tags if tag.name.startswith(start)]


def _evidence(seen: Seen, story: Expected, end: End) -> Iterator[Finding]:
    commits, tags = promotion_commits(seen, story, end.version), _evidence_tags(seen, story, end.version)
    path, content = evidence_path(story, end.version), evidence_content(seen, story, end.version)
    names = ", ".join(tag.name for tag in tags) or "none"
    if end.state == "champion":
        promoted = [commit.commit for commit in commits]
        right = [tag for tag in tags if tag.annotated and [tag.commit] == promoted and tag.field("Verdict") == "Passed"]
        yield Finding(f"version {end.version} has one annotated evidence tag", len(tags) == len(right) == 1, names)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}" if content else f"no artifact {path}"
        tagged = tags[0].field("Evidence-Digest") if tags else None
        claim = f"version {end.version}'s tag names the evidence's digest"
        yield Finding(claim, tagged == digest, f"{tagged}, {digest}")
    else:
        yield Finding(f"version {end.version} has no evidence tag", not tags, names)
    document = evidence_document(seen, story, end.version)
    if document is None or len(commits) != 1:
        shown = "no readable evidence document" if document is None else f"{len(commits)} promotion commits"
        yield Finding(f"version {end.version}'s verdict rests on measurements of its soak", False, shown)
        return
    faults = list(_document_faults(document, commits[0], _image_digest(seen, end.version), end))
    shown = f"{document.get('verdict')}, {len(document.get('evaluations', []))} evaluations"
    yield _finding(f"version {end.version}'s verdict rests on measurements of its soak", faults, shown)
    if end.state == "rolled_back":
        taken = (seconds_of(document.get("soak_ended")) or 0.0) - (seconds_of(document.get("soak_started")) or 0.0)
        early = 0 <= taken < story.judge_within
        claim = f"the gate stopped version {end.version} before its time for a verdict ran out"
        yield Finding(claim, early, f"{taken:.1f} of {story.judge_within:g} s")


def _document_faults(document: dict[str, Any], commit: Commit, digest: str, end: End) -> Iterator[str]:
    verdict = "Passed" if end.state == "champion" else "Failed"
    for name, wanted in (("verdict", verdict), ("commit", commit.commit), ("image_digest", digest)):
        if document.get(name) != wanted:
            yield f"{name} is {document.get(name)!r}, not {wanted!r}"
    started, ended = seconds_of(document.get("soak_started")), seconds_of(document.get("soak_ended"))
    evaluations = document.get("evaluations") or []
    if started is None or ended is None or not commit.at <= started < ended or not evaluations:
        soak = f"a soak from {document.get('soak_started')} to {document.get('soak_ended')}"
        yield f"{soak}, {len(evaluations)} evaluations"
        return
    # Times in the document are truncated to milliseconds.
    times = [evaluation["at"] for evaluation in evaluations]
    outside = [at for at in times if not started - 0.001 <= at <= ended + 0.001]
    if outside:
        yield f"{len(outside)} evaluations outside the soak"
    last = evaluations[-1]
    broken = [slo["name"] for slo in last["slos"] if slo["finding"] != "kept"]
    if not last["slos"]:
        yield "no SLO was measured"
    if verdict == "Passed" and broken:
        yield f"passed, though {', '.join(broken)} was not kept"
    if verdict == "Passed" and not _answered_right(last["recorded"]):
        yield f"passed, though its recorded requests are {last['recorded']}"
    if verdict == "Failed" and not broken and not last["recorded"]["wrong"]:
        yield "failed, though nothing was violated"


def _answered_right(recorded: dict[str, Any]) -> bool:
    complete = 0 < recorded["due"] <= recorded["asked"]
    return complete and not recorded["wrong"] and not recorded["unanswered"]


def _taken_back(seen: Seen, story: Expected, end: End) -> Iterator[Finding]:
    rollbacks = rollback_commits(seen, story, end.version)
    claim = f"version {end.version} has exactly one rollback commit"
    yield Finding(claim, len(rollbacks) == 1, _short(rollbacks))
    if len(rollbacks) != 1 or end.back_to is None:
        return
    rollback = rollbacks[0]
    before = promotion_commits(seen, story, end.back_to)
    image = before[-1].image if before else None
    faults = _one_line(rollback, story)
    if image is None or rollback.image != image:
        faults.append(f"it puts {rollback.image} into the manifest, but version {end.back_to} is {image}")
    if rollback.trailers.get("Verdict") != "Failed":
        faults.append(f"its trailer Verdict is {rollback.trailers.get('Verdict')!r}")
    claim = f"the rollback restores version {end.back_to}'s image and changes nothing else"
    yield _finding(claim, faults, f"{rollback.commit[:8]} {rollback.subject}")


def _in(seen: Seen, during: tuple[float, float] | None, wanted: Callable[[Request], bool]) -> list[Request]:
    """Return the wanted requests that were sent inside a window; none when there was no window."""
    if during is None:
        return []
    return [request for request in seen.requests if during[0] <= request.at < during[1] and wanted(request)]


def _good_for_the_client(seen: Seen, story: Expected, end: End) -> Iterator[Finding]:
    during = window(seen, story, end)
    sent = _in(seen, during, lambda request: True)
    failed = [request for request in sent if not request.ok]
    answered = [request for request in sent if request.version == str(end.version)]
    shown = f"{len(sent)} sent, {len(failed)} failed{_first(failed)}, {len(answered)} answered by it"
    claim = f"the client lost no request to version {end.version}'s promotion"
    yield Finding(claim, not failed and len(sent) >= _ENOUGH and bool(answered), shown)


def _first(requests: list[Request]) -> str:
    return f" (the first: status {requests[0].status}, {requests[0].error})" if requests else ""


def _harm(seen: Seen, story: Expected, end: End) -> Iterator[Finding]:
    during, name = window(seen, story, end), str(end.version)
    answers = [request for request in seen.requests if request.version == name]
    outside = [answer for answer in answers if during is None or not during[0] <= answer.at < during[1]]
    last = max((answer.answered_at for answer in answers), default=None)
    after = [request for request in seen.requests if last is not None and request.at > last and request.ok]
    stray = [request for request in after if end.back_to is not None and request.at < (during or (0, 0))[1]]
    wrong = [request for request in stray if request.version != str(end.back_to)]
    faults = [f"{len(outside)} of its answers outside its window"] if outside else []
    faults += ["it never answered the client"] if not answers else []
    faults += ["no version answered after it"] if answers and not stray else []
    faults += [f"version {wrong[0].version} answered after it"] if wrong else []
    claim = f"version {name} answers no request after its rollback, version {end.back_to} answers again"
    yield _finding(claim, faults, f"{len(answers)} answers of version {name}, then {len(stray)} of {end.back_to}")
    strange = _in(seen, during, lambda request: not request.ok and request.version != name)
    harmed = [answer for answer in answers if not answer.ok or answer.seconds > SLOW_SECONDS]
    claim = f"all harm in version {name}'s window is version {name}'s own"
    yield Finding(claim, not strange, f"{len(harmed)} harmed by it, {len(strange)} by others{_first(strange)}")


def _no_failures_elsewhere(seen: Seen, story: Expected) -> Iterator[Finding]:
    windows = [window(seen, story, end) for end in story.ends if end.state == "rolled_back" and end.served]
    harmful = [during for during in windows if during is not None]
    others = [
        request
        for request in seen.requests
        if not request.ok and not any(start <= request.at < end for start, end in harmful)
    ]
    claim = "no request failed outside the window of a version that was rolled back"
    enough = len(seen.requests) >= _ENOUGH
    yield Finding(claim, enough and not others, f"{len(seen.requests)} sent, {len(others)} failed{_first(others)}")


def _at_the_end(seen: Seen, story: Expected) -> Iterator[Finding]:
    alias = f"version {seen.champion}" if seen.champion else "no version"
    yield Finding(f"the champion is version {story.champion}", seen.champion == story.champion, alias)
    commits = promotion_commits(seen, story, story.champion)
    image = commits[-1].image if commits else None
    correct = [process for process in seen.serving if process.version == str(story.champion) and process.image == image]
    shown = ", ".join(f"{process.pod}: version {process.version}" for process in seen.serving) or "nothing serves"
    every = bool(seen.serving) and len(correct) == len(seen.serving)
    yield Finding(f"every serving process serves version {story.champion}", every, shown)
    wanted = sum({"champion": 1, "rolled_back": 2, "refused": 0}[end.state] for end in story.ends)
    versions = {end.version for end in story.ends}
    of_story = [commit for commit in seen.commits if _version_of(commit, story) in versions]
    claim = f"the branch has {wanted} commits for these {len(story.ends)} promotions"
    yield Finding(claim, len(of_story) == wanted, _short(of_story))


def _version_of(commit: Commit, story: Expected) -> int | None:
    """Read from a commit's trailers which version it promotes or rolls back; None for any other commit."""
    text = commit.trailers.get("Promotion-Id") or commit.trailers.get("Rollback-Of") or ""
    match = re.fullmatch(rf"{re.escape(story.policy)}/([0-9]+)/[0-9a-f]{{12}}/[0-9]+", text)
    return int(match[1]) if match else None

"""Decides whether a story came true, from what it left behind in Git, MLflow, the serving processes and a client's log.

It imports nothing of the pipeline, so that no mistake of the pipeline is its own.
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
"""An answer that takes longer is harm, as the sandbox policy's latency bound has it."""
_ENOUGH = 10
"""Requests without which a window shows nothing."""


@dataclass(frozen=True)
class Finding:
    """One claim about the story, whether it holds, and what shows it."""

    claim: str
    holds: bool
    evidence: str


def verify(seen: Seen, story: Expected) -> list[Finding]:
    """Every claim of the story, each judged on its own; the story came true when all hold."""
    findings: list[Finding] = []
    for end in story.ends:
        findings += _state(seen, story, end)
        if end.state == "refused":
            findings += _never_committed(seen, story, end)
        else:
            findings += _committed_once(seen, story, end)
            findings += _evidence(seen, story, end) if end.served else _never_met(seen, story, end)
        if end.state == "champion":
            findings += _good_for_the_client(seen, story, end)
        if end.state == "rolled_back":
            findings += _taken_back(seen, story, end)
            findings += _harm(seen, story, end) if end.served else ()
    findings += _no_failures_elsewhere(seen, story)
    findings += _at_the_end(seen, story)
    return findings


def false_claims(findings: Sequence[Finding]) -> dict[str, str]:
    """What does not hold, with what was found instead."""
    return {finding.claim: finding.evidence for finding in findings if not finding.holds}


def _finding(claim: str, faults: list[str], evidence: str) -> Finding:
    return Finding(claim, not faults, "; ".join(faults) if faults else evidence)


def _short(commits: list[Commit]) -> str:
    return ", ".join(one.commit[:8] for one in commits) or "none"


def _one_line(commit: Commit, story: Expected) -> list[str]:
    """Faults of a commit that must change the manifest's image line and nothing else."""
    found = [(one.path, one.removed, one.added) for one in commit.changes]
    whole = len(found) == 1 and found[0][0] == story.manifest and None not in found[0]
    if whole and commit.image is not None and _but_image(found[0][1]) == _but_image(found[0][2]):
        return []
    return [f"commit {commit.commit[:8]} changes {found}"]


def _but_image(line: str | None) -> str:
    """The image line without its image, so that indentation, quotes and comments are compared."""
    return re.sub(r"(?<=image: )[^\s'\"]+", "", line or "")


def _state(seen: Seen, story: Expected, end: End) -> Iterator[Finding]:
    version = seen.versions.get(end.version)
    state, reason = version_tag(version, story, "state"), version_tag(version, story, "reason")
    shown = f"{state or 'no state'}{f': {reason}' if reason else ''}"
    yield Finding(f"version {end.version} ended as {end.state}", state == end.state, shown)
    if end.reason:
        said = re.search(end.reason, reason) is not None
        yield Finding(f"version {end.version}'s reason says why", said, reason or "no reason")


def _never_committed(seen: Seen, story: Expected, end: End) -> Iterator[Finding]:
    found = promotion_commits(seen, story, end.version) + rollback_commits(seen, story, end.version)
    digest = _image_digest(seen, end.version)
    found += [one for one in seen.commits if digest and digest in (one.image or "") and one not in found]
    yield Finding(f"version {end.version} was never committed", not found, f"commits: {_short(found)}")
    tags = _evidence_tags(seen, story, end.version)
    answered = [one for one in seen.requests if one.version == str(end.version)]
    unheard = not tags and not answered
    yield Finding(
        f"version {end.version} never served and has no evidence tag",
        unheard,
        f"{len(answered)} answers, {len(tags)} tags",
    )


def _never_met(seen: Seen, story: Expected, end: End) -> Iterator[Finding]:
    """A version none of whose pods became ready: there is nothing to measure, and nobody whom it harmed."""
    answered = [one for one in seen.requests if one.version == str(end.version)]
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
    found = promotion_commits(seen, story, end.version)
    yield Finding(f"version {end.version} has exactly one promotion commit", len(found) == 1, _short(found))
    if len(found) != 1:
        return
    commit, version, digest = found[0], seen.versions.get(end.version), _image_digest(seen, end.version)
    short = digest.removeprefix("sha256:")[:12]
    wanted = {
        "Promotion-Id": f"{story.policy}/{end.version}/{short}/1",
        "Model-Version": str(end.version),
        "MLflow-Run": version.run_id if version is not None else "a registered version",
        "Image-Digest": digest,
    }
    faults = [
        f"trailer {name} is {commit.trailers.get(name)!r} and not {value!r}"
        for name, value in wanted.items()
        if commit.trailers.get(name) != value
    ]
    subject = f"Promote {story.policy} to version {end.version}"
    faults += [f"subject is {commit.subject!r}"] if commit.subject != subject else []
    yield _finding(f"version {end.version}'s commit says what it is", faults, f"{commit.commit[:8]} {commit.subject}")
    faults = _one_line(commit, story)
    if not digest or not (commit.image or "").endswith(f"@{digest}"):
        faults.append(f"image {commit.image} and not the published {digest or 'digest (none on the version)'}")
    yield _finding(f"version {end.version}'s commit changes only the image, to the published one", faults, digest)


def _evidence_tags(seen: Seen, story: Expected, version: int) -> list[Tag]:
    start = f"incumbent/{story.policy}/{version}-"
    return [tag for tag in seen.tags if tag.name.startswith(start)]


def _evidence(seen: Seen, story: Expected, end: End) -> Iterator[Finding]:
    commits, tags = promotion_commits(seen, story, end.version), _evidence_tags(seen, story, end.version)
    path, content = evidence_path(story, end.version), evidence_content(seen, story, end.version)
    names = ", ".join(tag.name for tag in tags) or "none"
    if end.state == "champion":
        right = [
            tag
            for tag in tags
            if tag.annotated and [tag.commit] == [one.commit for one in commits] and tag.field("Verdict") == "Passed"
        ]
        yield Finding(f"version {end.version} has one annotated evidence tag", len(tags) == len(right) == 1, names)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}" if content else f"no artifact {path}"
        said = tags[0].field("Evidence-Digest") if tags else None
        yield Finding(f"version {end.version}'s tag names the evidence's digest", said == digest, f"{said}, {digest}")
    else:
        yield Finding(f"version {end.version} has no evidence tag", not tags, names)
    document = evidence_document(seen, story, end.version)
    if document is None or len(commits) != 1:
        found = "no readable evidence document" if document is None else f"{len(commits)} promotion commits"
        yield Finding(f"version {end.version}'s verdict rests on measurements of its soak", False, found)
        return
    faults = list(_document_faults(document, commits[0], _image_digest(seen, end.version), end))
    shown = f"{document.get('verdict')}, {len(document.get('evaluations', []))} evaluations"
    yield _finding(f"version {end.version}'s verdict rests on measurements of its soak", faults, shown)
    if end.state == "rolled_back":
        taken = (seconds_of(document.get("soak_ended")) or 0.0) - (seconds_of(document.get("soak_started")) or 0.0)
        early = 0 <= taken < story.judge_within
        claim = f"the gate stopped version {end.version} before its time was over"
        yield Finding(claim, early, f"{taken:.1f} of {story.judge_within:g} s")


def _document_faults(document: dict[str, Any], commit: Commit, digest: str, end: End) -> Iterator[str]:
    verdict = "Passed" if end.state == "champion" else "Failed"
    for name, wanted in (("verdict", verdict), ("commit", commit.commit), ("image_digest", digest)):
        if document.get(name) != wanted:
            yield f"{name} is {document.get(name)!r} and not {wanted!r}"
    started, ended = seconds_of(document.get("soak_started")), seconds_of(document.get("soak_ended"))
    evaluations = document.get("evaluations") or []
    if started is None or ended is None or not commit.at <= started < ended or not evaluations:
        yield f"a soak from {document.get('soak_started')} to {document.get('soak_ended')}, {len(evaluations)} looks"
        return
    # Times in the document are cut to milliseconds.
    outside = [one["at"] for one in evaluations if not started - 0.001 <= one["at"] <= ended + 0.001]
    if outside:
        yield f"{len(outside)} evaluations outside the soak"
    last = evaluations[-1]
    broken = [slo["name"] for slo in last["slos"] if slo["finding"] != "kept"]
    if not last["slos"]:
        yield "no SLO was measured"
    if verdict == "Passed" and broken:
        yield f"passed, though {', '.join(broken)} was not kept"
    if verdict == "Passed" and not _answered_right(last["recorded"]):
        yield f"passed, though of the recorded requests it says {last['recorded']}"
    if verdict == "Failed" and not broken and not last["recorded"]["wrong"]:
        yield "failed, though nothing was violated"


def _answered_right(recorded: dict[str, Any]) -> bool:
    whole = 0 < recorded["due"] <= recorded["asked"]
    return whole and not recorded["wrong"] and not recorded["unanswered"]


def _taken_back(seen: Seen, story: Expected, end: End) -> Iterator[Finding]:
    found = rollback_commits(seen, story, end.version)
    claim = f"version {end.version} has exactly one rollback commit"
    yield Finding(claim, len(found) == 1, _short(found))
    if len(found) != 1 or end.back_to is None:
        return
    before = promotion_commits(seen, story, end.back_to)
    image = before[-1].image if before else None
    faults = _one_line(found[0], story)
    if image is None or found[0].image != image:
        faults.append(f"it puts {found[0].image} there, version {end.back_to} is {image}")
    if found[0].trailers.get("Verdict") != "Failed":
        faults.append(f"its trailer Verdict is {found[0].trailers.get('Verdict')!r}")
    claim = f"the rollback puts version {end.back_to}'s image there and changes nothing else"
    yield _finding(claim, faults, f"{found[0].commit[:8]} {found[0].subject}")


def _in(seen: Seen, during: tuple[float, float] | None, wanted: Callable[[Request], bool]) -> list[Request]:
    """The requests sent inside a window that are wanted; of no window there are none."""
    if during is None:
        return []
    return [one for one in seen.requests if during[0] <= one.at < during[1] and wanted(one)]


def _good_for_the_client(seen: Seen, story: Expected, end: End) -> Iterator[Finding]:
    during = window(seen, story, end)
    sent = _in(seen, during, lambda one: True)
    failed = [one for one in sent if not one.ok]
    answered = [one for one in sent if one.version == str(end.version)]
    shown = f"{len(sent)} sent, {len(failed)} failed{_first(failed)}, {len(answered)} answered by it"
    claim = f"the client lost no request to version {end.version}'s promotion"
    yield Finding(claim, not failed and len(sent) >= _ENOUGH and bool(answered), shown)


def _first(requests: list[Request]) -> str:
    return f" (the first: status {requests[0].status}, {requests[0].error})" if requests else ""


def _harm(seen: Seen, story: Expected, end: End) -> Iterator[Finding]:
    during, name = window(seen, story, end), str(end.version)
    answers = [one for one in seen.requests if one.version == name]
    outside = [one for one in answers if during is None or not during[0] <= one.at < during[1]]
    last = max((one.answered_at for one in answers), default=None)
    after = [one for one in seen.requests if last is not None and one.at > last and one.ok]
    stray = [one for one in after if end.back_to is not None and one.at < (during or (0, 0))[1]]
    wrong = [one for one in stray if one.version != str(end.back_to)]
    faults = [f"{len(outside)} answers of it outside its window"] if outside else []
    faults += ["it never answered the client"] if not answers else []
    faults += ["nobody answered after it"] if answers and not stray else []
    faults += [f"version {wrong[0].version} answered after it"] if wrong else []
    claim = f"version {name} answers nobody after its rollback, version {end.back_to} answers again"
    yield _finding(claim, faults, f"{len(answers)} answers of version {name}, then {len(stray)} of {end.back_to}")
    strange = _in(seen, during, lambda one: not one.ok and one.version != name)
    harmed = [one for one in answers if not one.ok or one.seconds > SLOW_SECONDS]
    claim = f"all harm in version {name}'s time is version {name}'s own"
    yield Finding(claim, not strange, f"{len(harmed)} harmed by it, {len(strange)} by others{_first(strange)}")


def _no_failures_elsewhere(seen: Seen, story: Expected) -> Iterator[Finding]:
    windows = [window(seen, story, end) for end in story.ends if end.state == "rolled_back" and end.served]
    harmful = [during for during in windows if during is not None]
    others = [one for one in seen.requests if not one.ok and not any(start <= one.at < end for start, end in harmful)]
    claim = "no request failed outside the time of a version that was taken back"
    whole = len(seen.requests) >= _ENOUGH
    yield Finding(claim, whole and not others, f"{len(seen.requests)} sent, {len(others)} failed{_first(others)}")


def _at_the_end(seen: Seen, story: Expected) -> Iterator[Finding]:
    alias = f"version {seen.champion}" if seen.champion else "no version"
    yield Finding(f"the champion is version {story.champion}", seen.champion == story.champion, alias)
    commits = promotion_commits(seen, story, story.champion)
    image = commits[-1].image if commits else None
    right = [one for one in seen.serving if one.version == str(story.champion) and one.image == image]
    shown = ", ".join(f"{one.pod}: version {one.version}" for one in seen.serving) or "nothing serves"
    every = bool(seen.serving) and len(right) == len(seen.serving)
    yield Finding(f"every serving process serves version {story.champion}", every, shown)
    ours = [one for one in seen.commits if any(name in one.trailers for name in ("Promotion-Id", "Rollback-Of"))]
    wanted = sum({"champion": 1, "rolled_back": 2, "refused": 0}[end.state] for end in story.ends)
    about = [one for one in ours if _version_of(one, story) in {end.version for end in story.ends}]
    claim = f"the branch has {wanted} commits for these {len(story.ends)} promotions"
    yield Finding(claim, len(about) == wanted, _short(about))


def _version_of(commit: Commit, story: Expected) -> int | None:
    text = commit.trailers.get("Promotion-Id") or commit.trailers.get("Rollback-Of") or ""
    match = re.fullmatch(rf"{re.escape(story.policy)}/([0-9]+)/[0-9a-f]{{12}}/[0-9]+", text)
    return int(match[1]) if match else None

"""The verifier finds what is untrue: each claim fails on a true story that is altered in one point."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from testbeds.story.seen import Change, Commit, Seen, Serving, Tag
from testbeds.story.verifier import verify
from tests.story.true_story import (
    MANIFEST,
    POLICY,
    STORY,
    digest_of,
    image_of,
    path_of,
    promotion,
    request,
    requested_at,
    rollback,
    stamp,
    tag_for,
    true_story,
)

Alteration = Callable[[Seen], Seen]


def false_claims(seen: Seen) -> set[str]:
    return {finding.claim for finding in verify(seen, STORY) if not finding.holds}


def test_every_claim_holds_for_a_true_story() -> None:
    """A story that came true makes no claim false, and every claim comes with evidence."""
    findings = verify(true_story(), STORY)
    assert [finding for finding in findings if not finding.holds] == []
    assert len(findings) > 30
    assert all(finding.evidence for finding in findings)
    assert len({finding.claim for finding in findings}) == len(findings)


def with_commit(seen: Seen, index: int, **changed: Any) -> Seen:
    commits = list(seen.commits)
    commits[index] = replace(commits[index], **changed)
    return replace(seen, commits=tuple(commits))


def with_trailer(seen: Seen, index: int, name: str, value: str) -> Seen:
    return with_commit(seen, index, trailers={**seen.commits[index].trailers, name: value})


def with_change(seen: Seen, index: int, *more: Change, **changed: Any) -> Seen:
    return with_commit(seen, index, changes=(replace(seen.commits[index].changes[0], **changed), *more))


def with_another(seen: Seen, *commits: Commit) -> Seen:
    return replace(seen, commits=(*seen.commits, *commits))


def with_tag(seen: Seen, number: int, name: str, value: str) -> Seen:
    version = seen.versions[number]
    return replace(seen, versions={**seen.versions, number: replace(version, tags={**version.tags, name: value})})


def with_state(seen: Seen, number: int, name: str, value: str) -> Seen:
    return with_tag(seen, number, f"incumbent.{POLICY}.{name}", value)


def with_document(seen: Seen, number: int, change: Callable[[dict[str, Any]], object]) -> Seen:
    """Change an evidence document, and the digest in its tag (if any), so that only the content is wrong."""
    version = seen.versions[number]
    document = json.loads(version.evidence[path_of(number)])
    change(document)
    content = json.dumps(document).encode()
    tags = tuple(
        tag_for(number, seen.commits[number], content) if tag.name.endswith(f"/{number}-1") else tag
        for tag in seen.tags
    )
    changed = replace(version, evidence={path_of(number): content})
    return replace(seen, versions={**seen.versions, number: changed}, tags=tags)


def with_requests(seen: Seen, at: float, *, version: str, ok: bool = True) -> Seen:
    status = 200 if ok else 0
    extra = request(at, version, ok=ok, status=status)
    return replace(seen, requests=tuple(sorted((*seen.requests, extra), key=lambda sent: sent.at)))


def without(seen: Seen, version: int) -> Seen:
    return replace(seen, requests=tuple(sent for sent in seen.requests if sent.version != str(version)))


_EXTRA = Change("README.md", "a", "b")

ALTERED: dict[str, tuple[Alteration, set[str]]] = {
    "a second promotion commit": (
        lambda seen: with_another(seen, promotion(2, image_of(2), "x")),
        {"version 2 has exactly one promotion commit"},
    ),
    "no promotion commit": (
        lambda seen: replace(seen, commits=seen.commits[:1] + seen.commits[2:]),
        {"version 1 has exactly one promotion commit"},
    ),
    "another subject": (
        lambda seen: with_commit(seen, 1, subject="Update image"),
        {"version 1's commit describes the promotion"},
    ),
    "another run in the trailer": (
        lambda seen: with_trailer(seen, 2, "MLflow-Run", "run9"),
        {"version 2's commit describes the promotion"},
    ),
    "another digest in the trailer": (
        lambda seen: with_trailer(seen, 2, "Image-Digest", digest_of(9)),
        {"version 2's commit describes the promotion"},
    ),
    "an image that was not published": (
        lambda seen: with_change(seen, 1, added=f"          image: {image_of(9)}"),
        {"version 1's commit changes only the image, to the published one"},
    ),
    "a second file in the commit": (
        lambda seen: with_change(seen, 1, _EXTRA),
        {"version 1's commit changes only the image, to the published one"},
    ),
    "another file than the manifest": (
        lambda seen: with_change(seen, 2, path="other.yaml"),
        {"version 2's commit changes only the image, to the published one"},
    ),
    "a lost comment": (
        lambda seen: with_change(seen, 1, removed=f"          image: {image_of(0)} # pinned"),
        {"version 1's commit changes only the image, to the published one"},
    ),
    "no rollback": (
        lambda seen: replace(seen, commits=seen.commits[:-1]),
        {"version 3 has exactly one rollback commit", "the branch has 4 commits for these 5 promotions"},
    ),
    "two rollbacks": (
        lambda seen: with_another(seen, rollback(3, 2, "x")),
        {"version 3 has exactly one rollback commit"},
    ),
    "a rollback to the wrong version": (
        lambda seen: with_change(seen, 4, added=f"          image: {image_of(1)}"),
        {"the rollback restores version 2's image and changes nothing else"},
    ),
    "a rollback that changes more": (
        lambda seen: with_change(seen, 4, _EXTRA),
        {"the rollback restores version 2's image and changes nothing else"},
    ),
    "a rollback after an error of the platform": (
        lambda seen: with_trailer(seen, 4, "Verdict", "Error"),
        {"the rollback restores version 2's image and changes nothing else"},
    ),
    "the worse version committed": (
        lambda seen: with_another(seen, promotion(4, image_of(2), "x")),
        {"version 4 was never committed", "the branch has 4 commits for these 5 promotions"},
    ),
    "the unpublished version committed without trailers": (
        lambda seen: with_tag(
            with_another(seen, replace(promotion(5, image_of(2), "x"), trailers={})), 5, "image_digest", digest_of(5)
        ),
        {"version 5 was never committed"},
    ),
    "a refused version that answered": (
        lambda seen: with_requests(seen, requested_at(4) + 20, version="4"),
        {"version 4 never served and has no evidence tag"},
    ),
    "a refused version with evidence": (
        lambda seen: replace(seen, tags=(*seen.tags, Tag(f"incumbent/{POLICY}/5-1", True, "x", ""))),
        {"version 5 never served and has no evidence tag"},
    ),
    "the alias on another version": (lambda seen: replace(seen, champion=3), {"the champion is version 2"}),
    "no champion": (lambda seen: replace(seen, champion=None), {"the champion is version 2"}),
    "no evidence tag": (
        lambda seen: replace(seen, tags=seen.tags[1:]),
        {"version 1 has one annotated evidence tag", "version 1's tag names the evidence's digest"},
    ),
    "a lightweight tag": (
        lambda seen: replace(seen, tags=(replace(seen.tags[0], annotated=False), seen.tags[1])),
        {"version 1 has one annotated evidence tag"},
    ),
    "a tag on another commit": (
        lambda seen: replace(seen, tags=(replace(seen.tags[0], commit="x"), seen.tags[1])),
        {"version 1 has one annotated evidence tag"},
    ),
    "a tag for the bad version": (
        lambda seen: replace(seen, tags=(*seen.tags, Tag(f"incumbent/{POLICY}/3-1", True, "x", ""))),
        {"version 3 has no evidence tag"},
    ),
    "a champion's state missing": (lambda seen: with_state(seen, 2, "state", ""), {"version 2 ended as champion"}),
    "a former champion that still passes as champion": (
        lambda seen: with_state(seen, 1, "state", "champion"),
        {"version 1 ended as former_champion"},
    ),
    "the bad version held": (lambda seen: with_state(seen, 3, "state", "held"), {"version 3 ended as rolled_back"}),
    "a refused version still waiting": (
        lambda seen: with_state(seen, 5, "state", "waiting"),
        {"version 5 ended as refused"},
    ),
    "a refusal for another reason": (
        lambda seen: with_state(seen, 4, "reason", "run is not FINISHED"),
        {"version 4's reason says why"},
    ),
    "a rollback for no reason": (lambda seen: with_state(seen, 3, "reason", ""), {"version 3's reason says why"}),
    "evidence changed afterwards": (
        lambda seen: replace(
            seen,
            versions={**seen.versions, 1: replace(seen.versions[1], evidence={path_of(1): b"{}"})},
        ),
        {"version 1's tag names the evidence's digest", "version 1's verdict rests on measurements of its soak"},
    ),
    "evidence of another commit": (
        lambda seen: with_document(seen, 2, lambda evidence: evidence.update(commit="x")),
        {"version 2's verdict rests on measurements of its soak"},
    ),
    "no measurements": (
        lambda seen: with_document(seen, 2, lambda evidence: evidence.update(evaluations=[])),
        {"version 2's verdict rests on measurements of its soak"},
    ),
    "a measurement from before the commit": (
        lambda seen: with_document(seen, 2, lambda evidence: evidence["evaluations"][0].update(at=requested_at(2))),
        {"version 2's verdict rests on measurements of its soak"},
    ),
    "a soak that began before the commit": (
        lambda seen: with_document(seen, 1, lambda evidence: evidence.update(soak_started=stamp(requested_at(1)))),
        {"version 1's verdict rests on measurements of its soak"},
    ),
    "passed with a broken bound": (
        lambda seen: with_document(
            seen,
            2,
            lambda evidence: evidence["evaluations"][-1]["slos"][0].update(finding="violated: 0.8 is not >= 0.99"),
        ),
        {"version 2's verdict rests on measurements of its soak"},
    ),
    "passed without an answer to a recorded request": (
        lambda seen: with_document(seen, 2, lambda evidence: evidence["evaluations"][-1]["recorded"].update(asked=0)),
        {"version 2's verdict rests on measurements of its soak"},
    ),
    "failed with nothing violated": (
        lambda seen: with_document(
            seen,
            3,
            lambda evidence: [evaluation["slos"][0].update(finding="kept") for evaluation in evidence["evaluations"]],
        ),
        {"version 3's verdict rests on measurements of its soak"},
    ),
    "a gate that waited for its deadline": (
        lambda seen: with_document(seen, 3, lambda evidence: evidence.update(soak_ended=stamp(requested_at(3) + 80))),
        {"the gate stopped version 3 before its time for a verdict ran out"},
    ),
    "a request lost to a good promotion": (
        lambda seen: with_requests(seen, requested_at(2) + 8, version="1", ok=False),
        {
            "the client lost no request to version 2's promotion",
            "no request failed outside the window of a version that was rolled back",
        },
    ),
    "a request lost between promotions": (
        lambda seen: with_requests(seen, requested_at(1) - 5, version="baseline", ok=False),
        {"no request failed outside the window of a version that was rolled back"},
    ),
    "a champion that never answered": (
        lambda seen: without(seen, 1),
        {"the client lost no request to version 1's promotion"},
    ),
    "a client that sent no request": (
        lambda seen: replace(seen, requests=()),
        {
            "the client lost no request to version 1's promotion",
            "version 3 answers no request after its rollback, version 2 answers again",
            "no request failed outside the window of a version that was rolled back",
        },
    ),
    "the bad version answers again later": (
        lambda seen: with_requests(seen, requested_at(4) + 30, version="3"),
        {"version 3 answers no request after its rollback, version 2 answers again"},
    ),
    "an older version serves after the rollback": (
        lambda seen: with_requests(seen, requested_at(3) + 40, version="1"),
        {"version 3 answers no request after its rollback, version 2 answers again"},
    ),
    "another version's failure in the bad version's window": (
        lambda seen: with_requests(seen, requested_at(3) + 30, version="2", ok=False),
        {"all harm in version 3's window is version 3's own"},
    ),
    "the bad version still serves somewhere": (
        lambda seen: replace(seen, serving=(*seen.serving, Serving("pod-3", "iris-classifier", "3", image_of(3)))),
        {"every serving process serves version 2"},
    ),
    "the right version from another image": (
        lambda seen: replace(seen, serving=(Serving("pod-1", "iris-classifier", "2", image_of(9)),)),
        {"every serving process serves version 2"},
    ),
    "nothing serves": (lambda seen: replace(seen, serving=()), {"every serving process serves version 2"}),
}


@pytest.mark.parametrize("name", ALTERED)
def test_an_altered_story_makes_its_claims_false(name: str) -> None:
    """Each alteration of the true story makes the claims false that describe the altered point."""
    alter, claims = ALTERED[name]
    assert claims <= false_claims(alter(true_story()))


def test_every_claim_can_be_false() -> None:
    """For each kind of claim, at least one altered story makes it false."""
    kinds = {kind(finding.claim) for finding in verify(true_story(), STORY)}
    falsified = {kind(claim) for alter, _ in ALTERED.values() for claim in false_claims(alter(true_story()))}
    assert kinds - falsified == set()


def kind(claim: str) -> str:
    return "".join("n" if letter.isdigit() else letter for letter in claim)


def test_a_commit_to_another_manifest_is_not_a_promotion() -> None:
    """A commit that edits the image line of another policy's manifest does not count as this policy's promotion."""
    other = replace(STORY, manifest=f"{MANIFEST}.other")
    claims = {finding.claim for finding in verify(true_story(), other) if not finding.holds}
    assert "version 1's commit changes only the image, to the published one" in claims


NEVER_READY = replace(STORY, ends=tuple(replace(end, served=False) if end.version == 3 else end for end in STORY.ends))


def never_ready() -> Seen:
    """The true story of a version 3 that never became ready: it answered no request, and the gate never judged it."""
    seen = without(true_story(), 3)
    return replace(seen, versions={**seen.versions, 3: replace(seen.versions[3], evidence={})})


def test_a_version_that_never_became_ready_needs_no_harm_and_no_measurements() -> None:
    """Such a story is true without them, while an answer, a lost request or a verdict makes a claim false."""

    def false(seen: Seen) -> set[str]:
        return {finding.claim for finding in verify(seen, NEVER_READY) if not finding.holds}

    story, silent = never_ready(), "version 3 never answered the client"
    unjudged = "version 3 was never judged by the gate"
    lost = "no request failed outside the window of a version that was rolled back"
    assert false(story) == set()
    assert false(with_requests(story, requested_at(3) + 10, version="3")) == {silent}
    assert false(with_requests(story, requested_at(3) + 10, version="2", ok=False)) == {lost}
    assert false(replace(story, tags=(*story.tags, Tag(f"incumbent/{POLICY}/3-1", True, "x", "")))) == {unjudged}
    assert false(true_story()) == {silent, unjudged, lost}
    assert silent in false(replace(story, requests=()))

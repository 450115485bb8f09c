"""The story of the five versions as it looks when it came true, written by hand for the verifier's tests to alter."""

import hashlib
import json
from typing import Any

from testbeds.story.expectation import Expected
from testbeds.story.seen import Change, Commit, Request, Seen, Serving, Tag, Version
from testbeds.story.stories import FIVE_VERSIONS

POLICY = "iris-classifier-edge"
MANIFEST = "manifests/applications/iris-classifier/deployment.yaml"
STORY = Expected(POLICY, MANIFEST, FIVE_VERSIONS, champion=2, judge_within=60.0)
REPOSITORY = "ghcr.io/dycouzt/mlops-ai-platform-model-source"
START = 1_750_000_000.0
"""When version 1 was requested: 2025-06-15T15:06:40Z. Each version is requested 60 s after the previous one."""
_LINE = "          image: "


def digest_of(version: int) -> str:
    return f"sha256:{hashlib.sha256(f'image {version}'.encode()).hexdigest()}"


def image_of(version: int) -> str:
    return f"{REPOSITORY}:{version:040x}@{digest_of(version)}"


def commit_id(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()


def requested_at(version: int) -> float:
    return START + 60 * (version - 1)


def promotion(version: int, before: str, parent: str) -> Commit:
    trailers = {
        "Promotion-Id": f"{POLICY}/{version}/{digest_of(version).removeprefix('sha256:')[:12]}/1",
        "Model": "iris-classifier",
        "Model-Version": str(version),
        "MLflow-Run": f"run{version}",
        "Image-Digest": digest_of(version),
    }
    change = Change(MANIFEST, _LINE + before, _LINE + image_of(version))
    subject = f"Promote {POLICY} to version {version}"
    return Commit(commit_id(subject), parent, requested_at(version) + 5, subject, trailers, (change,))


def rollback(version: int, to: int, parent: str) -> Commit:
    identity = f"{POLICY}/{version}/{digest_of(version).removeprefix('sha256:')[:12]}/1"
    trailers = {"Rollback-Of": identity, "Verdict": "Failed", "Image": image_of(to)}
    subject = f"Roll back {POLICY} from version {version} to version {to}"
    change = Change(MANIFEST, _LINE + image_of(version), _LINE + image_of(to))
    return Commit(commit_id(subject), parent, requested_at(version) + 20, subject, trailers, (change,))


def stamp(at: float) -> str:
    """Return a time as the pipeline writes it."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def document(version: int, commit: Commit, passed: bool) -> dict[str, Any]:
    """Return an evidence document as the pipeline writes it."""
    began = requested_at(version) + 10
    finding = "kept" if passed else "violated: 0.8 is not >= 0.99"
    recorded = {"due": 30, "asked": 30, "wrong": [], "unanswered": []}
    evaluations = [
        {"at": began + 2 * n, "slos": [{"name": "success_ratio", "finding": finding}], "recorded": recorded}
        for n in (1, 2, 3)
    ]
    return {
        "verdict": "Passed" if passed else "Failed",
        "commit": commit.commit,
        "image_digest": digest_of(version),
        "soak_started": stamp(began),
        "soak_ended": stamp(began + 6),
        "evaluations": evaluations,
    }


def path_of(version: int) -> str:
    return f"incumbent/{POLICY}/{version}-1.json"


def tag_for(version: int, commit: Commit, content: bytes) -> Tag:
    digest = hashlib.sha256(content).hexdigest()
    return Tag(
        f"incumbent/{POLICY}/{version}-1",
        True,
        commit.commit,
        f"{POLICY}: version {version} passed\n\nVerdict: Passed\nEvidence: {path_of(version)}\n"
        f"Evidence-Digest: sha256:{digest}\n",
    )


def registered(number: int, state: str, reason: str, evidence: bytes | None) -> Version:
    tags = {f"incumbent.{POLICY}.state": state, f"incumbent.{POLICY}.reason": reason}
    tags |= {f"incumbent.{POLICY}.requested_at": stamp(requested_at(number)), "image_digest": digest_of(number)}
    if number == 5:
        del tags["image_digest"]
    return Version(number, f"run{number}", tags, {path_of(number): evidence} if evidence is not None else {})


def request(at: float, version: str, **fields: Any) -> Request:
    return Request(at=at, **{"seconds": 0.01, "status": 200, "version": version, "ok": True, **fields})


def serving_version(at: float) -> str:
    """Return the version that serves at a time of the story; a rollout takes 3 s."""
    turns = (
        (requested_at(1) + 8, "unregistered"),
        (requested_at(2) + 8, "1"),
        (requested_at(3) + 8, "2"),
        (requested_at(3) + 23, "3"),
    )
    return next((version for until, version in turns if at < until), "2")


def requests() -> tuple[Request, ...]:
    sent = []
    for n in range(2 * 330):
        at = START - 10 + n / 2
        bad = serving_version(at) == "3"
        fields = {"seconds": 1.21, "status": 500 if n % 5 == 0 else 200, "ok": n % 5 != 0} if bad else {}
        sent.append(request(at, serving_version(at), **fields))
    return tuple(sent)


def true_story() -> Seen:
    """Return everything that a true story leaves behind."""
    root = Commit(commit_id("root"), "", START - 60, "Serve the baseline", {}, ())
    before = f"{REPOSITORY}:baseline"
    first = promotion(1, before, root.commit)
    second = promotion(2, image_of(1), first.commit)
    third = promotion(3, image_of(2), second.commit)
    back = rollback(3, 2, third.commit)
    evidence = {
        number: json.dumps(document(number, commit, number != 3)).encode()
        for number, commit in ((1, first), (2, second), (3, third))
    }
    versions = (
        registered(1, "former_champion", "Champion until version 2 took over.", evidence[1]),
        registered(2, "champion", "", evidence[2]),
        registered(3, "rolled_back", "the new pods: success_ratio violated", evidence[3]),
        registered(4, "refused", "accuracy of version 4: expected no worse than the champion, found 0.9", None),
        registered(5, "refused", "image x: the registry has no such image", None),
    )
    return Seen(
        commits=(root, first, second, third, back),
        tags=(tag_for(1, first, evidence[1]), tag_for(2, second, evidence[2])),
        versions={version.number: version for version in versions},
        champion=2,
        serving=tuple(Serving(f"pod-{n}", "iris-classifier", "2", image_of(2)) for n in (1, 2)),
        requests=requests(),
        at=START + 320,
    )

"""Comparing what Git, the registry, Dagster and the cluster say about one version; nothing is written."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from orchestration.promotion.acts import Act, ActKind, is_adoption_of
from orchestration.promotion.branch_standing import CommittedPromotion, committed_promotions, is_image_of
from orchestration.promotion.branch_view import image_at, other_under_way, parse_acts
from orchestration.promotion.decided import Decided
from orchestration.promotion.deployed import image_key
from orchestration.promotion.identity import committed_digest, committed_facts
from orchestration.promotion.images import parse_image
from orchestration.promotion.live_value import pod_value
from orchestration.promotion.model_version import ModelVersion, not_registered
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Clients, ResolvedImage, TagRecord
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.rollout_conditions import running_digest
from orchestration.promotion.texts import one_line, read_json_object, read_trailers

_AFTER_CHAMPION: tuple[str, ...] = ("champion", "former_champion", "rolled_back")
"""States of a version that was verified: it may have been taken back, or left, since."""
_TAKEN_BACK: tuple[str, ...] = ("rejected", "rolled_back", "held")
_UNDER_WAY: tuple[str, ...] = ("committed", "held", "rejected", "rolled_back")


@dataclass(frozen=True)
class Finding:
    """One thing that was compared."""

    what: str
    where: str
    finding: str
    ok: bool


@dataclass(frozen=True)
class DagsterRecord:
    """What a Dagster instance keeps of the version's last `serving_model`."""

    promotion_id: str | None
    evidence_digest: str | None
    checks: Mapping[str, bool]
    """Whether each of its checks passed at the last time."""


def verify_version(clients: Clients, policy: Policy, number: int, dagster: DagsterRecord | None) -> tuple[Finding, ...]:
    """Compare everything that is kept about a version: its last verified attempt, its last one, or its adoption.

    Args:
        clients: The ports; all of them are only read.
        policy: The policy.
        number: The version.
        dagster: What Dagster has; None when it has no history of the version.

    Raises:
        InvalidInputError: there is no such version, or it was never committed or adopted.
        DependencyError: a dependency does not answer.
    """
    git, head = clients.git, clients.git.fetch()
    promotions = committed_promotions(git.history(head, policy.name), policy.name)
    attempts = [known for known in promotions if known.identity.version == number]
    version = clients.registry.version(policy.model, number)
    records = git.tags_below(f"incumbent/{policy.name}/")
    if not attempts:
        made = (act for act in parse_acts(records) if act.kind is ActKind.ADOPT and act.version == number)
        adoption = next(made, None)
        if adoption is not None:
            return tuple(_adoption_findings(clients, policy, head, promotions, version, adoption))
        raise InvalidInputError(_never_committed(policy, number) if version else not_registered(policy.model, number))
    tags = {tag.name: tag for tag in records}
    verified = (known for known in attempts if known.identity.evidence_tag in tags)
    chosen = next(verified, attempts[0])
    tag = tags.get(chosen.identity.evidence_tag)
    findings = [*_git_findings(clients, policy, chosen, tag)]
    if version is None:
        findings.append(Finding("version", "MLflow", "no such version in the registry any more", False))
    else:
        findings += _evidence_findings(clients, version, chosen, tag)
        if chosen == attempts[0]:
            findings += _version_findings(policy, version, chosen, tag)
    findings.append(_dagster_finding(chosen, tag, dagster))
    live = partial(is_image_of, chosen.identity)
    findings += _live_findings(clients, policy, head, promotions, version, number, live)
    return tuple(findings)


def _never_committed(policy: Policy, number: int) -> Problem:
    return Problem(
        f"version {number} of {policy.model}",
        "a version that was committed or adopted",
        "no promotion of it on the branch, and no adoption",
        f"To see what was committed: incumbent history {policy.name}.",
    )


def _adoption_findings(
    clients: Clients,
    policy: Policy,
    head: str,
    promotions: tuple[CommittedPromotion, ...],
    version: ModelVersion | None,
    act: Act,
) -> Iterator[Finding]:
    """Compare what there is of a version that was adopted: it has neither a commit of ours nor evidence of a soak."""
    number = act.version or 0
    on_branch = clients.git.is_ancestor(act.commit, head)
    where = f"on commit {act.commit[:12]}" + ("" if on_branch else ", which the branch does not have any more")
    yield Finding("adoption", "Git", f"{act.tag} by {Decided(act.by, act.reason)}, {where}", on_branch)

    def is_adopted(image: str) -> bool:
        return is_adoption_of(act, image)

    image = image_at(clients.git, policy, act.commit)
    named = (
        f"{image or f'no {policy.slot.noun} that can be read'} in the manifest, adopted as {act.digest or 'no digest'}"
    )
    yield Finding(f"adopted {policy.slot.noun}", "Git", named, image is not None and is_adopted(image))
    if version is None:
        yield Finding("version", "MLflow", "no such version in the registry any more", False)
    else:
        state = version.tag(policy.name, "state")
        yield _state_finding(state, _AFTER_CHAMPION)
    yield from _live_findings(clients, policy, head, promotions, version, number, is_adopted, act.digest)


def _state_finding(state: str | None, expected: Sequence[str]) -> Finding:
    finding = f"state {state or 'none'}" + ("" if state in expected else f", and Git says {_or(expected)}")
    return Finding("state", "MLflow", finding, state in expected)


def _git_findings(
    clients: Clients, policy: Policy, chosen: CommittedPromotion, tag: TagRecord | None
) -> Iterator[Finding]:
    identity, commit = chosen.identity, chosen.commit
    yield Finding("promotion", "Git", f"{identity} is commit {commit.commit[:12]}", True)
    image = image_at(clients.git, policy, commit.commit)
    written = image_key(committed_digest(commit.trailers))
    same = image is not None and is_image_of(identity, image) and written == identity.digest
    found = image or f"no {policy.slot.noun} that can be read"
    yield Finding(f"committed {policy.slot.noun}", "Git", f"{found} in the manifest", same)
    if chosen.rollback is not None:
        verdict = one_line(chosen.rollback.trailers.get("Verdict", "")) or "no verdict"
        yield Finding("rollback", "Git", f"taken back by commit {chosen.rollback.commit[:12]} ({verdict})", True)
    if tag is None:
        yield Finding("evidence tag", "Git", f"no tag {identity.evidence_tag}: this attempt was never verified", True)
        return
    on_commit = tag.commit == commit.commit
    where = "its commit" if on_commit else f"commit {tag.commit[:12]}, which is another one"
    yield Finding("evidence tag", "Git", f"{tag.name} is on {where}", on_commit)
    named = read_trailers(tag.message).get("Promotion-Id")
    yield Finding("promotion of the tag", "Git", named or "not named in the tag", named == str(identity))


def _evidence_findings(
    clients: Clients, version: ModelVersion, chosen: CommittedPromotion, tag: TagRecord | None
) -> Iterator[Finding]:
    identity, where = chosen.identity, "MLflow"
    content = clients.registry.artifact(version.run_id, identity.evidence_path) if version.run_id else None
    if content is None:
        yield Finding("evidence", where, f"no artifact {identity.evidence_path}", tag is None)
        return
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if tag is not None:
        named = read_trailers(tag.message).get("Evidence-Digest")
        said = "as the tag says" if digest == named else f"and the tag says {named or 'none'}"
        yield Finding("evidence", where, f"{identity.evidence_path} has {digest}, {said}", digest == named)
    document = read_json_object(content)
    expected = {
        "promotion_id": str(identity),
        "commit": chosen.commit.commit,
        **committed_facts(chosen.commit.trailers),
    }
    if tag is not None:
        expected["verdict"] = "Passed"
    wrong = [
        f"{name} {document.get(name)} instead of {value}"
        for name, value in expected.items()
        if document.get(name) != value
    ]
    right = f"promotion, commit and image are these; verdict {document.get('verdict')}"
    yield Finding("content of the evidence", where, "; ".join(wrong) or right, not wrong)


def _version_findings(
    policy: Policy, version: ModelVersion, chosen: CommittedPromotion, tag: TagRecord | None
) -> Iterator[Finding]:
    """Compare the tags of the version with the end that Git has; they are those of its last attempt."""
    state = version.tag(policy.name, "state")
    expected = _TAKEN_BACK if chosen.rollback is not None else _AFTER_CHAMPION if tag is not None else _UNDER_WAY
    yield _state_finding(state, expected)
    facts = {"commit": chosen.commit.commit, "digest": committed_digest(chosen.commit.trailers)}
    for name, value in facts.items():
        written = version.tag(policy.name, name)
        yield Finding(f"tag {name}", "MLflow", written or "not written", written == value)


def _dagster_finding(chosen: CommittedPromotion, tag: TagRecord | None, dagster: DagsterRecord | None) -> Finding:
    """Compare what Dagster remembers. It may have been lost at any time, so its absence is said and is no fault."""
    if dagster is None:
        return Finding("history", "Dagster", "none of this version in this instance", True)
    if dagster.promotion_id != str(chosen.identity):
        last = dagster.promotion_id or "an unknown promotion"
        return Finding("history", "Dagster", f"none of this attempt in this instance; the last is of {last}", True)
    named = read_trailers(tag.message).get("Evidence-Digest") if tag is not None else None
    if dagster.evidence_digest not in (None, named):
        return Finding("history", "Dagster", f"the evidence was {dagster.evidence_digest}", False)
    failed = [name for name, passed in dagster.checks.items() if not passed]
    if failed:
        return Finding("history", "Dagster", f"failed checks of serving_model: {', '.join(failed)}", tag is None)
    return Finding("history", "Dagster", "serving_model was materialized, and its checks passed", True)


def _live_findings(
    clients: Clients,
    policy: Policy,
    head: str,
    promotions: tuple[CommittedPromotion, ...],
    version: ModelVersion | None,
    number: int,
    is_its_image: Callable[[str], bool],
    digest: str | None = None,
) -> Iterator[Finding]:
    """Compare the version with what is live.

    What is on the branch and was made champion must have the alias; and what has the alias must be on the branch,
    unless another version's promotion is under way.
    """
    champion = clients.registry.version_by_alias(policy.model, policy.champion_alias)
    is_champion = champion is not None and champion.version == number
    named = f"version {champion.version}" if champion is not None else "no version"
    was_crowned = version is not None and version.tag(policy.name, "state") == "champion"
    image, what = image_at(clients.git, policy, head), policy.slot.noun
    is_live = image is not None and is_its_image(image)
    as_expected = is_champion if was_crowned and is_live else was_crowned or not is_champion
    yield Finding("alias", "MLflow", f"{policy.champion_alias} names {named}", as_expected)
    here = f"the version's {what}" if is_live else f"{image or f'no {what} that can be read'}, which is another one"
    other = other_under_way(clients.registry, clients.git, policy, head, promotions, number)
    under_way = f"; version {other[0].identity.version} is being promoted" if other is not None else ""
    is_right = is_live or not is_champion or other is not None
    yield Finding("manifest at the head", "Git", f"has {here}{under_way}", is_right)
    if is_live and image is not None:
        yield from _pod_findings(clients, policy, image, digest)


def _pod_findings(clients: Clients, policy: Policy, image: str, digest: str | None) -> Iterator[Finding]:
    """Compare the pods with the image that the manifest has; with a digest, also what its tag names now."""
    target, where = policy.manifest, f"cluster {policy.cluster}"
    workload = clients.cluster.workload(target.kind, target.namespace, target.name)
    name = f"{target.kind} {target.namespace}/{target.name}"
    pods = workload.new_pods if workload is not None else ()
    if policy.slot.holds_address:
        has = {pod.name: pod_value(pod, target.container, policy.slot) for pod in pods}
        others = {pod: f"has {value or 'no address'}" for pod, value in has.items() if value != image}
        agree = "have that address"
    else:
        resolved = _resolved(clients, image)
        if resolved is None:
            yield Finding("image", "image registry", f"no {image}", False)
            return
        same = digest in (None, resolved.digest)
        finding = f"{image} is there" if same else f"{image} is {resolved.digest} now, and {digest} was adopted"
        yield Finding("image", "image registry", finding, same)
        running = {pod.name: running_digest(pod, target.container) for pod in pods}
        known = resolved.known_digests
        others = {pod: f"runs {one or 'no image yet'}" for pod, one in running.items() if one not in known}
        agree = "run a digest of that image"
    if not pods:
        yield Finding("pods", where, f"{name} has no pods" if workload is not None else f"no {name}", False)
    for pod, finding in others.items():
        yield Finding(f"pod {pod}", where, finding, False)
    if pods and not others:
        yield Finding("pods", where, f"all {len(pods)} {agree}", True)


def _resolved(clients: Clients, image: str) -> ResolvedImage | None:
    reference = parse_image(image)
    return clients.images.resolve(reference) if reference is not None else None


def _or(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"

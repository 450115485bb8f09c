"""Looks at every policy again and again, and keeps what it found for scrapes at any time."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from orchestration.exporter.ledger import (
    BranchRewrittenError,
    Committed,
    Ledger,
    Record,
    champion_commit,
    read_on,
)
from orchestration.promotion.branch_standing import is_image_of
from orchestration.promotion.branch_view import image_at
from orchestration.promotion.champions import adopted_image, adopted_version
from orchestration.promotion.images import parse_image
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.platform import Platform
from orchestration.promotion.problems import ProblemError

_EVIDENCE_SECONDS = 300.0
"""How often a champion's evidence is verified again: it has to be read whole, and hardly ever changes."""
_DIGEST = re.compile(r"^Evidence-Digest: (sha256:[0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True)
class Champion:
    """The version that the champion alias names."""

    version: int
    image: str
    """The image in its promotion's commit, or with which it was adopted; empty when a person only set the alias."""
    has_evidence: bool


@dataclass(frozen=True)
class Live:
    """What the live workload serves."""

    image: str | None
    """None when the workload does not exist."""
    version: int | None
    """None when no promotion of this policy committed that image."""
    is_champion: bool | None
    """None while there is no champion, or while the champion's image is unknown."""


@dataclass(frozen=True)
class Findings:
    """What is known about one policy. After a failed look, past events stay known; the present state does not."""

    policy: str
    model: str | None = None
    record: Record | None = None
    record_is_fresh: bool = False
    champion: Champion | None = None
    live: Live | None = None
    looked_at: float | None = None
    failures: int = 0
    problem: str = ""


@dataclass
class _Watched:
    ledger: Ledger
    champion_image: tuple[str, str] = ("", "")
    """Commit and image of the champion at the last look."""
    evidence: tuple[str, float, bool] = ("", 0.0, False)
    """Commit, time and result of the last verification of the evidence."""


class Watcher:
    """Only reads. A caller that asks for `findings` gets them from memory at once."""

    def __init__(self, platform: Platform, say: Callable[[str], None]) -> None:
        self._platform, self._say = platform, say
        self._clock, self._registry, self._git = platform.clock(), platform.registry(), platform.git()
        self._watched: dict[str, _Watched] = {}
        self.findings: Mapping[str, Findings] = {}
        """By policy; replaced as a whole, so that a reader in another thread needs no lock."""

    def look(self) -> None:
        """Look at each policy once; a failure is reported and counted, and does not stop the other policies."""
        try:
            names = self._platform.policy_names()
        except Exception as error:  # noqa: BLE001 - a thread that ended here would leave old answers behind
            for before in self.findings.values():
                self._keep(self._failed(before, error))
            self._say(f"the policies: {error}")
            return
        self.findings = {name: findings for name, findings in self.findings.items() if name in names}
        self._watched = {name: watched for name, watched in self._watched.items() if name in names}
        for name in names:
            before = self.findings.get(name, Findings(name))
            try:
                findings = self._look_at(before)
            except Exception as error:  # noqa: BLE001 - whatever one policy's data caused, the others are looked at
                findings = self._failed(before, error)
            if findings.problem and findings.problem != before.problem:
                self._say(f"policy {name}: {findings.problem}")
            self._keep(findings)

    def _keep(self, findings: Findings) -> None:
        self.findings = {**self.findings, findings.policy: findings}

    def _failed(self, before: Findings, error: Exception) -> Findings:
        """The findings after a failed look: without anything that may have changed since."""
        problem = str(error) if isinstance(error, ProblemError) else f"unexpected {type(error).__name__}: {error}"
        stale = replace(before, record_is_fresh=False, champion=None, live=None)
        return replace(stale, failures=before.failures + 1, problem=problem)

    def _look_at(self, before: Findings) -> Findings:
        policy, now = self._platform.policy(before.policy), self._clock.now()
        watched = self._watched.get(policy.name)
        if watched is None or watched.ledger.policy != policy:
            watched = self._watched[policy.name] = _Watched(Ledger(policy))
        try:
            record = self._read(watched)
            champion = self._champion(watched, record.champion, now)
        except ProblemError as error:
            failed = self._failed(before, error)
            if failed.model == policy.model or failed.record is None:
                return failed
            return Findings(policy.name, failures=failed.failures, problem=failed.problem)
        known = replace(before, model=policy.model, record=record, record_is_fresh=True, champion=champion)
        try:
            live = self._live(watched.ledger, record.champion, champion)
        except ProblemError as error:
            return replace(known, live=None, failures=before.failures + 1, problem=str(error))
        return replace(known, live=live, looked_at=now, problem="")

    def _read(self, watched: _Watched) -> Record:
        try:
            return read_on(watched.ledger, self._registry, self._git, self._clock)
        except BranchRewrittenError:
            watched.ledger = Ledger(watched.ledger.policy)
            return read_on(watched.ledger, self._registry, self._git, self._clock)

    def _champion(self, watched: _Watched, version: ModelVersion | None, now: float) -> Champion | None:
        if version is None:
            return None
        committed = champion_commit(watched.ledger, version)
        if committed is None:
            adopted = adopted_image(self._git, watched.ledger.policy, version.version)
            return Champion(version.version, str(adopted or ""), has_evidence=adopted is not None)
        if watched.champion_image[0] != committed.commit:
            image = image_at(self._git, watched.ledger.policy, committed.commit) or ""
            watched.champion_image = (committed.commit, image)
        commit, verified_at, has_evidence = watched.evidence
        if commit != committed.commit or now - verified_at >= _EVIDENCE_SECONDS:
            has_evidence = self._has_evidence(committed, version)
            watched.evidence = (committed.commit, now, has_evidence)
        return Champion(version.version, watched.champion_image[1], has_evidence)

    def _has_evidence(self, committed: Committed, version: ModelVersion) -> bool:
        """Whether the annotated tag is on the promotion's commit and names the digest that the evidence has."""
        tag = self._git.tag(committed.identity.evidence_tag)
        if tag is None or tag.commit != committed.commit or version.run_id is None:
            return False
        evidence = self._registry.artifact(version.run_id, committed.identity.evidence_path)
        named = _DIGEST.search(tag.message)
        digest = f"sha256:{hashlib.sha256(evidence).hexdigest()}" if evidence is not None else None
        return named is not None and named[1] == digest

    def _live(self, ledger: Ledger, champion: ModelVersion | None, known: Champion | None) -> Live:
        target = ledger.policy.manifest
        workload = self._platform.cluster(ledger.policy.cluster).workload(target.kind, target.namespace, target.name)
        image = workload.images.get(target.container) if workload is not None else None
        committed = champion_commit(ledger, champion) if champion is not None else None
        is_known = committed is not None or (known is not None and known.image != "")
        if image is None:
            return Live(None, None, False if is_known else None)
        # The champion first: another version may have been committed with the same image.
        if committed is not None and is_image_of(committed.identity, image):
            return Live(image, committed.identity.version, is_champion=True)
        if committed is None and known is not None and is_known:
            adopted = adopted_version(self._git, ledger.policy, image)
            if adopted == known.version:
                return Live(image, adopted, is_champion=True)
        return Live(image, _committed_with(ledger, image), False if is_known else None)


def _committed_with(ledger: Ledger, image: str) -> int | None:
    """The version that was committed last with that image."""
    reference = parse_image(image)
    digest = reference.digest if reference is not None else None
    return ledger.by_digest.get(digest.removeprefix("sha256:")[:12]) if digest is not None else None

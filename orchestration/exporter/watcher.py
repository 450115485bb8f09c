"""Looking at every policy again and again; what the last looks found is kept to be asked for at any time."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from orchestration.exporter.ledger import (
    BranchRewrittenError,
    Committed,
    Ledger,
    Record,
    champion_commit,
    read_on,
)
from orchestration.promotion.branch_standing import is_image_of
from orchestration.promotion.images import parse_image
from orchestration.promotion.manifest import CurrentImage, read_image
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Clock, Cluster, GitOpsRepository, Registry
from orchestration.promotion.problems import ProblemError

_EVIDENCE_SECONDS = 300.0
"""How often a champion's evidence is compared again; it is read whole, and hardly ever changes."""
_DIGEST = re.compile(r"^Evidence-Digest: (sha256:[0-9a-f]{64})$", re.MULTILINE)


class Sources(Protocol):
    """Where the truth is; `orchestration.resources` has one made from the environment."""

    def policy_names(self) -> tuple[str, ...]: ...

    def policy(self, name: str) -> Policy: ...

    def clock(self) -> Clock: ...

    def registry(self) -> Registry: ...

    def git(self) -> GitOpsRepository: ...

    def cluster(self, context: str) -> Cluster: ...


@dataclass(frozen=True)
class Champion:
    version: int
    image: str
    """As its commit has it; empty when it was made champion by hand."""
    has_evidence: bool


@dataclass(frozen=True)
class Live:
    image: str | None
    """None when there is no such workload."""
    version: int | None
    """None when no promotion of this policy committed that image."""
    is_champion: bool | None
    """None while there is no champion, or while its image is unknown."""


@dataclass(frozen=True)
class Findings:
    """What is known of one policy. What has happened stays known when a look fails; what is now does not."""

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
    """Commit and image of the champion that was looked at last."""
    evidence: tuple[str, float, bool] = ("", 0.0, False)
    """Commit, time and answer of the last comparison."""


class Watcher:
    """Plays no port: it only reads, and whoever asks `findings` is answered from memory at once."""

    def __init__(self, sources: Sources, say: Callable[[str], None]) -> None:
        self._sources, self._say = sources, say
        self._clock, self._registry, self._git = sources.clock(), sources.registry(), sources.git()
        self._watched: dict[str, _Watched] = {}
        self.findings: Mapping[str, Findings] = {}
        """By policy; replaced as a whole, so that a reader in another thread needs no lock."""

    def look(self) -> None:
        """Look at each policy once; what is wrong with one is said, counted, and stops no other."""
        try:
            names = self._sources.policy_names()
        except Exception as error:  # noqa: BLE001 - a thread that ended here would leave old answers behind
            for before in self.findings.values():
                self._keep(self._failed(before, error))
            self._say(f"the policies: {error}")
            return
        self.findings = {name: found for name, found in self.findings.items() if name in names}
        self._watched = {name: one for name, one in self._watched.items() if name in names}
        for name in names:
            before = self.findings.get(name, Findings(name))
            try:
                found = self._look_at(before)
            except Exception as error:  # noqa: BLE001 - whatever one policy's data led to, the others are looked at
                found = self._failed(before, error)
            if found.problem and found.problem != before.problem:
                self._say(f"policy {name}: {found.problem}")
            self._keep(found)

    def _keep(self, found: Findings) -> None:
        self.findings = {**self.findings, found.policy: found}

    def _failed(self, before: Findings, error: Exception) -> Findings:
        """Nothing that may have changed since is told any more."""
        problem = str(error) if isinstance(error, ProblemError) else f"unexpected {type(error).__name__}: {error}"
        stale = replace(before, record_is_fresh=False, champion=None, live=None)
        return replace(stale, failures=before.failures + 1, problem=problem)

    def _look_at(self, before: Findings) -> Findings:
        policy, now = self._sources.policy(before.policy), self._clock.now()
        watched = self._watched.get(policy.name)
        if watched is None or watched.ledger.policy != policy:
            watched = self._watched[policy.name] = _Watched(Ledger(policy))
        try:
            record = self._read(watched)
            champion = self._champion(watched, record.champion, now)
        except ProblemError as error:
            found = self._failed(before, error)
            if found.model == policy.model or found.record is None:
                return found
            return Findings(policy.name, failures=found.failures, problem=found.problem)
        known = replace(before, model=policy.model, record=record, record_is_fresh=True, champion=champion)
        try:
            live = self._live(watched.ledger, record.champion)
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
            return Champion(version.version, "", has_evidence=False)
        if watched.champion_image[0] != committed.commit:
            watched.champion_image = (committed.commit, self._image_at(watched.ledger.policy, committed.commit))
        commit, at, has_evidence = watched.evidence
        if commit != committed.commit or now - at >= _EVIDENCE_SECONDS:
            has_evidence = self._has_evidence(committed, version)
            watched.evidence = (committed.commit, now, has_evidence)
        return Champion(version.version, watched.champion_image[1], has_evidence)

    def _image_at(self, policy: Policy, commit: str) -> str:
        content = self._git.read_file(commit, policy.manifest.path)
        current = read_image(content, policy.manifest) if content is not None else None
        return current.value if isinstance(current, CurrentImage) else ""

    def _has_evidence(self, committed: Committed, version: ModelVersion) -> bool:
        """Whether the annotated tag stands on the promotion's commit and names the digest that the evidence has."""
        tag = self._git.tag(committed.identity.evidence_tag)
        if tag is None or tag.commit != committed.commit or version.run_id is None:
            return False
        content = self._registry.artifact(version.run_id, committed.identity.evidence_path)
        named = _DIGEST.search(tag.message)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}" if content is not None else None
        return named is not None and named[1] == digest

    def _live(self, ledger: Ledger, champion: ModelVersion | None) -> Live:
        target = ledger.policy.manifest
        workload = self._sources.cluster(ledger.policy.cluster).workload(target.kind, target.namespace, target.name)
        image = workload.images.get(target.container) if workload is not None else None
        committed = champion_commit(ledger, champion) if champion is not None else None
        if image is None:
            return Live(None, None, None if committed is None else False)
        if committed is not None and is_image_of(committed.identity, image):  # another version may have that image too
            return Live(image, committed.identity.version, is_champion=True)
        return Live(image, _committed_with(ledger, image), None if committed is None else False)


def _committed_with(ledger: Ledger, image: str) -> int | None:
    """The version that was committed last with that image."""
    reference = parse_image(image)
    digest = reference.digest if reference is not None else None
    return ledger.by_digest.get(digest.removeprefix("sha256:")[:12]) if digest is not None else None

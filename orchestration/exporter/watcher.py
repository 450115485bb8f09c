"""Looks at every policy again and again, and keeps what it found for scrapes at any time."""

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace

from orchestration.exporter.ledger import (
    Asked,
    BranchRewrittenError,
    Committed,
    Ledger,
    Record,
    ask_registry,
    champion_commit,
    read_on,
)
from orchestration.exporter.quality import Quality, read_quality
from orchestration.promotion.acts import adopted_version
from orchestration.promotion.branch_standing import is_image_of
from orchestration.promotion.branch_view import acts, adopted_image, image_at
from orchestration.promotion.deployed import digest_of
from orchestration.promotion.images import short_digest
from orchestration.promotion.live_value import live_value
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.platform import Platform
from orchestration.promotion.ports import GitOpsRepository
from orchestration.promotion.problems import InvalidInputError, ProblemError
from orchestration.promotion.repositories import Repositories

_EVIDENCE_SECONDS = 300.0
"""How often a champion's evidence is verified again: it has to be read whole, and hardly ever changes."""
_QUALITY_SECONDS = 60.0
"""How often the registry is asked how good the versions are: an evaluation is made once an hour."""
_ASKED_AT_ONCE = 8
"""How many policies the registry is asked for at the same time."""
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
    since: float | None = None
    """When the version was committed; None when no promotion did."""


@dataclass(frozen=True)
class Findings:
    """What is known about one policy. After a failed look, past events stay known; the present state does not."""

    policy: str
    model: str | None = None
    record: Record | None = None
    record_is_fresh: bool = False
    champion: Champion | None = None
    live: Live | None = None
    quality: Quality | None = None
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
    quality: tuple[float, int | None, Quality] = (0.0, None, Quality())
    """When the registry was asked how good the versions are, which one was the champion, and what it said."""
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The metrics of the training runs in use, by run."""


class Watcher:
    """Only reads. A caller that asks for `findings` gets them from memory at once."""

    def __init__(self, platform: Platform, say: Callable[[str], None]) -> None:
        self._platform, self._say = platform, say
        self._clock, self._registry, self._repositories = platform.clock(), platform.registry(), Repositories(platform)
        self._require_settings()
        self._watched: dict[str, _Watched] = {}
        self.findings: Mapping[str, Findings] = {}
        """By policy; replaced as a whole, so that a reader in another thread needs no lock."""

    def _require_settings(self) -> None:
        """Refuse to begin without the settings of a repository that policies share; broken policies are told later.

        Raises:
            InvalidInputError: a setting is missing or unusable.
        """
        names: Collection[str] = ()
        with suppress(InvalidInputError):
            names = self._platform.policy_names()
        if any(self._shares_repository(name) for name in names):
            self._platform.git()

    def _shares_repository(self, name: str) -> bool:
        try:
            return not self._platform.policy(name).has_own_repository
        except InvalidInputError:
            return False

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
        # The registry first, for all policies at once, and then one fetch per repository: see `read_on`.
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as askers:
            answers = dict(zip(names, askers.map(self._ask, names), strict=True))
        self._repositories.forget_heads()
        for name in names:
            before, answer = self.findings.get(name, Findings(name)), answers[name]
            try:
                findings = self._look_at(before, answer)
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
        stale = replace(before, record_is_fresh=False, champion=None, live=None, quality=None)
        return replace(stale, failures=before.failures + 1, problem=problem)

    def _ask(self, name: str) -> Asked | Exception:
        """Ask the registry what is new of one policy; what went wrong is told when its turn comes."""
        try:
            policy = self._platform.policy(name)
            watched = self._watched.get(name)
            if watched is None or watched.ledger.policy != policy:
                watched = self._watched[name] = _Watched(Ledger(policy))
            return ask_registry(watched.ledger, self._registry, self._clock)
        except Exception as error:  # noqa: BLE001 - whatever one policy's data caused, the others are looked at
            return error

    def _look_at(self, before: Findings, answer: Asked | Exception) -> Findings:
        watched, now = self._watched.get(before.policy), self._clock.now()
        if watched is None:  # its file cannot be read
            assert isinstance(answer, Exception)
            raise answer
        policy = watched.ledger.policy
        try:
            if isinstance(answer, Exception):
                raise answer
            record = self._read(watched, answer)
            champion = self._champion(watched, record.champion, now)
            quality = self._quality(watched, record.champion, now)
        except ProblemError as error:
            failed = self._failed(before, error)
            if failed.model == policy.model or failed.record is None:
                return failed
            return Findings(policy.name, failures=failed.failures, problem=failed.problem)
        known = replace(
            before, model=policy.model, record=record, record_is_fresh=True, champion=champion, quality=quality
        )
        try:
            live = _since(watched.ledger, self._live(watched.ledger, record.champion, champion))
        except ProblemError as error:
            return replace(known, live=None, failures=before.failures + 1, problem=str(error))
        return replace(known, live=live, looked_at=now, problem="")

    def _read(self, watched: _Watched, asked: Asked) -> Record:
        policy = watched.ledger.policy
        git, head = self._repositories.of(policy), self._repositories.head(policy)
        try:
            return read_on(watched.ledger, asked, self._registry, git, head)
        except BranchRewrittenError:
            watched.ledger = Ledger(policy)
            asked = ask_registry(watched.ledger, self._registry, self._clock)
            return read_on(watched.ledger, asked, self._registry, git, git.fetch())

    def _champion(self, watched: _Watched, version: ModelVersion | None, now: float) -> Champion | None:
        if version is None:
            return None
        policy = watched.ledger.policy
        git, committed = self._repositories.of(policy), champion_commit(watched.ledger, version)
        if committed is None:
            adopted = adopted_image(policy, version.version, acts(git, policy.name))
            return Champion(version.version, str(adopted or ""), has_evidence=adopted is not None)
        if watched.champion_image[0] != committed.commit:
            image = image_at(git, policy, committed.commit) or ""
            watched.champion_image = (committed.commit, image)
        commit, verified_at, has_evidence = watched.evidence
        if commit != committed.commit or now - verified_at >= _EVIDENCE_SECONDS:
            has_evidence = self._has_evidence(git, committed, version)
            watched.evidence = (committed.commit, now, has_evidence)
        return Champion(version.version, watched.champion_image[1], has_evidence)

    def _has_evidence(self, git: GitOpsRepository, committed: Committed, version: ModelVersion) -> bool:
        """Whether the annotated tag is on the promotion's commit and names the digest that the evidence has."""
        tag = git.tag(committed.identity.evidence_tag)
        if tag is None or tag.commit != committed.commit or version.run_id is None:
            return False
        evidence = self._registry.artifact(version.run_id, committed.identity.evidence_path)
        named = _DIGEST.search(tag.message)
        digest = f"sha256:{hashlib.sha256(evidence).hexdigest()}" if evidence is not None else None
        return named is not None and named[1] == digest

    def _quality(self, watched: _Watched, champion: ModelVersion | None, now: float) -> Quality:
        asked_at, number, quality = watched.quality
        present = champion.version if champion is not None else None
        if number == present and 0.0 <= now - asked_at < _QUALITY_SECONDS:
            return quality
        quality, watched.metrics = read_quality(self._registry, watched.ledger.policy, champion, watched.metrics)
        watched.quality = (now, present, quality)
        return quality

    def _live(self, ledger: Ledger, champion: ModelVersion | None, known: Champion | None) -> Live:
        target = ledger.policy.manifest
        workload = self._platform.cluster(ledger.policy.cluster).workload(target.kind, target.namespace, target.name)
        image = live_value(workload, target.container, ledger.policy.slot) or None if workload is not None else None
        committed = champion_commit(ledger, champion) if champion is not None else None
        is_known = committed is not None or (known is not None and known.image != "")
        if image is None:
            return Live(None, None, False if is_known else None)
        # The champion first: another version may have been committed with the same image.
        if committed is not None and is_image_of(committed.identity, image):
            return Live(image, committed.identity.version, is_champion=True)
        if committed is None and known is not None and is_known:
            adopted = adopted_version(image, acts(self._repositories.of(ledger.policy), ledger.policy.name))
            if adopted == known.version:
                return Live(image, adopted, is_champion=True)
        return Live(image, _committed_with(ledger, image), False if is_known else None)


def _since(ledger: Ledger, live: Live) -> Live:
    committed = None if live.version is None else ledger.newest.get(live.version)
    return live if committed is None else replace(live, since=committed.committed_at)


def _committed_with(ledger: Ledger, image: str) -> int | None:
    """The version that was committed last with that image."""
    digest = digest_of(image)
    return ledger.by_digest.get(short_digest(digest)) if digest is not None else None

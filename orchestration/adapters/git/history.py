"""Which commits of the branch are incumbent's: an index of their trailers, kept in a file that grows with it."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from orchestration.adapters.git.mirror import Mirror
from orchestration.adapters.git.objects import is_known
from orchestration.promotion.ports import BranchCommit

OWNING_TRAILERS = ("Promotion-Id", "Rollback-Of")
_FORMAT = "%H%x00%P%x00%ct%x00%s%x00%(trailers:only,unfold)%x00"
_FIELDS = 5


def commits_with_trailers(mirror: Mirror, head: str) -> tuple[BranchCommit, ...]:
    """All commits reachable from `head` that carry one of the owning trailers, children before their parents.

    Every reachable commit counts, not the first parents alone: a merge may bring ours in. Only commits that were not
    scanned before are read, unless the cache is lost or broken, or the branch was rewritten.
    """
    with mirror.locked():
        cached = _read_cache(mirror)
        if cached is not None and cached[0] == head:
            return cached[1]
        if cached is not None and _grew(mirror, cached[0], head):
            found = _scan(mirror, head, f"^{cached[0]}") + cached[1]
        else:
            found = _scan(mirror, head)
        _write_cache(mirror, head, found)
        return found


def commits_between(mirror: Mirror, before: str, head: str) -> tuple[BranchCommit, ...] | None:
    """Those of them that `before` does not reach; None when `head` does not descend from it."""
    with mirror.locked():
        return _scan(mirror, head, f"^{before}") if _grew(mirror, before, head) else None


def belongs_to(commit: BranchCommit, policy: str) -> bool:
    return any(commit.trailers.get(name, "").startswith(f"{policy}/") for name in OWNING_TRAILERS)


def _grew(mirror: Mirror, before: str, head: str) -> bool:
    return (
        is_known(mirror, before)
        and mirror.local("merge-base", "--is-ancestor", before, head, allowed=(0, 1)).status == 0
    )


def _scan(mirror: Mirror, *revisions: str) -> tuple[BranchCommit, ...]:
    # --grep only narrows what is printed; that a line stands in the trailer block is for Git's own parser to say, so
    # the same words in a body forge nothing.
    pattern = f"^({'|'.join(OWNING_TRAILERS)}):"
    output = mirror.local(
        *("log", "--topo-order", "--no-show-signature", "-E", f"--grep={pattern}", f"--format=tformat:{_FORMAT}"),
        *("--encoding=UTF-8", *revisions, "--"),
    ).output
    fields = [field.lstrip("\n") for field in output.decode("utf-8", errors="replace").split("\0")]
    commits = (_commit(*fields[at : at + _FIELDS]) for at in range(0, len(fields) - _FIELDS, _FIELDS))
    return tuple(one for one in commits if any(name in one.trailers for name in OWNING_TRAILERS))


def _commit(commit: str, parents: str, committed_at: str, subject: str, trailers: str) -> BranchCommit:
    found: dict[str, str] = {}
    for line in trailers.split("\n"):
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return BranchCommit(commit, parents.partition(" ")[0], subject, float(committed_at), found)


def _read_cache(mirror: Mirror) -> tuple[str, tuple[BranchCommit, ...]] | None:
    """What was scanned last, and up to which head; None when the file is lost, broken or of another form."""
    try:
        digest, _, text = (mirror.folder / "history").read_text(encoding="utf-8").partition("\n")
        if digest != _digest(text):
            return None
        data: dict[str, Any] = json.loads(text)
        return data["head"], tuple(BranchCommit(**one) for one in data["commits"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_cache(mirror: Mirror, head: str, commits: tuple[BranchCommit, ...]) -> None:
    text = json.dumps({"head": head, "commits": [asdict(one) for one in commits]})
    draft = mirror.folder / "history.new"
    draft.write_text(f"{_digest(text)}\n{text}", encoding="utf-8")
    draft.replace(mirror.folder / "history")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()

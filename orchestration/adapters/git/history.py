"""Which commits of the branch are incumbent's: an index of their trailers, in a file that grows with the branch."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from orchestration.adapters.git.mirror import Mirror
from orchestration.adapters.git.objects import check_path, is_known
from orchestration.promotion.ports import BranchCommit, FileChange
from orchestration.promotion.texts import read_trailers

OWNING_TRAILERS = ("Promotion-Id", "Rollback-Of")
_FORMAT = "%H%x00%P%x00%ct%x00%s%x00%(trailers:only,unfold)%x00"
_FIELDS = 5
_CHANGE_FORMAT = "%H%x00%ct%x00%an%x00%s%x00"
_CHANGE_FIELDS = 4
MERGED = "refs/incumbent/merged/"
"""Below it, a tag object for each proposal that was merged without its trailers: the commit that it became."""
_MERGED_FORMAT = "%(*objectname)%00%(contents)%00"
_MERGED_FIELDS = 2


def commits_with_trailers(mirror: Mirror, head: str) -> tuple[BranchCommit, ...]:
    """List all commits reachable from `head` that carry one of the owning trailers, children before their parents.

    All reachable commits count, not only first parents: a merge may bring a promotion in. Only commits that were not
    scanned before are read, unless the index is lost or broken, or the branch was rewritten.
    """
    with mirror.locked():
        cached = _read_cache(mirror)
        if cached is not None and cached[0] == head:
            commits = cached[1]
        elif cached is not None and _grew(mirror, cached[0], head):
            commits = _scan(mirror, head, f"^{cached[0]}") + cached[1]
        else:
            commits = _scan(mirror, head)
        commits = _with_merged(mirror, head, commits)
        if (head, commits) != cached:
            _write_cache(mirror, head, commits)
        return commits


def commits_between(mirror: Mirror, before: str, head: str) -> tuple[BranchCommit, ...] | None:
    """List those of them that `before` does not reach; None when `head` does not descend from it."""
    with mirror.locked():
        if not _grew(mirror, before, head):
            return None
        scanned = _scan(mirror, head, f"^{before}")
        told = _with_merged(mirror, head, scanned)
        return tuple(commit for commit in told if commit in scanned or not _grew(mirror, commit.commit, before))


def commits_named(mirror: Mirror, commits: Sequence[str]) -> tuple[BranchCommit, ...]:
    """Read these commits with their trailers, in any order."""
    if not commits:
        return ()
    output = mirror.local(
        *("log", "--no-walk", "--no-show-signature", f"--format=tformat:{_FORMAT}", "--encoding=UTF-8", *commits, "--")
    ).output
    return _parse(output)


def _with_merged(mirror: Mirror, head: str, commits: tuple[BranchCommit, ...]) -> tuple[BranchCommit, ...]:
    """Put in what was merged without its trailers, which refs of ours keep; a commit with trailers has its own."""
    listed = mirror.local("for-each-ref", f"--format={_MERGED_FORMAT}", MERGED.rstrip("/")).output
    if not listed:
        return commits
    fields = _fields(listed)
    known = {commit.commit for commit in commits}
    rows = (fields[at : at + _MERGED_FIELDS] for at in range(0, len(fields) - _MERGED_FIELDS, _MERGED_FIELDS))
    trailers = {commit: message for commit, message in rows if commit not in known and _grew(mirror, commit, head)}
    placed = list(commits)
    for commit in sorted(commits_named(mirror, tuple(trailers)), key=lambda commit: commit.committed_at):
        told = replace(commit, trailers=read_trailers(trailers[commit.commit]))
        older = (at for at, other in enumerate(placed) if _grew(mirror, other.commit, commit.commit))
        placed.insert(next(older, len(placed)), told)
    return tuple(placed)


def changes_of(mirror: Mirror, head: str, path: str, limit: int | None) -> tuple[FileChange, ...]:
    """List the commits on the line of first parents that changed a file, newest first.

    Only trees are compared, so nothing that the partial clone left out is fetched.

    Raises:
        InvalidInputError: the path is not usable.
    """
    check_path(path)
    most = () if limit is None else (f"--max-count={limit}",)
    output = mirror.local(
        *("log", "--first-parent", "--no-show-signature", "--encoding=UTF-8", f"--format=tformat:{_CHANGE_FORMAT}"),
        *(*most, head, "--", path),
    ).output
    fields = _fields(output)
    rows = (fields[at : at + _CHANGE_FIELDS] for at in range(0, len(fields) - _CHANGE_FIELDS, _CHANGE_FIELDS))
    return tuple(FileChange(commit, author, subject, float(at)) for commit, at, author, subject in rows)


def by_policy(commits: Iterable[BranchCommit]) -> dict[str, tuple[BranchCommit, ...]]:
    """Sort commits by the policy that they belong to, each in the order that they have."""
    found: dict[str, list[BranchCommit]] = {}
    for commit in commits:
        owners = (commit.trailers.get(name, "").partition("/") for name in OWNING_TRAILERS)
        for policy in {policy for policy, slash, _ in owners if slash}:
            found.setdefault(policy, []).append(commit)
    return {policy: tuple(its) for policy, its in found.items()}


def belongs_to(commit: BranchCommit, policy: str) -> bool:
    """Whether a commit promotes or rolls back a version under that policy."""
    return any(commit.trailers.get(name, "").startswith(f"{policy}/") for name in OWNING_TRAILERS)


def _grew(mirror: Mirror, before: str, head: str) -> bool:
    return (
        is_known(mirror, before)
        and mirror.local("merge-base", "--is-ancestor", before, head, allowed=(0, 1)).status == 0
    )


def _scan(mirror: Mirror, *revisions: str) -> tuple[BranchCommit, ...]:
    # --grep only narrows what is printed. Whether a line is in the trailer block is decided by Git's own parser, so the
    # same words in a body forge nothing.
    pattern = f"^({'|'.join(OWNING_TRAILERS)}):"
    output = mirror.local(
        *("log", "--topo-order", "--no-show-signature", "-E", f"--grep={pattern}", f"--format=tformat:{_FORMAT}"),
        *("--encoding=UTF-8", *revisions, "--"),
    ).output
    return tuple(commit for commit in _parse(output) if any(name in commit.trailers for name in OWNING_TRAILERS))


def _parse(output: bytes) -> tuple[BranchCommit, ...]:
    fields = _fields(output)
    return tuple(_commit(*fields[at : at + _FIELDS]) for at in range(0, len(fields) - _FIELDS, _FIELDS))


def _fields(output: bytes) -> list[str]:
    return [field.lstrip("\n") for field in output.decode("utf-8", errors="replace").split("\0")]


def _commit(commit: str, parents: str, committed_at: str, subject: str, trailers: str) -> BranchCommit:
    values: dict[str, str] = {}
    for line in trailers.split("\n"):
        key, colon, value = line.partition(":")
        if colon:
            values.setdefault(key.strip(), value.strip())
    return BranchCommit(commit, parents.partition(" ")[0], subject, float(committed_at), values)


def _read_cache(mirror: Mirror) -> tuple[str, tuple[BranchCommit, ...]] | None:
    """The last head and all commits scanned up to it; None when the file is lost, broken or of another form."""
    try:
        digest, _, text = (mirror.folder / "history").read_text(encoding="utf-8").partition("\n")
        if digest != _digest(text):
            return None
        data: dict[str, Any] = json.loads(text)
        return data["head"], tuple(BranchCommit(**commit) for commit in data["commits"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_cache(mirror: Mirror, head: str, commits: tuple[BranchCommit, ...]) -> None:
    text = json.dumps({"head": head, "commits": [asdict(commit) for commit in commits]})
    draft = mirror.folder / "history.new"
    draft.write_text(f"{_digest(text)}\n{text}", encoding="utf-8")
    draft.replace(mirror.folder / "history")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()

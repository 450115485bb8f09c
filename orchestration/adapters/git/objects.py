"""Files, commits and tags, read and written with plumbing: the size of the repository does not matter."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from orchestration.adapters.git.mirror import Mirror, MirrorBrokenError
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem

MAX_FILE_BYTES = 10 * 1024 * 1024
_OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REGULAR = ("100644", "100755", "100664")  # the last one occurs in very old repositories
_KINDS = {"120000": "a symbolic link", "160000": "a submodule", "040000": "a folder"}
_LEADING_ELSEWHERE = ("120000", "160000")
_REFUSED_PERSON = re.compile(r"\bident|disallowed characters|BeforeEmail|(?:missing|bad)(?:Email|Name)")
"""In the words of Git's ident.c, and of the checks of `git mktag` (git-fsck(1))."""
_TRAILER_KEY = re.compile(r"[A-Za-z][A-Za-z0-9-]*")


@dataclass(frozen=True)
class Person:
    """Who made a commit or a tag."""

    name: str = "incumbent"
    email: str = "incumbent@localhost"


@dataclass(frozen=True)
class Maker:
    """Who makes a commit, and what signs it."""

    author: Person = field(default_factory=Person)
    committer: Person = field(default_factory=Person)
    sign: Callable[[bytes], bytes] | None = None


def is_object_id(text: str) -> bool:
    """Whether a text is a whole object id, of SHA-1 or SHA-256."""
    return _OBJECT_ID.fullmatch(text) is not None


def is_known(mirror: Mirror, commit: str) -> bool:
    """Whether the mirror has that commit; anything but a whole object id counts as unknown."""
    return (
        is_object_id(commit) and mirror.local("cat-file", "-e", f"{commit}^{{commit}}", allowed=(0, 1, 128)).status == 0
    )


def entry_at(mirror: Mirror, commit: str, path: str) -> tuple[str, str] | None:
    """Return mode and object id of the regular file at a path; None when nothing is at that path.

    Raises:
        InvalidInputError: the path is not usable, or leads to something other than a regular file: with a symbolic
            link, an edit would change another file than the one that a person reads.
    """
    check_path(path)
    line = mirror.local("ls-tree", "-z", "--full-tree", "--end-of-options", commit, "--", path).output
    if not line:
        _require_folders(mirror, commit, path)
        return None
    mode, kind, object_id = line.partition(b"\t")[0].decode().split()
    if kind != "blob" or mode not in _REGULAR:
        found = _KINDS.get(mode, f"mode {mode}")
        next_step = "Correct the policy's manifest path."
        raise InvalidInputError(Problem(f"{path} at commit {commit[:12]}", "a regular file", found, next_step))
    return mode, object_id


def _require_folders(mirror: Mirror, commit: str, path: str) -> None:
    """Refuse a path that leads through a submodule or a symbolic link, behind which this repository has nothing."""
    parts = path.split("/")[:-1]
    above = ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
    listed = mirror.local("ls-tree", "-z", "--full-tree", "--end-of-options", commit, "--", *above) if above else None
    for line in filter(None, listed.output.split(b"\0") if listed is not None else ()):
        fields, _, name = line.partition(b"\t")
        mode = fields[:6].decode()
        if mode in _LEADING_ELSEWHERE:
            next_step = "Name the file in the repository that has it: in git.url, if that is another one."
            found = f"{_KINDS[mode]} at {name.decode('utf-8', 'replace')}"
            raise InvalidInputError(
                Problem(f"{path} at commit {commit[:12]}", "folders that lead to the file", found, next_step)
            )


def files_below(mirror: Mirror, commit: str, folder: str) -> tuple[str, ...]:
    """List the paths of all files below a folder, sorted; `.` is the whole tree.

    Raises:
        InvalidInputError: the folder's path is not usable.
    """
    below = () if folder in ("", ".") else (folder.rstrip("/") + "/",)
    for path in below:
        check_path(path.rstrip("/"))
    options = ("ls-tree", "-r", "-z", "--name-only", "--full-tree", "--end-of-options", commit, *below)
    names = mirror.local(*options).output.decode("utf-8", errors="replace").split("\0")
    return tuple(sorted(filter(None, names)))


def check_path(path: str) -> None:
    """Raise `InvalidInputError` unless a path that a person wrote leads to a place inside the repository."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or part.lower() == ".git" for part in parts) or not path.isprintable():
        raise InvalidInputError(
            Problem(
                f"path {path!r}",
                "a path inside the repository, such as manifests/app/deployment.yaml",
                "a path that is absolute or empty, leads elsewhere or has unprintable characters",
                "Correct the policy's manifest path.",
            )
        )


def write_file(mirror: Mirror, commit: str, path: str, content: bytes) -> str:
    """Write a tree like the commit's with new content in one existing file, whose mode is kept; return the tree's id.

    Only the trees on the way to the file are listed and written, so the rest of the repository is never read.

    Raises:
        InvalidInputError: the path is not usable, or no regular file is there.
    """
    entry = entry_at(mirror, commit, path)
    if entry is None:
        raise InvalidInputError(
            Problem(
                f"{path} at commit {commit[:12]}",
                "a file to edit",
                "nothing at that path",
                "Correct the policy's manifest path.",
            )
        )
    mode, _ = entry
    written = mirror.local("hash-object", "-w", "--stdin", stdin=content).text
    folders = path.split("/")[:-1]
    record = f"{mode} blob {written}"
    for depth in range(len(folders), -1, -1):
        folder, name = "/".join(folders[:depth]), path.split("/")[depth]
        listing = mirror.local("ls-tree", "-z", "--full-tree", "--end-of-options", f"{commit}:{folder}").output
        kept = [line for line in listing.split(b"\0") if line and line.partition(b"\t")[2] != name.encode()]
        entries = b"\0".join((*kept, f"{record}\t{name}".encode())) + b"\0"
        record = f"040000 tree {mirror.local('mktree', '-z', '--missing', stdin=entries).text}"
    return record.split()[2]


def write_commit(mirror: Mirror, tree: str, parent: str | None, message: str, now: float, maker: Maker) -> str:
    """Write a commit and return its id. Its date is now, but never before its parent's: a walk by date must find it."""
    at = int(now)
    if parent is not None:
        at = max(at, int(mirror.local("log", "-1", "--no-walk", "--format=%ct", "--end-of-options", parent).text))
    parents = () if parent is None else ("-p", parent)
    arguments = ("commit-tree", *parents, "-F", "-", tree)
    variables = _identity(maker, at)
    commit = _made(mirror, arguments, message.encode(errors="replace"), variables)
    return commit if maker.sign is None else _signed(mirror, commit, maker.sign)


def _signed(mirror: Mirror, commit: str, sign: Callable[[bytes], bytes]) -> str:
    """Write a commit again with its signature in the header, as `git commit -S` does, and return its new id."""
    content = mirror.local("cat-file", "commit", commit).output
    header, _, message = content.partition(b"\n\n")
    name = b"gpgsig" if len(commit) == 40 else b"gpgsig-sha256"
    lines = b"\n ".join(sign(content).rstrip(b"\n").split(b"\n"))
    signed = b"%s\n%s %s\n\n%s" % (header, name, lines, message)
    return mirror.local("hash-object", "-t", "commit", "-w", "--stdin", stdin=signed).text


def write_tag(
    mirror: Mirror,
    name: str,
    commit: str,
    message: str,
    now: float,
    tagger: Person,
    sign: Callable[[bytes], bytes] | None = None,
) -> str:
    """Write an annotated tag object, signed if `sign` is given, and return its id."""
    by = f"{tagger.name} <{tagger.email}> {int(now)} +0000"
    header = f"object {commit}\ntype commit\ntag {name}\ntagger {by}\n\n"
    content = (header + message.replace("\0", "").strip() + "\n").encode(errors="replace")
    signature = sign(content) if sign is not None else b""
    return _made(mirror, ("mktag", "--strict"), content + signature, {})


def _made(mirror: Mirror, arguments: tuple[str, ...], content: bytes, variables: Mapping[str, str]) -> str:
    """Make an object and return its id.

    Raises:
        MirrorBrokenError: Git cannot work in the mirror.
        InvalidInputError: Git refuses who made the object, which no other mirror would change.
    """
    try:
        return mirror.local(*arguments, stdin=content, variables=variables).text
    except MirrorBrokenError as error:
        if not _REFUSED_PERSON.search(str(error)):
            raise
        expected, next_step = "a name and an e-mail address that Git accepts", "Correct them in "
        next_step += "INCUMBENT_GIT_AUTHOR and INCUMBENT_GIT_COMMITTER."
        raise InvalidInputError(Problem("the author or the committer", expected, str(error), next_step)) from error


def tagged_at(header: bytes) -> float:
    """Return when a tag was made, by the header of its object; 0 when it does not say."""
    match = re.search(rb"^tagger .*> ([0-9]{1,12}) [+-][0-9]{4}$", header, re.MULTILINE)
    return float(match[1]) if match else 0.0


def _identity(maker: Maker, at: int) -> dict[str, str]:
    return {
        f"GIT_{who}_{what}": value
        for who, person in (("AUTHOR", maker.author), ("COMMITTER", maker.committer))
        for what, value in (("NAME", person.name), ("EMAIL", person.email), ("DATE", f"@{at} +0000"))
    }


def commit_message(subject: str, body: str, trailers: Mapping[str, str]) -> str:
    """Compose a commit message of subject, body and trailers, with empty lines between.

    Subject and trailers become one line each: part of their text comes from MLflow (design rule 9), and a line end in
    it would forge a trailer.

    Raises:
        ValueError: a key cannot be a trailer's name.
    """
    for key in trailers:
        if not _TRAILER_KEY.fullmatch(key):
            raise ValueError(f"{key!r} cannot be a trailer's name")
    paragraphs = [
        one_line(subject) or "(no subject)",
        "\n".join(one_line(line) for line in body.splitlines()).strip(),
        "\n".join(f"{key}: {one_line(value)}" for key, value in trailers.items()),
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def one_line(text: str) -> str:
    """Return the text with single spaces for all white space, and without control and other invisible characters."""
    visible = "".join(char for char in text if char.isspace() or not unicodedata.category(char).startswith("C"))
    return " ".join(visible.split())


def read_blob(mirror: Mirror, object_id: str) -> bytes:
    """Read a blob's content, from the server when the partial clone left it out.

    Raises:
        MirrorBrokenError: neither mirror nor server gave the blob; the caller finds out whose fault that is.
        DependencyError: the blob is larger than 10 MB.
    """
    size = mirror.network("cat-file", "-s", object_id)
    if size.status == 0 and int(size.text) > MAX_FILE_BYTES:
        expected = f"{MAX_FILE_BYTES} bytes at most"
        raise DependencyError(
            Problem(f"blob {object_id}", expected, f"{size.text} bytes", "Name a smaller file in the policy.")
        )
    content = mirror.network("cat-file", "blob", object_id) if size.status == 0 else size
    if content.status != 0:
        raise MirrorBrokenError(f"blob {object_id} cannot be read: {content.error}")
    return content.output

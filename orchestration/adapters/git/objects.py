"""Git objects, built and read with plumbing: no checkout and no index, so nothing costs more in a larger repository."""

import re
import unicodedata
from collections.abc import Mapping

from orchestration.adapters.git.mirror import Mirror, MirrorBrokenError
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem

AUTHOR_NAME = "incumbent"
AUTHOR_EMAIL = "incumbent@localhost"
MAX_FILE_BYTES = 10 * 1024 * 1024
_OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REGULAR = ("100644", "100755", "100664")  # the last one stands in very old repositories
_TRAILER_KEY = re.compile(r"[A-Za-z][A-Za-z0-9-]*")


def is_object_id(text: str) -> bool:
    return _OBJECT_ID.fullmatch(text) is not None


def is_known(mirror: Mirror, commit: str) -> bool:
    """Whether the mirror has that commit; anything but a whole object id is unknown."""
    return (
        is_object_id(commit) and mirror.local("cat-file", "-e", f"{commit}^{{commit}}", allowed=(0, 1, 128)).status == 0
    )


def entry_at(mirror: Mirror, commit: str, path: str) -> tuple[str, str] | None:
    """Mode and object id of the regular file at a path; None when there is nothing.

    Raises:
        InvalidInputError: the path is none, or something else than a regular file is there: a symbolic link would have
            the edit land in another file than the one that a person reads.
    """
    _check_path(path)
    line = mirror.local("ls-tree", "-z", "--full-tree", "--end-of-options", commit, "--", path).output
    if not line:
        return None
    mode, kind, object_id = line.partition(b"\t")[0].decode().split()
    if kind != "blob" or mode not in _REGULAR:
        found = {"120000": "a symbolic link", "160000": "a submodule", "040000": "a folder"}.get(mode, f"mode {mode}")
        raise InvalidInputError(
            Problem(f"{path} at commit {commit[:12]}", "a regular file", found, "Correct the policy's manifest path.")
        )
    return mode, object_id


def _check_path(path: str) -> None:
    parts = path.split("/")
    if any(part in ("", ".", "..") or part.lower() == ".git" for part in parts) or not path.isprintable():
        raise InvalidInputError(
            Problem(
                f"path {path!r}",
                "a path inside the repository, such as manifests/app/deployment.yaml",
                "one that is absolute, empty, leads elsewhere or has unprintable characters",
                "Correct the policy's manifest path.",
            )
        )


def write_file(mirror: Mirror, commit: str, path: str, content: bytes) -> str:
    """The id of a tree like the commit's, with other content in one file that is there already; its mode is kept.

    Only the trees on the way to the file are listed and written, so the rest of the repository is never looked at.
    """
    entry = entry_at(mirror, commit, path)
    if entry is None:
        raise InvalidInputError(
            Problem(
                f"{path} at commit {commit[:12]}", "a file to edit", "nothing", "Correct the policy's manifest path."
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


def write_commit(mirror: Mirror, tree: str, parent: str | None, message: str, now: float) -> str:
    """The id of a new commit. Its date is now, but never before the parent's: a walk by date must not miss it."""
    at = int(now)
    if parent is not None:
        at = max(at, int(mirror.local("log", "-1", "--no-walk", "--format=%ct", "--end-of-options", parent).text))
    parents = () if parent is None else ("-p", parent)
    return mirror.local(
        "commit-tree", *parents, "-F", "-", tree, stdin=message.encode(errors="replace"), variables=_identity(at)
    ).text


def write_tag(mirror: Mirror, name: str, commit: str, message: str, now: float) -> str:
    """The id of a new annotated tag object."""
    tagger = f"{AUTHOR_NAME} <{AUTHOR_EMAIL}> {int(now)} +0000"
    header = f"object {commit}\ntype commit\ntag {name}\ntagger {tagger}\n\n"
    text = header + message.replace("\0", "").strip() + "\n"
    return mirror.local("mktag", "--strict", stdin=text.encode(errors="replace")).text


def _identity(at: int) -> dict[str, str]:
    return {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", AUTHOR_NAME), ("EMAIL", AUTHOR_EMAIL), ("DATE", f"@{at} +0000"))
    }


def commit_message(subject: str, body: str, trailers: Mapping[str, str]) -> str:
    """Subject, body and trailers with an empty line between. Subject and trailers are made one line each.

    What they hold comes from MLflow in part (design rule 9), and a line end in it would write a trailer of its own.
    """
    for key in trailers:
        if not _TRAILER_KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no trailer's name")
    paragraphs = [
        one_line(subject) or "(no subject)",
        "\n".join(one_line(line) for line in body.splitlines()).strip(),
        "\n".join(f"{key}: {one_line(value)}" for key, value in trailers.items()),
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def one_line(text: str) -> str:
    """The text with each run of white space made one space, and without control and other invisible characters."""
    visible = "".join(one for one in text if one.isspace() or not unicodedata.category(one).startswith("C"))
    return " ".join(visible.split())


def read_blob(mirror: Mirror, object_id: str) -> bytes:
    """A blob's content, asked of the server when the partial clone left it out.

    Raises:
        MirrorBrokenError: it is not here and the server did not give it; the caller finds out whose fault that is.
        DependencyError: it is larger than 10 MB.
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

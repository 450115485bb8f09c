"""`python -m bootstrap init`: write an owner's settings, and every place that follows from them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootstrap.owner import FILE, Owner, parse_owner, read_owner
from bootstrap.places import Difference, Place, find_scalar, follow, places
from orchestration.promotion.manifest import splice
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.yaml_text import RefusedError, read_stream


@dataclass(frozen=True)
class Change:
    """A file that does not agree with the settings: what it should have, and where it differs."""

    file: str
    content: bytes
    differences: tuple[Difference, ...]


def changes(root: Path, owner: Owner) -> list[Change]:
    """Return every file of a checkout that does not agree with the settings.

    Raises:
        InvalidInputError: a place has something that is not recognised; nothing was written.
    """
    table, found = places(owner), []
    for file in files(root, table):
        before = (root / file).read_bytes()
        after, differences = follow(file, before, table)
        if differences:
            found.append(Change(file, after, tuple(differences)))
    return found


def write(root: Path, owner: Owner) -> list[Change]:
    """Bring every file of a checkout in agreement with the settings, and return those that were changed.

    Raises:
        InvalidInputError: a place has something that is not recognised; nothing was written.
    """
    found = changes(root, owner)
    for change in found:
        (root / change.file).write_bytes(change.content)
    return found


def with_settings(content: bytes, values: Mapping[str, str]) -> bytes:
    """Put values into the content of `homelab.yaml`, each where its path leads, and keep all else as it is.

    Raises:
        InvalidInputError: the file has no such setting, or the value cannot stand there.
    """
    for path, value in values.items():
        try:
            stream = read_stream(content)
            content = splice(stream, [(find_scalar(stream.documents[0], path), value)])
        except RefusedError as refused:
            problem = Problem(
                f"{FILE}, {path}", "a setting that can be written", refused.found, f"Write it into {FILE} by hand."
            )
            raise InvalidInputError(problem) from refused
    return content


def adopt(root: Path, values: Mapping[str, str], *, write_it: bool = True) -> Iterator[str]:
    """Write values into `homelab.yaml`, and bring every file in agreement with it.

    Args:
        root: The checkout.
        values: The new values, by their paths in the file; none to follow the file as it is.
        write_it: False to say only what would be written.

    Yields:
        Each file that was written, for a person, and what to do next.

    Raises:
        InvalidInputError: the settings, or something in a place that follows from them, are wrong; nothing was written.
    """
    read_owner(root)
    before = (root / FILE).read_bytes()
    content = with_settings(before, values)
    owner = parse_owner(content.decode("utf-8"))
    found = write(root, owner) if write_it else changes(root, owner)
    verb = "written" if write_it else "would be written"
    if write_it:
        (root / FILE).write_bytes(content)
    if content != before:
        yield f"{FILE}: {verb}"
    for change in found:
        count = len(change.differences)
        yield f"{change.file}: {verb} ({count} place{'s' if count > 1 else ''})"
    if content == before and not found:
        yield f"Everything agrees with {FILE} already."
    elif write_it:
        yield f"Next: look at `git diff`, then commit and push to {owner.branch} of {owner.repository}."


def files(root: Path, table: Sequence[Place]) -> list[str]:
    """Return the files of a checkout that have places, by their paths below it; one that is gone has none."""
    found: set[str] = set()
    for pattern in {place.files for place in table}:
        folder, _, name = pattern.rpartition("/")
        paths = (root / folder).rglob(name) if "*" in name else [root / pattern]
        found |= {path.relative_to(root).as_posix() for path in paths if path.is_file()}
    return sorted(found)

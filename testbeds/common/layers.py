"""Layers of images: tar files whose bytes depend on their content alone, so that equal content has an equal digest."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

# Not compressed: on one machine, packing and unpacking would cost more than the bytes do.
TAR_TYPE = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Layer:
    """One layer as a manifest and a config name it, with its bytes where they are known."""

    digest: str
    size: int
    diff_id: str
    """The digest before compression."""
    content: Path | bytes | None = None
    """None for a layer that only the registry has."""
    media_type: str = TAR_TYPE


class LayerWriter:
    """Writes a layer's tar: entries in the order of the calls, with fixed times; missing parent folders are root's."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._folders = {PurePosixPath("/")}

    def folder(self, path: str, mode: int = 0o755, owner: int = 0) -> None:
        """Add a folder of that owner and group, unless it was added before."""
        place = PurePosixPath("/", path)
        if place not in self._folders:
            self._add(place, tarfile.DIRTYPE, mode, owner)
            self._folders.add(place)

    def file(self, path: str, content: bytes | Path, mode: int = 0o644, owner: int = 0) -> None:
        """Add a file with this content, or with the content of this file."""
        entry = self._entry(PurePosixPath("/", path), tarfile.REGTYPE, mode, owner)
        if isinstance(content, bytes):
            entry.size = len(content)
            self._tar.addfile(entry, io.BytesIO(content))
        else:
            entry.size = content.stat().st_size
            with content.open("rb") as source:
                self._tar.addfile(entry, source)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(PurePosixPath("/", path), tarfile.SYMTYPE, 0o777, 0, target)

    def tree(self, path: str, source: Path, leave_out: Callable[[Path], bool] = lambda path: False) -> None:
        """Add a folder's content, owned by root and readable by all; executable files stay executable.

        Args:
            path: the folder in the image.
            source: the folder to copy.
            leave_out: says which files and folders are not copied.
        """
        self.folder(path)
        for item in sorted(source.iterdir()):
            inner = f"{path}/{item.name}"
            if leave_out(item):
                continue
            if item.is_symlink():
                self.link(inner, str(item.readlink()))
            elif item.is_dir():
                self.tree(inner, item, leave_out)
            else:
                self.file(inner, item, 0o755 if item.stat().st_mode & 0o100 else 0o644)

    def _add(self, place: PurePosixPath, kind: bytes, mode: int, owner: int, target: str = "") -> None:
        entry = self._entry(place, kind, mode, owner)
        entry.linkname = target
        self._tar.addfile(entry)

    def _entry(self, place: PurePosixPath, kind: bytes, mode: int, owner: int) -> tarfile.TarInfo:
        if place.parent not in self._folders:
            self.folder(str(place.parent))
        entry = tarfile.TarInfo(str(place.relative_to("/")))
        entry.type, entry.mode, entry.uid, entry.gid = kind, mode, owner, owner
        return entry


def layer_in_memory(fill: Callable[[LayerWriter], None]) -> Layer:
    """Make a small layer of what `fill` writes."""
    output = io.BytesIO()
    _write(output, fill)
    content = output.getvalue()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return Layer(digest, len(content), digest, content)


def write_layer(folder: Path, fill: Callable[[LayerWriter], None]) -> None:
    """Write a layer of what `fill` writes into a new folder; `read_layer` reads it."""
    folder.mkdir()
    with (folder / "layer.tar").open("wb") as output:
        _write(output, fill)
    describe_layer(folder)


def describe_layer(folder: Path) -> None:
    """Write the digest beside a folder's `layer.tar`, so that hundreds of megabytes are hashed only once."""
    with (folder / "layer.tar").open("rb") as source:
        digest = hashlib.file_digest(source, "sha256")
    (folder / "layer.json").write_text(json.dumps({"digest": f"sha256:{digest.hexdigest()}"}), encoding="utf-8")


def read_layer(folder: Path) -> Layer:
    """Read the layer that `write_layer` or `describe_layer` left in a folder."""
    tar = folder / "layer.tar"
    digest = json.loads((folder / "layer.json").read_bytes())["digest"]
    return Layer(digest, tar.stat().st_size, digest, tar)


def _write(output: BinaryIO, fill: Callable[[LayerWriter], None]) -> None:
    with tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        fill(LayerWriter(tar))

"""Tarballs are unpacked below their folder, also where Python's filters are missing."""

import io
import tarfile
from pathlib import Path

import pytest

from testbeds.common.tarballs import extract_all


@pytest.fixture(params=[True, False], ids=["filters", "Debian 12's Python"], autouse=True)
def _filters(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
        # Python 3.14 filters by default, with the function that is missing here.
        monkeypatch.setattr(
            tarfile.TarFile, "extraction_filter", staticmethod(lambda member, _folder: member), raising=False
        )


def tar_of(*names: str) -> tarfile.TarFile:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"new"))
    content.seek(0)
    return tarfile.open(fileobj=content)


def test_all_or_some_members_are_unpacked(tmp_path: Path) -> None:
    """Without a choice it is all of them."""
    with tar_of("srv/a", "srv/b") as tar:
        extract_all(tar, tmp_path / "some", [tar.getmember("srv/b")])
        extract_all(tar, tmp_path / "all")
    assert not (tmp_path / "some" / "srv" / "a").exists()
    assert [path.read_bytes() for path in sorted((tmp_path / "all" / "srv").iterdir())] == [b"new", b"new"]


@pytest.mark.parametrize("name", ["../outside", "srv/../../outside"])
def test_nothing_is_written_elsewhere(tmp_path: Path, name: str) -> None:
    """A name that leads out of the folder is an error."""
    with tar_of(name) as tar, pytest.raises(tarfile.TarError):
        extract_all(tar, tmp_path / "root")
    assert not (tmp_path / "outside").exists()

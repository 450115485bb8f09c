"""Known servers: images from Dockerfiles, and environments from locks."""

import io
import re
import tarfile
from pathlib import Path

import pytest

from orchestration.promotion.problems import ProblemError
from testbeds.common.environments import Locked, python_for
from testbeds.known_servers import environments
from testbeds.known_servers.dockerfile import build
from testbeds.known_servers.environments import NEWEST_PYTHON, find_environment, locked
from tests.platform.mlflow_servers import locked_servers

_DOCKERFILE = """\
FROM python:3.11-slim
ARG VERSION
WORKDIR /srv
COPY model model
RUN pip install --no-cache-dir \\
  something
COPY serve.py .
ENV MODEL_URI=models:/iris/$VERSION NAME="two words"
CMD ["uvicorn", "serve:app"]
"""


def test_a_dockerfile_says_what_an_image_has_and_how_it_starts(tmp_path: Path) -> None:
    """Files go below the working folder, arguments into the environment, and programs come from the given one."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("model")
    (tmp_path / "serve.py").write_text("serve")
    image = build(_DOCKERFILE, tmp_path, Path("/servers/mlflow"), VERSION="7")
    assert image.settings["Cmd"] == ["uvicorn", "serve:app"]
    assert image.settings["WorkingDir"] == "/srv"
    path, *others = image.settings["Env"]
    assert path.startswith("PATH=/servers/mlflow/bin:")
    assert others == ["MODEL_URI=models:/iris/7", "NAME=two words"]
    content = image.layers[0].content
    assert isinstance(content, bytes)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert [entry.name for entry in tar if entry.isfile()] == ["srv/model/MLmodel", "srv/serve.py"]


@pytest.mark.parametrize(
    ("line", "finding"), [("ARG VERSION", "expected a value"), ("USER nobody", "expected an instruction")]
)
def test_what_a_dockerfile_may_not_say_here_is_refused(tmp_path: Path, line: str, finding: str) -> None:
    """An argument without a value and an unknown instruction are no silent difference from Docker."""
    with pytest.raises(ValueError, match=finding):
        build(f"FROM scratch\n{line}\n", tmp_path, tmp_path)


@pytest.mark.parametrize(
    "wanted", [*(locked(name) for name in NEWEST_PYTHON), *locked_servers()], ids=lambda wanted: wanted.name
)
def test_a_lock_has_hashes_and_no_addresses(wanted: Locked) -> None:
    """Each package has one version and its hashes, what was asked for is among them, and no index is named."""
    lock = wanted.lock_file.read_text(encoding="utf-8")
    assert not re.search(r"https?://|--index|--find-links", lock)
    entries = re.split(r"\n(?=\S)", lock.strip())
    assert all(re.match(r"[\w.-]+(\[\w,]+\])?==\S+", entry) and "--hash=sha256:" in entry for entry in entries)
    for line in wanted.requirements.read_text(encoding="utf-8").splitlines():
        asked = re.match(r"[\w-]+(==\S+)?", line)
        assert asked is not None
        assert any(entry.startswith(asked[0]) for entry in entries), line


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose uv notes its calls and makes what it is asked for; the folder of the tools is empty."""
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    calls = tmp_path / "calls"
    uv.write_text(
        f"""#!/bin/sh
echo "$1 $2 ${{VIRTUAL_ENV:-}}" >> "{calls}"
for last; do :; done
if [ "$1" = venv ]; then mkdir -p "$last"; elif [ -e "{tmp_path}/offline" ]; then echo "no route" >&2; exit 2; fi
"""
    )
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{uv.parent}:/usr/bin:/bin")
    monkeypatch.setenv("INCUMBENT_TOOLS", str(tmp_path / "tools"))
    return tmp_path


def test_an_environment_is_installed_once_for_each_lock(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second call installs nothing, and a changed lock is installed again."""
    folder = find_environment("fastapi")
    assert folder == machine / "tools" / "servers" / "fastapi"
    find_environment("fastapi")
    assert (machine / "calls").read_text().splitlines() == ["venv --quiet ", f"pip sync {folder}"]
    (machine / "locks" / "fastapi").mkdir(parents=True)
    (machine / "locks" / "fastapi" / "requirements.lock").write_text("other==1\n")
    monkeypatch.setattr(environments, "FOLDER", machine / "locks")
    find_environment("fastapi")
    assert len((machine / "calls").read_text().splitlines()) == 4


def test_an_environment_that_cannot_be_installed_says_so_and_is_tried_again(machine: Path) -> None:
    """The error has uv's own words; what is incomplete does not count as installed."""
    (machine / "offline").touch()
    for _ in range(2):
        with pytest.raises(ProblemError, match=r"model server fastapi: expected .*found uv pip ended with 2: no route"):
            find_environment("fastapi")
    (machine / "offline").unlink()
    find_environment("fastapi")


def test_where_the_projects_python_is_too_new_another_is_taken(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the newest on PATH that the server's packages are made for; without one, the error says what to install."""
    monkeypatch.setenv("PATH", str(machine / "bin"))
    assert python_for(locked("fastapi"), 14).endswith("python3.14")
    with pytest.raises(ProblemError, match=r"expected Python 3\.11 to 3\.13 on PATH.*Install python3\.13 beside it"):
        python_for(locked("mlserver"), 14)
    for name in ("python3.10", "python3.11", "python3.12"):
        (machine / "bin" / name).symlink_to("uv")
    assert python_for(locked("mlserver"), 14) == str(machine / "bin" / "python3.12")

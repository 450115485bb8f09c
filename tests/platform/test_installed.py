"""The wheel in an environment of its own, used from an empty folder: nothing of the checkout is needed.

The libraries are those of this environment, which is not its own: only the package is installed.
"""

import json
import os
import shutil
import subprocess
import sysconfig
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from testbeds.common.processes import Processes, wait_until
from testbeds.common.services import HOST, answers, free_ports
from testbeds.common.tools import CHECKOUT, tools_folder

LOADED = "{ workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError { __typename } } } } }"
START_SECONDS = 600.0


@dataclass(frozen=True)
class Installed:
    """An installation, with an empty folder from which it is used."""

    environment: Path
    folder: Path

    @property
    def python(self) -> Path:
        return self.environment / "bin" / "python"

    def settings(self) -> dict[str, str]:
        """No setting of the checkout's, and the policies in a folder elsewhere."""
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        policies = self.environment / "some" / "policies"
        return {**inherited, "INCUMBENT_POLICIES": str(policies), "DAGSTER_HOME": str(self.environment / "home")}

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a program of the installation in the empty folder, which stays empty."""
        done = subprocess.run(command, cwd=self.folder, env=self.settings(), capture_output=True, text=True)
        assert list(self.folder.iterdir()) == []
        return done

    def incumbent(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(self.environment / "bin" / "incumbent", *arguments)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel as pipx or uv would install it, with Dagster's file where it goes, and one policy."""
    folder = tmp_path_factory.mktemp("installed")
    (wheel,) = WheelBuilder(str(CHECKOUT)).build(directory=str(folder), versions=["standard"])
    environment = folder / "environment"
    venv.create(environment, symlinks=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)}))
    # A path that a .pth file names has no .pth files read: the checkout, which this environment names so, is not found.
    (own / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    uv = shutil.which("uv") or tools_folder() / "uv" / "bin" / "uv"
    install = [uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", environment / "bin/python", wheel]
    subprocess.run(install, check=True)
    for name in ("home", "some/policies", "empty"):
        (environment / name).mkdir(parents=True)
    shutil.copy(environment / "share/incumbent/dagster.yaml", environment / "home")
    shutil.copy(CHECKOUT / "policies/iris-classifier-edge.yaml", environment / "some/policies")
    return Installed(environment, environment / "empty")


def test_the_command_knows_itself_and_its_policies(installed: Installed) -> None:
    """Its version is the package's, and what it prints of policies comes from wherever they are."""
    assert installed.incumbent("--version").stdout.startswith("incumbent ")
    assert "Look, and change nothing" in installed.incumbent("--help").stdout
    rules = installed.incumbent("rules")
    assert (rules.returncode, rules.stderr) == (0, "")
    assert "iris-classifier-edge" in rules.stdout
    file = installed.run(installed.python, "-c", "import orchestration; print(orchestration.__file__)")
    assert Path(file.stdout.strip()).is_relative_to(installed.environment)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("doctor",), 3),
        (("plan", "iris-classifier-edge"), 3),
        (("init", "iris-classifier", "--application", "argocd/iris", "--policy", "other"), 3),
        (("register", "iris-classifier-edge", "7"), 3),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_command_says_which_settings_it_needs(installed: Installed, command: tuple[str, ...], code: int) -> None:
    """Nothing else is missing: no module, no file of the checkout, and no traceback."""
    done = installed.incumbent(*command)
    assert done.returncode == code, done.stderr
    assert "expected a value, found no value" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_promotion_runs_as_far_as_its_first_setting(installed: Installed) -> None:
    """`dagster asset materialize` loads the definitions, starts the run, and ends with the pipeline's own words."""
    add = "from orchestration.cli.run import add_partition; add_partition('iris-classifier-edge', 7)"
    assert installed.run(installed.python, "-c", add).returncode == 0
    command = ("asset", "materialize", "-m", "orchestration.definitions", "--partition", "iris-classifier-edge@7")
    done = installed.run(installed.python, "-m", "dagster", *command, "--select", "group:promotion")
    assert done.returncode == 1
    assert "setting MLFLOW_TRACKING_URI: expected a value, found no value" in done.stdout + done.stderr


@contextmanager
def dagster_dev(installed: Installed) -> Iterator[str]:
    """`dagster dev` from the empty folder: pages, daemon and code server, ended with all that they started."""
    processes = Processes(installed.environment / "processes")
    (port,) = free_ports(1)
    module = ("dev", "-m", "orchestration.definitions", "-h", HOST, "-p", str(port))
    command: list[str | Path] = ["env", "-u", "PYTHONPATH", installed.python, "-m", "dagster", *module]
    try:
        service = processes.start("dagster-dev", command, installed.settings(), installed.folder)
        url = f"http://{HOST}:{port}"
        wait_until(lambda: answers(f"{url}/server_info"), START_SECONDS, "dagster dev answers", service)
        yield url
    finally:
        processes.stop_all()


def test_dagster_dev_loads_the_pipeline(installed: Installed) -> None:
    """All of Dagster's programs find the installed module by its name alone."""

    def loaded() -> list[object]:
        body = json.dumps({"query": LOADED}).encode()
        request = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            entries = json.load(answer)["data"]["workspaceOrError"]["locationEntries"]
        return [entry for entry in entries if entry["locationOrLoadError"]]  # None while it loads

    with dagster_dev(installed) as url:
        assert wait_until(loaded, START_SECONDS, "the pipeline is loaded") == [
            {"name": "orchestration.definitions", "locationOrLoadError": {"__typename": "RepositoryLocation"}}
        ]
    assert list(installed.folder.iterdir()) == []

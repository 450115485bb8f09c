"""The programs that check `manifests/`, in the versions that run there, the distribution's promtool, and actionlint.

Beside them, `make test-platform` installs MLflow's servers in the versions that its tests run (`mlflow_servers.py`).

The homelab's recipes build them with Go and keep them in the homelab's cache: all of them before `make test-platform`,
or else each one when a test first needs it. If one cannot be built, the test fails with an error that says what is
missing. Tests that need a built program belong to the target `platform` (see `tests/targets.py`).
"""

import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # no types of its own

from orchestration.promotion.problems import ProblemError
from testbeds.common.tools import CHECKOUT, find_tool
from testbeds.homelab.offline.go_build import argocd_sources, build, gitea_sources, kserve_sources
from tests.platform.mlflow_servers import NEWEST_PYTHON, python_of


def sandbox_promtool() -> Path:
    """Find promtool on PATH or in the distribution: 2.42 in Debian 12, 3.5 in Debian sid.

    The rules need 2.42, which knows `keep_firing_for`.
    """
    return find_tool("promtool")


def sandbox_prometheus() -> Path:
    """Find the Prometheus on PATH or in the distribution."""
    return find_tool("prometheus")


def homelab_promtool() -> Path:
    """Build the promtool of the Prometheus that the manifests run."""
    return _built("prometheus", "promtool")


def homelab_prometheus() -> Path:
    """Build the Prometheus that the manifests run."""
    return _built("prometheus", "prometheus")


PROMTOOLS = (sandbox_promtool, pytest.param(homelab_promtool, marks=pytest.mark.platform))
PROMETHEUSES = (sandbox_prometheus, pytest.param(homelab_prometheus, marks=pytest.mark.platform))


def amtool() -> Path:
    return _built("alertmanager", "amtool")


def alertmanager() -> Path:
    return _built("alertmanager", "alertmanager")


def kube_state_metrics() -> Path:
    return _built("kube-state-metrics", "kube-state-metrics")


def victoriametrics() -> Path:
    """Build the single-node VictoriaMetrics, which answers Prometheus's query API."""
    return _built("victoriametrics", "victoria-metrics")


def gitea() -> Path:
    """Build the Gitea that the tests of pull requests run; it reads the rest of itself from `gitea_sources`."""
    return _built("gitea", "gitea")


def cosign() -> Path:
    """Build cosign 2.6, which writes signatures in every format, that of cosign 3 included."""
    return _built("cosign", "cosign")


def etcd() -> Path:
    """Find etcd on PATH or in the distribution."""
    return find_tool("etcd")


def kubernetes(name: str) -> Path:
    """Build Kubernetes' programs, and return the one of that name, such as `kube-apiserver`."""
    return _built("kubernetes", name)


def kustomize() -> Path:
    return _built("kustomize", "kustomize")


def kube_score() -> Path:
    return _built("kube-score", "kube-score")


def actionlint() -> Path:
    return _built("actionlint", "actionlint")


def output_of(program: Path, *arguments: str | Path, cwd: Path = CHECKOUT) -> str:
    """Run a program that must succeed, and return its output."""
    done = subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def content(folder: str | Path) -> list[dict[str, Any]]:
    """Return the objects that Argo CD creates from a folder: kustomize's output, or else those in its files."""
    return [document for text in _texts(CHECKOUT / folder) for document in yaml.load_all(text, yaml.CSafeLoader)]


@cache
def _texts(folder: Path) -> tuple[str, ...]:
    if (folder / "kustomization.yaml").exists():
        return (output_of(kustomize(), "build", folder),)
    return tuple(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.yaml")))


def _built(module: str, name: str) -> Path:
    return build(module, lambda line: print(line, file=sys.stderr)) / name


def main() -> int:
    """Build or install every program and fetch the sources that tests read, so that no test needs the network."""
    programs: tuple[Callable[[], Path], ...] = (
        homelab_promtool,
        amtool,
        kube_state_metrics,
        victoriametrics,
        cosign,
        kustomize,
        kube_score,
        actionlint,
        etcd,
        partial(kubernetes, "kube-apiserver"),
        gitea,
        gitea_sources,
        argocd_sources,
        kserve_sources,
        *(partial(python_of, version) for version in NEWEST_PYTHON),
    )
    try:
        for program in programs:
            print(program())
    except ProblemError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

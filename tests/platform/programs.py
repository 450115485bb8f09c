"""The programs that check what lies in `manifests/`, of the versions that run there; promtool also of the sandbox's.

Built by the homelab's recipes and kept in its cache, by `make tools` all at once or by the first test that needs one.
Who cannot have one gets an error that says how, and no skip.
"""

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from orchestration.promotion.problems import ProblemError
from testbeds.common.tools import CHECKOUT, find_tool
from testbeds.homelab.offline.go_build import argocd_sources, build

BUILD_SECONDS = 3600
"""The longest that a test may take which finds nothing built, on a busy machine."""


def sandbox_promtool() -> Path:
    """Debian's 2.42, unless PATH has another one."""
    return find_tool("promtool")


def homelab_promtool() -> Path:
    """Of the Prometheus that the manifests run."""
    return _built("prometheus", "promtool")


PROMTOOLS = (sandbox_promtool, homelab_promtool)


def prometheus() -> Path:
    return _built("prometheus", "prometheus")


def amtool() -> Path:
    return _built("alertmanager", "amtool")


def alertmanager() -> Path:
    return _built("alertmanager", "alertmanager")


def kube_state_metrics() -> Path:
    return _built("kube-state-metrics", "kube-state-metrics")


def kustomize() -> Path:
    return _built("kustomize", "kustomize")


def kube_score() -> Path:
    return _built("kube-score", "kube-score")


def says(program: Path, *arguments: str | Path, cwd: Path = CHECKOUT) -> str:
    """What a program that must succeed writes."""
    done = subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def content(folder: str | Path) -> list[dict[str, Any]]:
    """The objects that Argo CD makes of a folder: kustomize's where it has a kustomization, else all of its files."""
    return [document for text in _texts(CHECKOUT / folder) for document in YAML(typ="safe").load_all(text)]


@cache
def _texts(place: Path) -> tuple[str, ...]:
    if (place / "kustomization.yaml").exists():
        return (says(kustomize(), "build", place),)
    return tuple(path.read_text(encoding="utf-8") for path in sorted(place.glob("*.yaml")))


def _built(module: str, name: str) -> Path:
    return build(module, lambda line: print(line, file=sys.stderr)) / name


def main() -> int:
    """Build all of them, and fetch the sources that tests read; afterwards no test needs a network."""
    from tests.platform.crds import kserve_sources

    try:
        for program in (
            homelab_promtool,
            amtool,
            kube_state_metrics,
            kustomize,
            kube_score,
            argocd_sources,
            kserve_sources,
        ):
            print(program())
    except ProblemError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Programs built from pinned Go modules: `go/<name>/go.mod` and `go.sum` pin what is built, the table here says how."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from orchestration.promotion.problems import Problem, ProblemError
from testbeds.homelab.cache import cached, key_of
from testbeds.homelab.programs import run_long
from testbeds.homelab.progress import Say

_MODULES = Path(__file__).with_name("go")
_KUBERNETES = "k8s.io/component-base/version"
_K3D = "github.com/k3d-io/k3d/v5"
_ARGOCD = "github.com/argoproj/argo-cd/v3"
_ARGO_ROLLOUTS = "github.com/argoproj/argo-rollouts"
_KSERVE = "github.com/kserve/kserve"
_GITEA = "code.gitea.io/gitea"
_NEXT_STEP = "Check that the Go module proxy is reachable (`go env GOPROXY`), and try again: what was built is kept."


@dataclass(frozen=True)
class Build:
    """How one module is built. What a homelab runs may not need a C compiler: its images have no C library."""

    packages: str = "tool"
    """The packages for `go build`: `tool` means everything that the go.mod names as a tool."""
    program: str = ""
    """The name of the only program; empty when each package's own name is right."""
    values: tuple[str, ...] = ()
    """`-X` values for the linker, so that a built program reports the same version as the released program."""
    tags: tuple[str, ...] = ()
    """Build tags."""
    with_c: bool = False
    """Whether parts of it are in C, for which a compiler must be there."""
    module: str = ""
    """The module that `files` come from."""
    files: tuple[str, ...] = ()
    """Files of the module that are copied beside the programs."""
    on_demand: bool = False
    """Whether it is built only when something asks for it, and not for each homelab."""


BUILDS = {
    "kubernetes": Build(
        values=(
            f"{_KUBERNETES}.gitVersion=v1.34.4",
            f"{_KUBERNETES}.gitMajor=1",
            f"{_KUBERNETES}.gitMinor=34",
            f"{_KUBERNETES}.gitTreeState=clean",
            f"{_KUBERNETES}.gitCommit=unknown",
        )
    ),
    "kube-router": Build(
        packages="github.com/cloudnativelabs/kube-router/v2/cmd/kube-router",
        program="kube-router",
        values=("github.com/cloudnativelabs/kube-router/v2/pkg/version.Version=v2.1.0",),
    ),
    "k3d": Build(
        packages=_K3D,
        program="k3d",
        values=(f"{_K3D}/version.Version=v5.8.3", f"{_K3D}/version.K3sVersion=v1.34.4-k3s1"),
    ),
    "argocd": Build(
        packages=f"{_ARGOCD}/cmd",
        program="argocd",
        values=(f"{_ARGOCD}/common.version=3.2.11",),
        module=_ARGOCD,
        files=("manifests/core-install.yaml", "entrypoint.sh", "hack/gpg-wrapper.sh", "hack/git-verify-wrapper.sh"),
    ),
    "coredns": Build(packages=".", program="coredns"),
    "local-path": Build(
        packages="github.com/rancher/local-path-provisioner",
        program="local-path-provisioner",
        values=("main.VERSION=v0.0.30",),
    ),
    "metrics-server": Build(values=("k8s.io/client-go/pkg/version.gitVersion=v0.9.0",)),
    "prometheus": Build(values=("github.com/prometheus/common/version.Version=3.5.0",)),
    "alertmanager": Build(values=("github.com/prometheus/common/version.Version=0.28.1",)),
    "kube-state-metrics": Build(
        packages="k8s.io/kube-state-metrics/v2",
        program="kube-state-metrics",
        values=("github.com/prometheus/common/version.Version=v2.18.0",),
    ),
    "kustomize": Build(packages="sigs.k8s.io/kustomize/kustomize/v5", program="kustomize"),
    "kube-score": Build(values=("main.version=1.20.0",)),
    "actionlint": Build(values=("github.com/rhysd/actionlint.version=1.7.12",)),
    "victoriametrics": Build(
        values=("github.com/VictoriaMetrics/VictoriaMetrics/lib/buildinfo.Version=victoria-metrics-v1.151.0",),
        on_demand=True,
    ),
    "cosign": Build(values=("sigs.k8s.io/release-utils/version.gitVersion=v2.6.5",), on_demand=True),
    "pause": Build(packages=".", program="pause"),
    "argo-rollouts": Build(
        packages=f"{_ARGO_ROLLOUTS}/cmd/rollouts-controller",
        program="rollouts-controller",
        values=(f"{_ARGO_ROLLOUTS}/utils/version.version=v1.8.3",),
        module=_ARGO_ROLLOUTS,
        files=("manifests/install.yaml",),
        on_demand=True,
    ),
    "kserve": Build(packages=f"{_KSERVE}/cmd/manager", program="manager", on_demand=True),
    "gitea": Build(
        packages=_GITEA,
        program="gitea",
        values=("main.Version=1.24.6",),
        tags=("sqlite", "sqlite_unlock_notify"),
        with_c=True,
        on_demand=True,
    ),
}


def build(name: str, say: Say) -> Path:
    """Return the folder with the programs of `go/<name>`, built once and kept in the cache.

    Raises:
        ProblemError: Go is missing or too old, or the build failed; with its last lines.
    """
    module, how = _MODULES / name, BUILDS[name]
    sources = sorted(path for path in module.iterdir() if path.suffix in (".mod", ".sum", ".go"))
    key = key_of(
        *_command(how, Path()),
        *how.files,
        _go_version(),
        *(item for path in sources for item in (path.name, path.read_bytes())),
    )

    def make(unfinished: Path) -> None:
        _require_go(name, module / "go.mod")
        if how.with_c:
            _require_c_compiler(name)
        unfinished.mkdir()
        command, settings = _command(how, unfinished), {"CGO_ENABLED": str(int(how.with_c)), "GOWORK": "off"}
        run_long(f"Go: building {name}", command, say, next_step=_NEXT_STEP, cwd=module, settings=settings)
        if how.files:
            _copy_files(how, module, unfinished)

    return cached("bin", f"{name}-{key}", make)


def argocd_sources() -> Path:
    """Return the folder with the files of Argo CD's module, in the version that is built here."""
    return module_sources(_MODULES / "argocd", _ARGOCD)


def kserve_sources() -> Path:
    """Return the folder with the files of KServe's module, in the version that is built here."""
    return module_sources(_MODULES / "kserve", _KSERVE)


def gitea_sources() -> Path:
    """Return the folder with the files of Gitea's module, which a Gitea that is built without them reads as it runs."""
    return module_sources(_MODULES / "gitea", _GITEA)


def manifest(program: str, say: Say) -> Path:
    """Return what installs a program, from its own module: a file, or a folder with a kustomization.

    Args:
        program: a key of `settings.MANIFEST_URLS`.
        say: takes the lines of progress.
    """
    if program == "kserve":
        return kserve_sources() / "config" / "default"  # its module has no file with all of it
    (name,) = (each for each in BUILDS[program].files if each.endswith("install.yaml"))
    return build(program, say) / Path(name).name


def module_sources(pinned: Path, module: str) -> Path:
    """Return the folder with a module's own files, without building anything.

    Args:
        pinned: the folder whose go.mod has the version.
        module: the module's path.

    Raises:
        ProblemError: Go is missing, or the module cannot be downloaded.
    """
    _require_go(pinned.name, pinned / "go.mod")
    command = ["go", "mod", "download", "-json", module]
    done = subprocess.run(command, cwd=pinned, capture_output=True, text=True)
    if done.returncode != 0:
        raise ProblemError(Problem(f"Go module {module}", "its sources", done.stdout + done.stderr, _NEXT_STEP))
    return Path(json.loads(done.stdout)["Dir"])


def _command(how: Build, folder: Path) -> list[str]:
    linker = " ".join(("-s", "-w", *(f"-X {value}" for value in how.values)))
    output = f"{folder}/{how.program}"
    tags = ["-tags", ",".join(how.tags)] if how.tags else []
    return ["go", "build", "-trimpath", "-buildvcs=false", *tags, "-ldflags", linker, "-o", output, how.packages]


def _copy_files(how: Build, module: Path, folder: Path) -> None:
    source = module_sources(module, how.module)
    for name in how.files:
        shutil.copyfile(source / name, folder / Path(name).name)


@cache
def _go_version() -> str:
    """Return the version as `go env GOVERSION` prints it (`go1.26.1`); empty without Go."""
    if shutil.which("go") is None:
        return ""
    done = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True, cwd=os.sep)
    return done.stdout.strip()


def _require_go(name: str, go_mod: Path) -> None:
    lines = go_mod.read_text(encoding="utf-8").splitlines()
    wanted = next(line.removeprefix("go ") for line in lines if line.startswith("go "))
    installed = _go_version()
    if not installed or _numbers(installed.removeprefix("go")) < _numbers(wanted):
        raise ProblemError(
            Problem(
                f"Go, to build {name}",
                f"version {wanted} or later on PATH",
                installed or "no Go",
                "Install it (https://go.dev/dl/), or use the official images: with Docker, k3d and kubectl on PATH.",
            )
        )


def _require_c_compiler(name: str) -> None:
    compiler = os.environ.get("CC", "gcc")  # what Go runs
    if shutil.which(compiler) is None:
        problem = Problem(f"a C compiler, to build {name}", f"{compiler} on PATH", "none", "Install gcc, or set CC.")
        raise ProblemError(problem)


def _numbers(version: str) -> tuple[int, ...]:
    """Parse `1.26.1` as numbers; what follows them (`rc1`, a space and experiments) does not count."""
    plain = version.split()[0].split("rc")[0].split("-")[0]
    return tuple(int(part) for part in plain.split(".") if part.isdigit())

"""How each image of the platform is made: its layers, and how a container of it is started.

They run upstream's programs in upstream's versions, or Debian's where the label says so. Entry points, users and paths
are those of the official images, so that manifests cannot tell the difference.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from testbeds.common.layers import Layer, LayerWriter, describe_layer, read_layer, write_layer
from testbeds.common.oci import Image
from testbeds.common.tarballs import extract_all
from testbeds.homelab.cache import cached, key_of
from testbeds.homelab.libraries import FOLDER as LIBRARIES
from testbeds.homelab.libraries import compile_sources, library_layer
from testbeds.homelab.offline.go_build import build
from testbeds.homelab.offline.rootfs import root_file_system, unpacked
from testbeds.homelab.progress import Say

# One system for all images: each node pulls and unpacks it once.
_PACKAGES = (
    "busybox-static",
    "ca-certificates",
    "docker-registry",
    "git",
    "gpg",
    "gpg-agent",
    "python3",
    "redis-server",
    "tini",
)
# Two thirds of MLflow's size, which the small node of the control plane need not carry.
_NOT_FOR_THE_SERVER = ("docker", "matplotlib", "pyarrow", "scikit-learn", "scipy", "skops")
_FILES = Path(__file__).with_name("files")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_STDLIB = "usr/lib/python3.11"
_ARGOCD_USER = 999
_NOBODY = 65534
_ARGOCD_PARTS = (
    "server",
    "repo-server",
    "cmp-server",
    "application-controller",
    "dex",
    "notifications",
    "applicationset-controller",
    "k8s-auth",
    "commit-server",
)


def _debian(say: Say) -> Layer:
    system = root_file_system(_PACKAGES, say)

    def make(unfinished: Path) -> None:
        unfinished.mkdir()
        os.link(system, unfinished / "layer.tar")
        describe_layer(unfinished)

    return read_layer(cached("layers", f"debian-{system.stem}", make))


def _layer(name: str, made_of: tuple[Path | str, ...], write: Callable[[LayerWriter], None]) -> Layer:
    """Make a layer; it is made again when its inputs, this module or a file in `files` change.

    Args:
        name: the layer's name in the cache.
        made_of: the inputs: entries of the cache, by name.
        write: writes the layer.
    """
    own = (Path(__file__), *sorted(_FILES.iterdir()))
    key = key_of(*(path.read_bytes() for path in own), *(Path(item).name for item in made_of))
    return read_layer(cached("layers", f"{name}-{key}", lambda unfinished: write_layer(unfinished, write)))


def python(say: Say) -> Image:
    """Debian's Python, with its bytecode; the official image has a Python of its own."""
    system = root_file_system(_PACKAGES, say)

    def write(layer: LayerWriter) -> None:
        for name in ("python", "python3", "python3.11"):
            layer.link(f"usr/local/bin/{name}", "/usr/bin/python3.11")
        with tempfile.TemporaryDirectory() as folder:
            with tarfile.open(system) as tar:
                sources = (entry for entry in tar if entry.isfile() and entry.name.startswith(f"./{_STDLIB}/"))
                extract_all(tar, Path(folder), sources)
            stdlib = Path(folder, _STDLIB)
            compile_sources(stdlib, f"/{_STDLIB}")
            layer.tree(_STDLIB, stdlib, lambda path: path.is_file() and path.suffix != ".pyc")

    compiled = _layer("python", (system, str(sys.version_info[:2])), write)
    return Image((_debian(say), compiled), {"Env": [f"PATH={_PATH}", "LANG=C.UTF-8"], "Cmd": ["python3"]})


def mlflow(say: Say) -> Image:
    libraries = library_layer(("mlflow", "flask-wtf"), say, without=_NOT_FOR_THE_SERVER)
    environment = {"PATH": f"{LIBRARIES}/bin:{_PATH}", "PYTHONPATH": LIBRARIES}
    return python(say).extended(
        libraries,
        environment=environment,
        Cmd=["bash"],
        Labels={"org.opencontainers.image.description": "MLflow's server, without what only its clients' models need"},
    )


def argocd(say: Say) -> Image:
    """Argo CD as in upstream's Dockerfile, without Helm, git-lfs and the web page."""
    system, programs, kustomize = root_file_system(_PACKAGES, say), build("argocd", say), build("kustomize", say)

    def write(layer: LayerWriter) -> None:
        passwd, group = _read(system, "etc/passwd"), _read(system, "etc/group")
        layer.file("etc/passwd", passwd + b"argocd:x:999:999::/home/argocd:/bin/sh\n")
        layer.file("etc/group", group + b"argocd:x:999:\n")
        layer.folder("home/argocd", 0o775, _ARGOCD_USER)
        for name in ("entrypoint.sh", "gpg-wrapper.sh", "git-verify-wrapper.sh"):
            layer.file(f"usr/local/bin/{name}", programs / name, 0o755)
        layer.link("usr/local/bin/uid_entrypoint.sh", "/usr/local/bin/entrypoint.sh")
        layer.file("usr/local/bin/argocd", programs / "argocd", 0o755)
        layer.file("usr/local/bin/kustomize", kustomize / "kustomize", 0o755)
        for part in _ARGOCD_PARTS:
            layer.link(f"usr/local/bin/argocd-{part}", "/usr/local/bin/argocd")
        layer.file("app/config/ssh/ssh_known_hosts", b"")
        layer.link("etc/ssh/ssh_known_hosts", "/app/config/ssh/ssh_known_hosts")
        layer.folder("app/config/tls")
        layer.folder("app/config/gpg/source")
        layer.folder("app/config/gpg/keys", 0o700, _ARGOCD_USER)

    return Image(
        (_debian(say), _layer("argocd", (system, programs, kustomize), write)),
        {
            "Env": [f"PATH={_PATH}", "USER=argocd", f"ARGOCD_USER_ID={_ARGOCD_USER}"],
            "Entrypoint": ["/usr/bin/tini", "--"],
            "User": str(_ARGOCD_USER),
            "WorkingDir": "/home/argocd",
        },
    )


def redis(say: Say) -> Image:
    script = _FILES / "redis-entrypoint.sh"

    def write(layer: LayerWriter) -> None:
        layer.file("usr/local/bin/docker-entrypoint.sh", script, 0o755)
        layer.folder("data", 0o777)

    return Image(
        (_debian(say), _layer("redis", (), write)),
        {
            "Env": [f"PATH={_PATH}"],
            "Entrypoint": ["docker-entrypoint.sh"],
            "Cmd": ["redis-server"],
            "WorkingDir": "/data",
            "ExposedPorts": {"6379/tcp": {}},
            "Labels": {"org.opencontainers.image.description": "Debian's redis-server 7.0, not the version of the tag"},
        },
    )


def postgres(say: Say) -> Image:
    """PostgreSQL with what its server needs; it makes its database with the first start, as the official image does."""
    packages = unpacked(("postgresql-15", "postgresql-client-15", "libpq5", "libicu72", "libxml2"), say)
    script = _FILES / "postgres-entrypoint.sh"
    system = root_file_system(_PACKAGES, say)

    def write(layer: LayerWriter) -> None:
        passwd, group = _read(system, "etc/passwd"), _read(system, "etc/group")
        layer.file("etc/passwd", passwd + b"postgres:x:999:999::/var/lib/postgresql:/bin/sh\n")
        layer.file("etc/group", group + b"postgres:x:999:\n")
        layer.file("usr/local/bin/docker-entrypoint.sh", script, 0o755)
        for folder in ("usr/lib", "usr/share/postgresql"):
            layer.tree(
                folder, packages / folder, lambda path: "llvmjit" not in path.name and "bitcode" not in path.parts
            )
        layer.folder("var/lib/postgresql/data", 0o777)

    return Image(
        (_debian(say), _layer("postgres", (packages, system), write)),
        {
            "Env": [f"PATH=/usr/lib/postgresql/15/bin:{_PATH}", "PGDATA=/var/lib/postgresql/data"],
            "Entrypoint": ["docker-entrypoint.sh"],
            "Cmd": ["postgres"],
            "ExposedPorts": {"5432/tcp": {}},
            "StopSignal": "SIGINT",
            "Labels": {"org.opencontainers.image.description": "Debian's PostgreSQL 15, not the version of the tag"},
        },
    )


def registry(say: Say) -> Image:
    def write(layer: LayerWriter) -> None:
        layer.file("entrypoint.sh", _FILES / "registry-entrypoint.sh", 0o755)
        layer.link("usr/local/bin/registry", "/usr/bin/docker-registry")
        layer.file("etc/docker/registry/config.yml", _FILES / "registry-config.yml")
        layer.folder("var/lib/registry")

    return Image(
        (_debian(say), _layer("registry", (), write)),
        {
            "Env": [f"PATH={_PATH}"],
            "Entrypoint": ["/entrypoint.sh"],
            "Cmd": ["/etc/docker/registry/config.yml"],
            "Volumes": {"/var/lib/registry": {}},
            "ExposedPorts": {"5000/tcp": {}},
            "Labels": {"org.opencontainers.image.description": "Debian's docker-registry"},
        },
    )


def k3d_tools(say: Say) -> Image:
    layer = _layer("k3d-tools", (), lambda layer: layer.file("app/k3d-tools", _FILES / "k3d-tools.sh", 0o755))
    return Image((_debian(say), layer), {"Env": [f"PATH={_PATH}"], "Entrypoint": ["/app/k3d-tools"], "Cmd": ["noop"]})


def busybox(say: Say) -> Image:
    system = root_file_system(_PACKAGES, say)

    def write(layer: LayerWriter) -> None:
        program = _read(system, "usr/bin/busybox")
        layer.file("bin/busybox", program, 0o755)
        for name in _applets(program):
            layer.link(f"bin/{name}", "busybox")
        layer.file("etc/passwd", f"root:x:0:0::/:/bin/sh\nnobody:x:{_NOBODY}:{_NOBODY}::/:/bin/false\n".encode())
        layer.file("etc/group", f"root:x:0:\nnogroup:x:{_NOBODY}:\n".encode())
        layer.folder("tmp", 0o1777)

    description = {"org.opencontainers.image.description": "Debian's busybox-static, not the version of the tag"}
    layer = _layer("busybox", (system,), write)
    return Image((layer,), {"Env": [f"PATH={_PATH}"], "Cmd": ["sh"], "Labels": description})


def prometheus(say: Say) -> Image:
    """Prometheus without promtool, which no pod runs."""
    programs = build("prometheus", say)

    def write(layer: LayerWriter) -> None:
        layer.file("bin/prometheus", programs / "prometheus", 0o755)
        layer.file("etc/prometheus/prometheus.yml", _FILES / "prometheus.yml")
        layer.folder("prometheus", 0o755, _NOBODY)

    return Image(
        (*busybox(say).layers, _layer("prometheus", (programs,), write)),
        {
            "Env": [f"PATH={_PATH}"],
            "User": "nobody",
            "WorkingDir": "/prometheus",
            "Entrypoint": ["/bin/prometheus"],
            "Cmd": ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"],
            "Volumes": {"/prometheus": {}},
            "ExposedPorts": {"9090/tcp": {}},
        },
    )


def alertmanager(say: Say) -> Image:
    """Alertmanager without amtool, which no pod runs, and without a configuration: the manifests mount that."""
    programs = build("alertmanager", say)

    def write(layer: LayerWriter) -> None:
        layer.file("bin/alertmanager", programs / "alertmanager", 0o755)
        layer.folder("etc/alertmanager", 0o755, _NOBODY)
        layer.folder("alertmanager", 0o755, _NOBODY)

    return Image(
        (*busybox(say).layers, _layer("alertmanager", (programs,), write)),
        {
            "Env": [f"PATH={_PATH}"],
            "User": "nobody",
            "WorkingDir": "/alertmanager",
            "Entrypoint": ["/bin/alertmanager"],
            "Cmd": ["--config.file=/etc/alertmanager/alertmanager.yml", "--storage.path=/alertmanager"],
            "Volumes": {"/alertmanager": {}},
            "ExposedPorts": {"9093/tcp": {}},
        },
    )


def grafana(say: Say) -> Image:
    """A stand-in for Grafana, whose image cannot be made from packages (docs/homelab.md)."""
    layer = _layer("grafana", (), lambda layer: layer.file("run.py", _FILES / "grafana.py"))
    return python(say).extended(
        layer,
        environment={},
        User="472",
        Entrypoint=["python3", "/run.py"],
        Cmd=[],
        ExposedPorts={"3000/tcp": {}},
        Labels={"org.opencontainers.image.description": "A stand-in that reads what Grafana reads, and shows nothing"},
    )


def program(module: str, path: str, user: str = "") -> Callable[[Say], Image]:
    """Return the recipe of an image with one static program and nothing else.

    Args:
        module: the folder in `go/`.
        path: the program's path in the image.
        user: the user as whom it runs; root by default.
    """

    def image(say: Say) -> Image:
        folder = build(module, say)
        program = folder / Path(path).name
        layer = _layer(module, (folder,), lambda layer: layer.file(path, program, 0o755))
        return Image((layer,), {"Env": [f"PATH={_PATH}"], "Entrypoint": [path], **({"User": user} if user else {})})

    return image


@cache
def _read(tar: Path, path: str) -> bytes:
    with tarfile.open(tar) as archive:
        content = archive.extractfile(f"./{path}")
        assert content is not None, f"{path} is a file of {tar}"
        return content.read()


def _applets(busybox: bytes) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "busybox")
        program.write_bytes(busybox)
        program.chmod(0o755)
        done = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split() if name != "busybox"]

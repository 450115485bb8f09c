"""The node's image, under k3s's name: upstream Kubernetes on Debian, with a launcher that k3d takes for k3s.

It proves k3d's use and everything above the node, and nothing about k3s itself; `k3s --version` in it says so.
"""

import shutil
import subprocess
import tarfile
from pathlib import Path

from testbeds.homelab.docker import Docker
from testbeds.homelab.offline.cache import cached, key_of
from testbeds.homelab.offline.go_build import build
from testbeds.homelab.offline.programs import Say
from testbeds.homelab.offline.rootfs import root_file_system

PACKAGES = (
    "ca-certificates",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "etcd-server",
    "iproute2",
    "iptables",
    "jq",
    "kmod",
    "nftables",
    "openssl",
    "procps",
    "runc",
)
LABEL = "incumbent.homelab.key"
"""The image's label that names what it was made of."""
_HERE = Path(__file__).parent
_PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet")
# As k3s's image has them. The volumes keep what containerd writes off the node's own overlay file system.
_CONFIGURATION = (
    'ENTRYPOINT ["/bin/k3s"]',
    'CMD ["agent"]',
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "ENV KUBECONFIG=/etc/rancher/k3s/k3s.yaml",
    "VOLUME /var/lib/kubelet",
    "VOLUME /var/lib/rancher/k3s",
    "VOLUME /var/lib/cni",
    "VOLUME /var/log",
)


def load_node_image(docker: Docker, names: tuple[str, ...], say: Say) -> None:
    """Let Docker have the image under these names, unless it has it already."""
    system = root_file_system(PACKAGES, say)
    programs = build("kubernetes", say)
    own = [*sorted((_HERE / "node").rglob("*.*")), _HERE / "node" / "k3s", _HERE / "runc-wrapper"]
    sources = [text for path in own for text in (str(path.relative_to(_HERE)), path.read_bytes())]
    key = key_of(system.name, programs.name, *_CONFIGURATION, *sources)
    found = docker.find("image", names[0], f'{{{{index .Config.Labels "{LABEL}"}}}}')
    if found != key:
        tar = cached("images", f"node-{key}.tar", lambda unfinished: _pack(system, programs, unfinished))
        changes = [f"--change={line}" for line in (*_CONFIGURATION, f"LABEL {LABEL}={key}")]
        docker.run("import", *changes, str(tar), names[0])
        tar.unlink()  # Docker keeps it now
        say(f"node image: {names[0]}")
    for name in names[1:]:
        docker.run("tag", names[0], name)


def _pack(system: Path, programs: Path, tar: Path) -> None:
    """The root file system with Kubernetes's programs and the launcher added to it."""
    shutil.copyfile(system, tar)
    # k3d's own entry point is written for a shell that knows HOSTNAME, which Debian's /bin/sh does not.
    subprocess.run(["tar", "--delete", f"--file={tar}", "./usr/bin/sh"], check=True)
    with tarfile.open(tar, "a") as archive:
        for name in _PROGRAMS:
            archive.add(programs / name, f"./opt/kubernetes/{name}")
        archive.add(programs / "kubectl", "./usr/bin/kubectl")
        archive.add(_HERE / "node", "./opt/node")
        archive.add(_HERE / "runc-wrapper", "./opt/node/runc-wrapper")
        for link, target in (("./usr/bin/k3s", "/opt/node/k3s"), ("./usr/bin/sh", "bash")):
            entry = tarfile.TarInfo(link)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)

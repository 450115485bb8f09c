"""The node's image, under k3s's name: upstream Kubernetes on Debian, with a launcher that k3d takes to be k3s.

It shows that k3d and everything above the node work, and nothing about k3s itself; its `k3s --version` says so.
"""

import shutil
import subprocess
import tarfile
from pathlib import Path

from testbeds.homelab import settings
from testbeds.homelab.cache import cached, key_of
from testbeds.homelab.docker import Docker
from testbeds.homelab.offline.go_build import build
from testbeds.homelab.offline.rootfs import root_file_system
from testbeds.homelab.progress import Say, phase

PACKAGES = (
    "ca-certificates",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "etcd-server",
    "iproute2",
    "ipset",
    "iptables",
    "jq",
    "kmod",
    "nftables",
    "openssl",
    "procps",
    "runc",
)
_HERE = Path(__file__).parent
_PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet")
# As in k3s's image. The volumes keep containerd's files off the node's own overlay file system.
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


def load_node_image(docker: Docker, say: Say) -> None:
    """Load the image into Docker, unless Docker has exactly this image."""
    system = root_file_system(PACKAGES, say)
    programs, policies = build("kubernetes", say), build("kube-router", say)
    files = [path for path in (*sorted((_HERE / "node").rglob("*")), _HERE / "runc-wrapper") if path.is_file()]
    sources = [text for path in files for text in (str(path.relative_to(_HERE)), path.read_bytes())]
    key = key_of(system.name, programs.name, policies.name, *_CONFIGURATION, *sources)
    loaded = docker.find("image", settings.NODE_IMAGE, f'{{{{index .Config.Labels "{settings.BUILT_HERE_LABEL}"}}}}')
    if loaded == key:
        return
    tar = cached("images", f"node-{key}.tar", lambda unfinished: _pack(system, programs, policies, unfinished))
    with phase(f"image {settings.NODE_IMAGE} loaded", say):
        changes = [f"--change={line}" for line in (*_CONFIGURATION, f"LABEL {settings.BUILT_HERE_LABEL}={key}")]
        docker.run("import", *changes, str(tar), settings.NODE_IMAGE)
        tar.unlink()  # Docker keeps it now


def _pack(system: Path, programs: Path, policies: Path, tar: Path) -> None:
    """Write the root file system with Kubernetes's programs, the controller of network policies and the launcher."""
    shutil.copyfile(system, tar)
    # k3d's own entry point is written for a shell that knows HOSTNAME, which Debian's /bin/sh does not.
    subprocess.run(["tar", "--delete", f"--file={tar}", "./usr/bin/sh"], check=True)
    with tarfile.open(tar, "a") as archive:
        for name in _PROGRAMS:
            archive.add(programs / name, f"./opt/kubernetes/{name}")
        archive.add(programs / "kubectl", "./usr/bin/kubectl")
        archive.add(policies / "kube-router", "./opt/kubernetes/kube-router")
        archive.add(_HERE / "node", "./opt/node")
        archive.add(_HERE / "runc-wrapper", "./opt/node/runc-wrapper")
        for link, target in (("./usr/bin/k3s", "/opt/node/k3s"), ("./usr/bin/sh", "bash")):
            entry = tarfile.TarInfo(link)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)

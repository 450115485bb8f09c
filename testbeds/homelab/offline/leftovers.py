"""What a Docker daemon leaves on a machine, above all when it is killed: found and removed.

Processes and control groups are found by the group that all of them are in, mounts by the folders that they lie in,
links and firewall rules by the network's name and addresses. Kernel settings are put back to what `remember` noted.
"""

import ipaddress
import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from testbeds.common.processes import wait_until
from testbeds.homelab import settings
from testbeds.homelab.cache import cache_folder

RUN = Path("/run/incumbent-homelab")
GROUP = "incumbent-homelab"
_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_NOTE = RUN / "before.json"
_END_SECONDS = 30.0
# dockerd sets the first, kubelets the others, which no container has for itself.
_KERNEL_SETTINGS = (
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
_MADE_FOLDERS = (Path("/run/docker"), Path("/run/containerd"))
"""Where Docker and containerd put sockets whatever they are told."""


def remember() -> None:
    """Note the machine's settings that will be changed. To be called before anything is."""
    RUN.mkdir(parents=True, exist_ok=True)
    before = {name: _kernel_setting(name).read_text(encoding="utf-8").strip() for name in _KERNEL_SETTINGS}
    made = [str(folder) for folder in _MADE_FOLDERS if not folder.exists()]
    note = {"kernel": before, "forward": _forward_policy(), "made": made}
    _NOTE.write_text(json.dumps(note), encoding="utf-8")


def clear() -> None:
    """Remove everything of an ended or killed daemon; nothing happens where nothing is left.

    Raises:
        ProblemError: a process, a control group or a network link does not go away.
    """
    wait_until(_all_killed, _END_SECONDS, "the end of the homelab's processes")
    for mount in _mounts():
        subprocess.run(["umount", "--lazy", mount], check=True)
    wait_until(_no_control_group, _END_SECONDS, "the end of the homelab's control groups")
    wait_until(_no_link, _END_SECONDS, "the end of the homelab's network links")
    _remove_rules()
    if _NOTE.exists():
        _restore(json.loads(_NOTE.read_text(encoding="utf-8")))
    if RUN.exists():
        shutil.rmtree(RUN)


def control_group_roots() -> list[Path]:
    """The hierarchies of control groups that processes can be put in: one of version 2, or several of version 1."""
    if (_CONTROL_GROUPS / "cgroup.controllers").exists():
        return [_CONTROL_GROUPS]
    # `pids` first: a new group there needs no settings before it takes processes (`cpuset` would).
    found = [folder for folder in _CONTROL_GROUPS.iterdir() if (folder / "cgroup.procs").exists()]
    return sorted(found, key=lambda folder: (folder.name != "pids", folder.name))


def is_alive(process: int) -> bool:
    """Whether that process runs; one that has ended and that nobody has asked about does not."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def processes() -> set[int]:
    """All processes of the homelab's control group: the daemon's, and those of containers within containers."""
    found: set[int] = set()
    for group in _groups():
        try:
            found.update(int(line) for line in (group / "cgroup.procs").read_text(encoding="utf-8").split())
        except OSError:  # the group has gone meanwhile
            continue
    return found


def _groups() -> Iterator[Path]:
    """The homelab's control groups, inner ones before outer ones."""
    for root in control_group_roots():
        for folder, _, _ in os.walk(root / GROUP, topdown=False):
            yield Path(folder)


def _all_killed() -> bool:
    alive = {process for process in processes() if is_alive(process)}
    for process in alive:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return not alive


def _no_control_group() -> bool:
    left = False
    for group in _groups():
        try:
            group.rmdir()
        except OSError:  # still has a process that is ending
            left = True
    return not left


def _mounts() -> list[str]:
    """Mounts below the daemon's folders, inner ones first."""
    folders = [RUN, cache_folder() / "docker"]
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    points = [line.split()[1].encode().decode("unicode_escape") for line in lines]
    return [point for point in reversed(points) if any(Path(point).is_relative_to(folder) for folder in folders)]


def _no_link() -> bool:
    found = _links()
    for link in found:  # one may go by itself in between; another look says so
        subprocess.run(["ip", "link", "delete", link], check=False, capture_output=True)
    return not found


def _links() -> list[str]:
    """The network's bridge and what is plugged into it.

    A killed container's end goes when its network namespace does, which its unfinished connections hold for minutes.
    """
    bridge = Path("/sys/class/net", settings.BRIDGE)
    return [*(port.name for port in bridge.glob("brif/*")), *([bridge.name] if bridge.exists() else [])]


def _remove_rules() -> None:
    """Docker's own chains, what jumps to them, and what names the network."""
    if shutil.which("iptables-save") is None:
        return
    for table in ("nat", "filter"):
        lines = subprocess.run(["iptables-save", "-t", table], check=True, capture_output=True, text=True).stdout
        for line in lines.splitlines():
            if line.startswith("-A ") and is_ours(line):
                subprocess.run(["iptables", "-t", table, "-D", *shlex.split(line)[1:]], check=True)
        chains = [line.split()[0].removeprefix(":") for line in lines.splitlines() if line.startswith(":DOCKER")]
        for action in ("-F", "-X"):
            for chain in chains:
                subprocess.run(["iptables", "-t", table, action, chain], check=True)


def is_ours(rule: str) -> bool:
    """Whether a rule, as `iptables-save` writes it, is for Docker's chains or the homelab's network."""
    words = shlex.split(rule)
    following = list(pairwise(words))
    if any(name == "-j" and target.startswith("DOCKER") for name, target in following):
        return True
    if any(name in ("-i", "-o") and link == settings.BRIDGE for name, link in following):
        return True
    return any(_in_network(address) for name, address in following if name in ("-s", "-d"))


def _in_network(address: str) -> bool:
    network = ipaddress.ip_network(address)
    return isinstance(network, ipaddress.IPv4Network) and network.subnet_of(settings.SUBNET)


def _restore(note: Mapping[str, Any]) -> None:
    for name, value in note["kernel"].items():
        _kernel_setting(name).write_text(f"{value}\n", encoding="utf-8")
    subprocess.run(["iptables", "-P", "FORWARD", note["forward"]], check=True)
    for folder in map(Path, note["made"]):
        if folder.exists():
            shutil.rmtree(folder)


def _kernel_setting(name: str) -> Path:
    return Path("/proc/sys") / name


def _forward_policy() -> str:
    """What the machine does with packets that are not for itself: `ACCEPT` or `DROP`."""
    lines = subprocess.run(["iptables", "-S", "FORWARD"], check=True, capture_output=True, text=True).stdout
    return lines.splitlines()[0].split()[-1]

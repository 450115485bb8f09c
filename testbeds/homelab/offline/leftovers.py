"""What a Docker daemon leaves on a machine, above all when it is killed: found and removed.

Processes and control groups are found by the group that contains them all, mounts by their folders, links and firewall
rules by the network's name and addresses. Kernel settings get the values back that `remember` noted.
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
# dockerd sets the first, kubelets set the others; no container has its own copy of these.
_KERNEL_SETTINGS = (
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
_MADE_FOLDERS = (Path("/run/docker"), Path("/run/containerd"))
"""Folders in which Docker and containerd put sockets whatever their settings are."""


def remember() -> None:
    """Note the machine's settings that the daemon will change; call this before it starts."""
    RUN.mkdir(parents=True, exist_ok=True)
    before = {name: _kernel_setting(name).read_text(encoding="utf-8").strip() for name in _KERNEL_SETTINGS}
    made = [str(folder) for folder in _MADE_FOLDERS if not folder.exists()]
    note = {"kernel": before, "forward": _forward_policy(), "made": made}
    _NOTE.write_text(json.dumps(note), encoding="utf-8")


def clear() -> None:
    """Remove everything that an ended or killed daemon has left, if anything.

    Raises:
        ProblemError: a process, a control group or a network link cannot be removed.
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
    """Return the hierarchies of control groups that take processes: one of version 2, or several of version 1."""
    if (_CONTROL_GROUPS / "cgroup.controllers").exists():
        return [_CONTROL_GROUPS]
    # `pids` first: its new groups take processes without further settings (those of `cpuset` do not).
    hierarchies = [folder for folder in _CONTROL_GROUPS.iterdir() if (folder / "cgroup.procs").exists()]
    return sorted(hierarchies, key=lambda folder: (folder.name != "pids", folder.name))


def is_alive(process: int) -> bool:
    """Check that a process is running; one that has ended and has not been waited for is not."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def processes() -> set[int]:
    """Return all processes in the homelab's control group: the daemon's, and those of containers within containers."""
    pids: set[int] = set()
    for group in _groups():
        try:
            pids.update(int(line) for line in (group / "cgroup.procs").read_text(encoding="utf-8").split())
        except OSError:  # the group has been removed meanwhile
            continue
    return pids


def _groups() -> Iterator[Path]:
    """Yield the homelab's control groups, inner groups before outer groups."""
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
        except OSError:  # it still has a process that is ending
            left = True
    return not left


def _mounts() -> list[str]:
    """Return the mounts below the daemon's folders, inner mounts first."""
    folders = [RUN, cache_folder() / "docker"]
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    points = [line.split()[1].encode().decode("unicode_escape") for line in lines]
    return [point for point in reversed(points) if any(Path(point).is_relative_to(folder) for folder in folders)]


def _no_link() -> bool:
    links = _links()
    for link in links:  # a link may vanish by itself meanwhile; the next call sees that
        subprocess.run(["ip", "link", "delete", link], check=False, capture_output=True)
    return not links


def _links() -> list[str]:
    """Return the network's bridge and the links that are plugged into it.

    The link of a killed container vanishes with its network namespace, which unfinished connections hold for minutes.
    """
    bridge = Path("/sys/class/net", settings.BRIDGE)
    return [*(port.name for port in bridge.glob("brif/*")), *([bridge.name] if bridge.exists() else [])]


def _remove_rules() -> None:
    """Remove Docker's own chains, the rules that jump to them, and the rules that name the network."""
    if shutil.which("iptables-save") is None:
        return
    for table in ("nat", "filter"):
        lines = subprocess.run(["iptables-save", "-t", table], check=True, capture_output=True, text=True).stdout
        for line in lines.splitlines():
            if line.startswith("-A ") and belongs_to_homelab(line):
                subprocess.run(["iptables", "-t", table, "-D", *shlex.split(line)[1:]], check=True)
        chains = [line.split()[0].removeprefix(":") for line in lines.splitlines() if line.startswith(":DOCKER")]
        for action in ("-F", "-X"):
            for chain in chains:
                subprocess.run(["iptables", "-t", table, action, chain], check=True)


def belongs_to_homelab(rule: str) -> bool:
    """Check whether a rule, as `iptables-save` writes it, is about Docker's chains or the homelab's network."""
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
    """Return what the machine does with packets for other machines: `ACCEPT` or `DROP`."""
    lines = subprocess.run(["iptables", "-S", "FORWARD"], check=True, capture_output=True, text=True).stdout
    return lines.splitlines()[0].split()[-1]

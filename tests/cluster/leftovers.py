"""What jobs leave behind on the hosts of a cluster, where they must leave nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cluster import cgroups
from cluster.host import Host

if TYPE_CHECKING:
    from cluster.cluster import Cluster

_SHARED_PLACES = ("tmp", "dev/shm", "run/lock")


class Baseline:
    """The state of a cluster to which it has to come back."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._before = {host.name: _on_host(host) for host in cluster.hosts}

    def leftovers(self) -> list[str]:
        """What is there now and was not before, one line each."""
        found = [
            f"{host.name}: {thing}"
            for host in self._cluster.hosts
            for thing in sorted(_on_host(host) - self._before[host.name])
        ]
        for node in self._cluster.nodes:
            groups = cgroups.directories(f"{self._cluster.directory.name}/{node.name}")
            found += [f"{node.name}: control group {group}" for group in groups if "/uid_" in group]
        return found + _loop_devices(self._cluster.directory) + _in_stores(self._cluster.directory / "home")


def processes(host: Host) -> dict[int, str]:
    """Command lines of the processes on a host, by their numbers on the machine; kernel names in brackets."""
    namespace = os.readlink(f"/proc/{host.init}/ns/pid")
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "ns" / "pid") == namespace:
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[int(process.name)] = words.strip() or f"[{(process / 'comm').read_text().strip()}]"
        except OSError:
            pass  # it has just ended
    return found


def _on_host(host: Host) -> set[str]:
    mounts = Path(f"/proc/{host.init}/mountinfo").read_text().splitlines()
    things = {"mount {4} ({0})".format(*line.split()) for line in mounts}
    things |= {f"process {words}" for words in processes(host).values()}
    for place in _SHARED_PLACES:
        directory = Path(f"/proc/{host.init}/root", place)
        if directory.is_dir():
            things |= {f"file /{place}/{entry.name}" for entry in directory.iterdir()}
    return things


def _loop_devices(directory: Path) -> list[str]:
    devices = Path("/sys/block").glob("loop*/loop/backing_file")
    files = [(device.parts[3], device.read_text().strip()) for device in devices]
    return [f"loop device {name} on {file}" for name, file in files if file.startswith(str(directory))]


def _in_stores(homes: Path) -> list[str]:
    """Temporary files and held locks in the users' stores."""
    found = [f"temporary file {file}" for file in homes.glob("*/.cache/pinnace/tmp/*")]
    held = {line.split()[-3].rsplit(":", 1)[1] for line in Path("/proc/locks").read_text().splitlines()}
    for directory, _, names in os.walk(homes):
        if "/.cache/pinnace" in directory:
            files = [Path(directory, name) for name in names]
            found += [f"held lock {file}" for file in files if str(file.lstat().st_ino) in held]
    return found

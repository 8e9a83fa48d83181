"""Control groups (version 1) of the cluster's hosts.

Every host gets a directory of its own in each hierarchy and a cgroup namespace rooted there, so
that Slurm's ``/slurm`` directories of two clusters, or of the machine's own Slurm, never meet.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from pathlib import Path

_NEEDED = {"freezer", "cpuset", "memory", "devices", "cpuacct"}
_CLONE_NEWCGROUP = 0x02000000
_ROOT = Path("/sys/fs/cgroup")


def hierarchies() -> list[str]:
    """Mount options of the version 1 hierarchies of this machine, such as ``cpu,cpuacct``."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    controllers = [line.split(":")[1] for line in lines]
    return [names for names in controllers if names and "=" not in names]


def usable() -> bool:
    """Whether Slurm's cgroup/v1 plugin can work here: everything it needs is there and ours to use.

    Its cgroup/v2 plugin wants systemd, which an embedded cluster cannot count on.
    """
    if not _NEEDED.issubset(name for names in hierarchies() for name in names.split(",")):
        return False
    probe = "mount -t cgroup -o freezer cgroup /mnt && mkdir /mnt/pinnace-$$ && rmdir /mnt/pinnace-$$"
    return subprocess.run(["unshare", "-m", "sh", "-c", probe], capture_output=True).returncode == 0


def enter(group: str) -> None:
    """Move this process into ``group`` of every hierarchy and make it the root of what it sees.

    To be called in a mount namespace of one's own.
    """
    _mount_all()
    for names in hierarchies():
        directory = _ROOT / names
        for part in Path(group).parts:
            parent, directory = directory, directory / part
            directory.mkdir(exist_ok=True)
            if "cpuset" in names.split(","):  # a cpuset takes no process before it has processors
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (directory / file).write_text((parent / file).read_text())
        (directory / "cgroup.procs").write_text("0")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWCGROUP) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWCGROUP)")
    _mount_all()


def _mount_all() -> None:
    subprocess.run(["umount", "-R", "-l", str(_ROOT)], capture_output=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(_ROOT)], check=True)
    for names in hierarchies():
        directory = _ROOT / names
        directory.mkdir()
        subprocess.run(["mount", "-t", "cgroup", "-o", names, "cgroup", str(directory)], check=True)
        for name in names.split(","):
            if name != names:
                (_ROOT / name).symlink_to(names)


def remove(group: str) -> None:
    """Remove ``group`` and everything below it from every hierarchy."""
    if usable():
        subprocess.run(["unshare", "-m", sys.executable, __file__, group], check=True)


def directories(group: str) -> list[str]:
    """What there is below ``group`` in the freezer hierarchy, relative to it."""
    listing = f"mount -t cgroup -o freezer cgroup /mnt && cd /mnt/{group} && find . -mindepth 1 -type d"
    found = subprocess.run(["unshare", "-m", "sh", "-c", listing], capture_output=True, text=True)
    return sorted(line[2:] for line in found.stdout.splitlines())


def _remove_here(group: str) -> None:
    _mount_all()
    for names in hierarchies():
        top = _ROOT / names / group
        for directory in [*sorted(top.rglob("*/"), reverse=True), top]:
            _remove_directory(directory)


def _remove_directory(directory: Path) -> None:
    """Killed processes leave their group a moment after the signal: try for a while."""
    for _ in range(100):
        try:
            if directory.is_dir():
                directory.rmdir()
            return
        except OSError:
            time.sleep(0.05)
    print(f"cannot remove control group {directory}", file=sys.stderr)


if __name__ == "__main__":
    _remove_here(sys.argv[1])

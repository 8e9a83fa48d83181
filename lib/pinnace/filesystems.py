"""Which kind of file system a file lies on. On the launch path: standard library alone."""

from __future__ import annotations

import os

#: Types (proc(5), mountinfo) of which many nodes have the same file, from a server that all of them ask.
NETWORK = frozenset((
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse", "gpfs", "lustre", "nfs", "nfs4", "orangefs", "panfs",
    "smb3", "wekafs",
))  # fmt: skip


def kind(device: int) -> str:
    """The type of the mounted file system with this device number, such as ``nfs4``; empty if it is unknown.

    Some (btrfs, overlayfs) give their files other numbers than their mount has; none of a network does.
    """
    wanted = f"{os.major(device)}:{os.minor(device)}".encode()
    try:
        with open("/proc/self/mountinfo", "rb") as mounts:
            for line in mounts:
                if line.split(maxsplit=3)[2] == wanted:
                    return line.partition(b" - ")[2].split(maxsplit=1)[0].decode(errors="replace")
    except (OSError, IndexError):
        pass
    return ""


def is_network(device: int) -> bool:
    """Whether the file system with this device number is one of a network. FUSE counts as one."""
    found = kind(device)
    return found in NETWORK or found.startswith("fuse.")

"""The first process of a host of the cluster: prepares its namespaces, then collects orphans.

Started by host.py in fresh pid, mount, network, UTS and IPC namespaces. All that runs on the
host ends when this process ends, and this process ends when its standard input does: a test
run that is killed leaves no daemon behind. ``--detached`` makes it stay, for ``make demo``.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import stat
import subprocess
from pathlib import Path

from cluster import cgroups


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--etc", required=True, help="files that replace those of /etc")
    parser.add_argument("--cgroup", help="control group of this host")
    parser.add_argument("--detached", action="store_true")
    options = parser.parse_args()

    os.chdir("/")
    socket.sethostname(options.name)
    _run("mount", "-t", "proc", "proc", "/proc")
    for file in Path(options.etc).iterdir():
        if Path("/etc", file.name).exists():
            _run("mount", "--bind", str(file), f"/etc/{file.name}")
    _run("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/tmp")
    _open_fuse()
    if options.cgroup:
        cgroups.enter(options.cgroup)
    _run("ip", "link", "set", "lo", "up")

    signal.signal(signal.SIGCHLD, _collect)
    os.write(1, b"ready\n")
    if options.detached:
        _detach()
        while True:
            signal.pause()
    os.read(0, 1)


def _open_fuse() -> None:
    """Let everybody on this host use FUSE, as udev does on an ordinary machine."""
    device = Path("/dev/fuse")
    if not device.exists() or stat.S_IMODE(device.stat().st_mode) == 0o666:
        return
    number = device.stat().st_rdev
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/mnt")
    os.mknod("/mnt/fuse", stat.S_IFCHR, number)
    Path("/mnt/fuse").chmod(0o666)
    _run("mount", "--bind", "/mnt/fuse", str(device))
    _run("umount", "-l", "/mnt")


def _detach() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


def _collect(*_: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()

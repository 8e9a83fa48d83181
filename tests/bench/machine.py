"""The machine that was measured: numbers mean nothing without it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path

_VERSIONS = {
    "python3": ["/usr/bin/python3", "--version"],
    "slurm": ["slurmd", "-V"],
    "squashfuse_ll": ["squashfuse_ll", "--version"],
    "fuse-overlayfs": ["fuse-overlayfs", "--version"],
    "tar2sqfs": ["tar2sqfs", "--version"],
    "bubblewrap": ["bwrap", "--version"],
    "charliecloud": ["env", "USER=root", "ch-run", "--version"],
    "crun": ["crun", "--version"],
    "podman": ["podman", "--version"],
    "skopeo": ["skopeo", "--version"],
    "umoci": ["umoci", "--version"],
}


def describe() -> dict[str, str]:
    """Facts by name, in the order in which they are to be read."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "system": _quoted("/etc/os-release", "PRETTY_NAME"),
        "kernel": platform.release(),
        "processor": _field("/proc/cpuinfo", "model name"),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / (1 << 20):.1f} GiB",
        "load": load(),
        **{name: version for name, version in map(_version, _VERSIONS) if version},
    }


def load() -> str:
    """The load average of 1, 5 and 15 minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def _version(name: str) -> tuple[str, str]:
    try:
        done = subprocess.run(_VERSIONS[name], capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return name, ""
    # Some write it to standard error, some call it a usage error.
    found = re.search(r"\d+(\.\d+)+\S*", done.stdout + done.stderr)
    return name, found.group() if found else "?"


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _quoted(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition("=")
        if key == name:
            return value.strip('"')
    return "unknown"

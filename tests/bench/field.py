"""The way of the field from layers to a squashfs file: extract all of them, pack their overlay."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

#: Options of mksquashfs: the level of Pinnace, and enroot.conf's ENROOT_SQUASH_OPTIONS.
SAME_LEVEL = "-comp zstd -Xcompression-level 1 -b 131072"
ENROOT = "-comp lzo -noD"

#: Whiteouts as overlayfs has them.
_MARKS = """\
import os, sys
for path, _, names in os.walk(sys.argv[1]):
    for name in names:
        if name.startswith(".wh."):
            os.unlink(f"{path}/{name}")
            if name == ".wh..wh..opq":
                os.setxattr(path, "trusted.overlay.opaque", b"y")
            else:
                os.mknod(f"{path}/{name[4:]}", 0o020000, os.makedev(0, 0))
"""


def extraction(layers: Path, blobs: Sequence[Path]) -> str:
    """Shell lines that extract each blob to a directory of its own, one on each processor."""
    lines = "\n".join(f"{number} {blob}" for number, blob in enumerate(blobs))
    one = f'mkdir -p {layers}/$0 && tar -C {layers}/$0 -I "$(command -v pigz || echo gzip)" -xpf $1'
    return f"xargs -P {os.cpu_count()} -n 2 sh -c '{one}' <<'EOF'\n{lines}\nEOF\n"


def marking(layers: Path) -> list[str]:
    """A command that makes whiteouts of extracted layers those of overlayfs."""
    return ["python3", "-I", "-c", _MARKS, str(layers)]


def packing(place: Path, layers: Path, count: int, options: str) -> list[str]:
    """A command that packs the overlay of extracted layers into ``place``/out.sqsh, as enroot does."""
    lower = ":".join(str(layers / str(number)) for number in reversed(range(count)))
    command = (
        f"mount -t overlay overlay -o lowerdir={lower} {place}/merged && "
        f"mksquashfs {place}/merged {place}/out.sqsh {options} -noappend -quiet -no-progress >&2 && "
        f"sync {place}/out.sqsh"
    )
    return ["unshare", "--mount", "sh", "-c", command]


def podman(place: Path) -> str:
    """podman with a storage of its own below ``place``, as root and with all that it can do."""
    # podman takes no path of more than 50 characters for the second
    runs = hashlib.sha256(str(place).encode()).hexdigest()[:8]
    return f"podman --root {place}/podman --runroot /run/podman-{runs} --cgroup-manager=cgroupfs"

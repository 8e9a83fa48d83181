"""Trees as data, to compare what two programs made of the same layers; layers from lists of entries."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterable
from pathlib import Path


def describe(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything of each file that an image keeps: type, mode, time, content, links, user attributes.

    Set-user-ID and set-group-ID bits are left out: images don't have them.
    """
    found: dict[str, tuple[object, ...]] = {}
    inodes: dict[int, str] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        status = path.lstat()
        name = str(path.relative_to(root))
        kind = stat.S_IFMT(status.st_mode)
        content: object = None
        if stat.S_ISREG(kind):
            content = (hashlib.sha256(path.read_bytes()).hexdigest(), inodes.setdefault(status.st_ino, name))
        elif stat.S_ISLNK(kind):
            content = os.readlink(path)
        attributes = {}
        if not stat.S_ISLNK(kind):
            attributes = {
                key: os.getxattr(path, key)
                for key in _attributes(path)
                if key.startswith("user.") and key != "user.rootlesscontainers"
            }
        mode = 0o777 if stat.S_ISLNK(kind) else stat.S_IMODE(status.st_mode) & 0o1777
        found[name] = (kind, mode, int(status.st_mtime), content, tuple(sorted(attributes.items())))
    return found


def differences(
    mine: dict[str, tuple[object, ...]], theirs: dict[str, tuple[object, ...]], *, made_up: float = 1.5e9
) -> list[str]:
    """What differs between two descriptions.

    A time of ``theirs`` later than ``made_up`` is that of its making, and counts for nothing: umoci
    gives it to directories that an upper layer changes but does not list.
    """
    found = []
    for name in sorted({*mine, *theirs}):
        own, other = mine.get(name), theirs.get(name)
        if own and other and isinstance(other[2], int) and other[2] > made_up:
            own, other = (*own[:2], *own[3:]), (*other[:2], *other[3:])
        if own != other:
            found.append(f"{name}: {own}, theirs {other}")
    return found


def _attributes(path: Path) -> list[str]:
    try:
        return os.listxattr(path)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:  # a squashfs in which no file has any
            return []
        raise


def entry(
    name: str,
    kind: bytes = tarfile.REGTYPE,
    content: bytes = b"",
    *,
    mode: int = 0o644,
    link: str = "",
    mtime: int = 1_000_000_000,
    pax: dict[str, str] | None = None,
) -> tuple[tarfile.TarInfo, bytes]:
    """One entry of a layer."""
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.mtime = kind, mode, link, mtime
    info.size = len(content)
    info.pax_headers = pax or {}
    return info, content


def directory(name: str, mode: int = 0o755, mtime: int = 1_000_000_001) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.DIRTYPE, mode=mode, mtime=mtime)


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.SYMTYPE, link=target, mode=0o777)


def hardlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.LNKTYPE, link=target)


def layer(entries: Iterable[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar archive with ``entries`` in their order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()

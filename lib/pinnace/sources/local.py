"""The source that a location means: the one place that knows all of them.

Each is imported when it is meant: all of them take longer than a small pull.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from pinnace.errors import ImageError, ReferenceError  # noqa: A004 - the field's own word
from pinnace.layers import Format, tar
from pinnace.layers.squash import storage_error
from pinnace.layers.stream import ByteStream
from pinnace.reference import Reference, parse
from pinnace.sources import LocalSource, layout, locations
from pinnace.sources.archive import Archive, File
from pinnace.sources.blobs import Directory
from pinnace.sources.locations import Location

_SQUASHFS = b"hsqs"
#: What the top of an archive of images may hold, besides layers called after their digests.
_IMAGE_FILES = frozenset((b"blobs", b"oci-layout", b"index.json", b"manifest.json", b"repositories"))
_HEX = frozenset(b"0123456789abcdef")


def open_source(
    location: Location, spool: str, note: Callable[[str], None], form: Format | None = None
) -> LocalSource:
    """The source for ``location``. What comes by standard input is kept in a nameless file in ``spool``.

    A squashfs file of the store's ``form`` is taken over, another is compressed anew.
    Raises ImageError if it is not what it is said to be.
    """
    if location.path != locations.STDIN and os.path.isdir(location.path):
        return _directory(location, note)
    if location.transport in ("oci", "dir"):
        Directory(location.path)  # which says what is wrong
    file = _stdin(spool) if location.path == locations.STDIN else File.open(location.path)
    transport = location.transport or _sniff(file)
    if transport == "sqsh":
        return _squash_file(location.path, form)
    if transport == "tar":
        from pinnace.sources import rootfs

        return rootfs.archive(file)
    archive = Archive(file)
    if transport == "oci-archive":
        return layout.LayoutSource(archive, location.image)
    from pinnace.sources import docker_archive

    return docker_archive.source(archive, location.image)


def reference_of(location: Location, source: LocalSource) -> Reference:
    """What the image is called in the store if the user says nothing: its own name, else the file's."""
    fallback = locations.default_name(location.path)
    own = source.name()
    if own is None:
        return parse(fallback)
    if "/" in own or ":" in own:
        try:
            return parse(own)
        except ReferenceError:
            return parse(fallback)
    try:
        return parse(f"{fallback.rpartition(':')[0]}:{own}")  # a mere tag
    except ReferenceError:
        return parse(fallback)


def _squash_file(path: str, form: Format | None) -> LocalSource:
    from pinnace import squashfs
    from pinnace.layers import foreign
    from pinnace.sources import rootfs, squash_file

    if path == locations.STDIN:
        raise ImageError("a squashfs file cannot come from standard input", hint="give its path")
    if form is not None and foreign.fits(path, form):
        return squash_file.SquashFileSource(path)
    squashfs.check(path)
    return rootfs.SquashTree(path).source()


def _directory(location: Location, note: Callable[[str], None]) -> LocalSource:
    path = location.path
    is_layout = os.path.exists(os.path.join(path, layout.MARKER))
    transport = location.transport or ("oci" if is_layout else "dir")
    if transport == "oci":
        return layout.LayoutSource(Directory(path), location.image)
    if transport == "dir":
        from pinnace.sources import directory, rootfs

        noted: set[str] = set()

        def once(text: str) -> None:  # the tree is read twice
            if text not in noted:
                noted.add(text)
                note(text)

        return rootfs.RootSource(lambda: directory.pieces(path, once))
    raise ImageError(f"{path} is a directory", hint=f"{transport}: takes a file", identifier="not-an-archive")


def _sniff(file: File) -> str:
    """The transport for a file whose kind was not said, by its first bytes and its first member's name."""
    if os.pread(file.descriptor, len(_SQUASHFS), 0) == _SQUASHFS:
        return "sqsh"
    try:
        for entry in tar.entries(ByteStream(file.plain()), file.name):
            top = entry.path.lstrip(b"./").partition(b"/")[0]
            if not top:
                continue
            if top in (b"blobs", b"oci-layout"):
                break
            stem = top.partition(b".")[0]
            hashed = len(stem) == 64 and _HEX.issuperset(stem)
            return "docker-archive" if hashed or top in _IMAGE_FILES else "tar"
    except ImageError:
        pass
    else:
        from pinnace.sources import docker_archive

        return "docker-archive" if docker_archive.MANIFEST in Archive(file) else "oci-archive"
    raise ImageError(
        f"{file.name} is neither a tar archive nor a squashfs file",
        hint="give an archive of skopeo, docker or podman, a root file system, or a .sqsh",
        identifier="not-an-archive",
    )


def _stdin(spool: str) -> File:
    """Standard input as a file that has no name, and so goes with this process."""
    import tempfile

    if sys.stdin is None or sys.stdin.isatty():
        raise ImageError("standard input is a terminal", hint="pipe an archive into the command")
    stream: BinaryIO = sys.stdin.buffer
    kept: Any = None
    try:
        os.makedirs(spool, mode=0o700, exist_ok=True)
        kept = tempfile.TemporaryFile(dir=spool, buffering=0)
        while piece := stream.read(1 << 20):
            kept.write(piece)
    except OSError as error:
        raise storage_error(os.path.join(spool, "stdin"), error) from None
    return File(os.dup(kept.fileno()), "standard input")

"""Images as plain directories, for machines without FUSE (docs/architecture.md). On the launch path.

    unpacked/<digits>-<user ID>/root            the tree
    unpacked/<digits>-<user ID>/record.json     what it is of; its time of access is that of the last use

The digits are those of the image's manifest digest, or stand for a squashfs file of the user's as it is
now. A tree belongs to the user who has it made, or overlayfs could not change its files: so it lies in
his own store, whatever store the image is in. It appears and goes with one rename. A start holds the
record by a shared flock(2), see ``leases``.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from pinnace import digest as digests
from pinnace.errors import ImageError
from pinnace.store import identity, leases
from pinnace.store.images import Image
from pinnace.store.leases import Lease
from pinnace.store.store import Store

DIRECTORY = "unpacked"
ROOT = "root"
RECORD = "record.json"


class Source(NamedTuple):
    """What a tree is made from: the squashfs file at ``path``, called ``name`` in the store.

    ``label`` is for people. ``digest`` is that of an image of a store, empty for a file of the user's.
    """

    path: str
    name: str
    label: str
    digest: str = ""

    @classmethod
    def of_image(cls, image: Image) -> Source:
        """The file of an image that is in a store."""
        return cls(image.path, digests.hex_of(image.digest), image.reference, image.digest)

    @classmethod
    def of_file(cls, path: str) -> Source:
        """A squashfs file as it is now. Raises ImageError."""
        path = os.path.realpath(path)
        try:
            return cls(path, identity.of(path, os.stat(path)), path)
        except OSError as error:
            raise ImageError(f"cannot read {path}: {error.strerror}") from None


def place(store: Store, source: Source) -> str:
    """The directory for the user's tree of ``source``."""
    return os.path.join(store.root, DIRECTORY, f"{source.name}-{os.geteuid()}")


def take(store: Store, source: Source, lease: Lease) -> str | None:
    """The tree of ``source`` if the store has it, held by ``lease`` from now on."""
    directory = place(store, source)
    root, record = os.path.join(directory, ROOT), os.path.join(directory, RECORD)
    # In a store that others may write to somebody else's could lie here.
    if not all(map(_is_own, (directory, root, record))):
        return None
    store.basis.place(root)
    held = lease.take_file(record, root, leases.job_leases(store.root, source.name))
    return root if held else None


def _is_own(path: str) -> bool:
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return status.st_uid == os.geteuid() and not stat.S_ISLNK(status.st_mode)

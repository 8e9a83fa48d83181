"""Copies of squashfs files on the node (docs/architecture.md), so that a thousand containers do not read from
one server at random. On the launch path.

    NODE_STORE/pinnace-<user ID>/<digits>.sqsh    a copy; its time of access is that of the last use
    NODE_STORE/pinnace-<user ID>/<digits>.json    what it is of, and its SHA-256; with it the copy is complete
    NODE_STORE/pinnace-<user ID>/<digits>.part    a copy that is being made
    NODE_STORE/pinnace-<user ID>/locks/

A start holds its copy by a shared flock(2), see ``leases``.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from pinnace import filesystems
from pinnace.basis import Basis
from pinnace.config import Settings
from pinnace.store import identity
from pinnace.store.leases import Lease

ALWAYS, NEVER = "always", "never"


class Wanted(NamedTuple):
    """A copy of the file at ``source`` of ``size`` bytes on the file system ``device``, called ``name``.

    ``directory`` is the user's own on the node. ``leased``: the file is a store's.
    """

    source: str
    size: int
    device: int
    name: str
    directory: str
    leased: bool

    @property
    def path(self) -> str:
        return os.path.join(self.directory, f"{self.name}.sqsh")

    @property
    def record(self) -> str:
        return os.path.join(self.directory, f"{self.name}.json")


def wanted(path: str, settings: Settings, *, leased: bool) -> Wanted | None:
    """The copy in ``node_store`` that is to be used instead of the file at ``path``; None: none is.

    ``leased``: the file is a store's.
    """
    when = settings["copy_up"]
    if when == NEVER:
        return None
    path = os.path.realpath(path)
    try:
        status = os.stat(path)
    except OSError:
        return None  # whoever mounts it says what is wrong
    if when != ALWAYS and (
        status.st_size > settings["copy_up_max"] or not filesystems.is_network(status.st_dev)
    ):
        return None
    directory = os.path.join(settings["node_store"], f"pinnace-{os.geteuid()}")
    return Wanted(
        path, status.st_size, status.st_dev, identity.of(path, status, leased=leased), directory, leased
    )


def take(copy: Wanted, lease: Lease, basis: Basis, jobs: str = "") -> str | None:
    """The path of the copy if it is there, held by ``lease`` from now on; for ``jobs`` see there."""
    if not is_private(copy.directory):
        return None
    try:
        status = os.lstat(copy.path)
    except OSError:
        return None
    own = status.st_uid == os.geteuid() and stat.S_ISREG(status.st_mode)
    if not own or status.st_size != copy.size:
        return None
    basis.place(copy.directory)
    basis.image(copy.path)
    return copy.path if lease.take_file(copy.path, copy.record, jobs) else None


def is_private(directory: str) -> bool:
    """Whether a directory is the user's, and nobody else can write to it: others may to the one above it."""
    try:
        status = os.lstat(directory)
    except OSError:
        return False
    writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not writable

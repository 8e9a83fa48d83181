"""A store for people: its images with what each takes, and the totals."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from pinnace.store import leases
from pinnace.store.directories import IMAGES, LAYERS, UNPACKED, Opened, is_store
from pinnace.store.inventory import Inventory, account
from pinnace.store.store import Store
from pinnace.store.trees import alone, stored_trees
from pinnace.store.usage import Account, Usage


@dataclass(frozen=True)
class Entry:
    """An image. ``size`` is its file's; ``own`` would become free without it, ``shared`` would not.

    ``unpacked`` is what its tree takes, if it has one. ``used_at`` is the time of its last use; ``jobs`` are
    those that have left a lease and may have ended.
    """

    digest: str
    references: list[str]
    platform: str
    size: int
    own: int
    shared: int
    unpacked: int
    created_at: float
    used_at: float
    in_use: bool
    jobs: list[int]
    pinned: bool
    pinned_by: str
    path: str


@dataclass(frozen=True)
class Total:
    """A part of a store: its files, the bytes of their ``size``, ``allocated`` to each, ``taken`` by all."""

    files: int
    size: int
    allocated: int
    taken: int


def entries(store: Store) -> list[Entry]:
    """Every complete image, the one last used first. Raises StoreError if ``store`` is none."""
    if not is_store(store.root):
        return []
    with Opened(store) as opened:
        inventory = Inventory(opened)
        users = inventory.layer_users()
        taken = account(opened)
        jobs: dict[str, list[int]] = {}
        for name in opened.files(leases.DIRECTORY):
            lease = leases.parsed(name)
            if lease is not None:
                jobs.setdefault(lease[0], []).append(lease[1])
        found = []
        for image in inventory.images.values():
            if image.image is None or image.file is None:
                continue
            own = taken.without(inventory.files(image, users))
            layers = [inventory.layers[name] for name in image.layers if name in inventory.layers]
            with opened.alone(IMAGES, f"{image.name}.sqsh") as free:
                in_use = not free
            trees = [tree for tree in inventory.trees.values() if tree.digits == image.name]
            for tree in trees:
                with alone(opened, tree.name) as free:
                    in_use |= not free
            found.append(
                Entry(
                    digest=image.digest,
                    references=sorted(image.references),
                    platform=image.image.platform,
                    size=image.file.size,
                    own=own,
                    shared=max(0, Account([image.file, *layers]).total - own),
                    unpacked=sum(tree.usage.allocated for tree in trees),
                    created_at=image.image.created_at,
                    used_at=max(image.used_at, *(tree.used_at for tree in trees), 0.0),
                    in_use=in_use,
                    jobs=sorted(jobs.get(image.name, [])),
                    pinned=image.pin is not None,
                    pinned_by=image.pin.user if image.pin else "",
                    path=store.image_path(image.digest),
                )
            )
    return sorted(found, key=lambda entry: -entry.used_at)


def totals(store: Store) -> dict[str, Total]:
    """What images, layers, trees, unfinished work and the rest take, and the whole; a tree is one file here.

    Raises as ``entries`` does.
    """
    names = {IMAGES: "images", LAYERS: "layers", UNPACKED: "unpacked", "tmp": "unfinished"}
    parts: dict[str, list[Usage]] = {name: [] for name in (*names.values(), "other", "total")}
    if is_store(store.root):
        with Opened(store) as opened:
            trees = ((UNPACKED, tree.usage) for tree in stored_trees(opened))
            for part, file in chain(opened.usages(), trees):
                parts[names.get(part, "other")].append(file)
                parts["total"].append(file)
    return {name: _total(files) for name, files in parts.items()}


def _total(files: list[Usage]) -> Total:
    distinct = {file.inode: file for file in files}.values()
    return Total(
        len(files),
        sum(file.size for file in files),
        sum(file.allocated for file in distinct),
        Account(files).total,
    )

"""Garbage collection: what is removed from a store, and in which order (docs/architecture.md).

One process collects at a time. Each removal takes the image's or layer's lock, as whoever makes one
does, and locks the file, which whoever uses it holds; it is decided anew under these locks. Of an
image the record goes first: it is not there any more from then on. A collection that dies at any
moment leaves files that no record or image leads to, and the next one removes those.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pinnace import digest as digests
from pinnace import locks
from pinnace.config import Settings
from pinnace.errors import PinnaceError, StoreError
from pinnace.store import leases, pins, trees
from pinnace.store.build import remove_abandoned
from pinnace.store.directories import IMAGES, LAYERS, Opened, is_store
from pinnace.store.inventory import Inventory, Stored, account, image_names, stored
from pinnace.store.retention import Jobs, Policy, Queue, Removed, Report
from pinnace.store.store import Catalogue, Store
from pinnace.store.trees import StoredTree


def collect(
    store: Store, policy: Policy, jobs: Jobs | None, known: Catalogue | None = None, *, dry_run: bool = False
) -> Report:
    """Remove what ``policy`` says and nothing uses. With ``dry_run`` only tell what would be removed.

    ``jobs`` asks Slurm; without it leases of jobs count until they are too old. ``known`` has the
    images that references may lead to, if that is more than ``store``. Raises StoreError if ``store``
    is none, belongs to another user than root is acting for, or cannot be written to.
    """
    if not is_store(store.root):
        return Report(quota=policy.quota)
    if os.geteuid() == 0 and os.stat(store.root).st_uid != 0:
        raise StoreError(
            f"{store.root} belongs to another user",
            hint="run it as the store's owner; root would be led wherever he likes",
            identifier="store-owner",
        )
    with Opened(store) as opened:
        if dry_run:
            return _Collection(store, opened, policy, jobs, known or store, dry=True).run()
        try:
            for part in ("locks", "tmp"):
                os.makedirs(os.path.join(store.root, part), exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot write to {store.root}: {error.strerror}", hint="run it as the store's owner"
            ) from None
        with _free(os.path.join(store.root, "locks", "collection")) as free:
            if not free:
                return Report(quota=policy.quota, busy=True)
            with locks.held(os.path.join(store.root, "locks", "tmp")):
                remove_abandoned(store.root)
            return _Collection(store, opened, policy, jobs, known or store).run()


def keep_quota(store: Store, settings: Settings, jobs: Jobs | None, known: Catalogue) -> Report | None:
    """What a pull does at its end: collect if the store has become larger than its quota.

    Whatever goes wrong is not the pull's. None: nothing had to be done, or could be.
    """
    with suppress(PinnaceError, OSError):
        with Opened(store) as opened:
            taken = account(opened).total
        if taken > settings["gc_quota"]:
            return collect(store, Policy.of(settings), jobs, known)
    return None


class _Collection:
    def __init__(
        self,
        store: Store,
        opened: Opened,
        policy: Policy,
        jobs: Jobs | None,
        known: Catalogue,
        *,
        dry: bool = False,
    ) -> None:
        self._store = store
        self._opened = opened
        self._policy = policy
        self._jobs = jobs
        self._known = known
        self._dry = dry
        #: Leases of jobs that have ended, with the time when each was left.
        self._ended_leases: dict[str, float] = {}
        #: The layers of each image that has a record.
        self._records: dict[str, tuple[str, ...]] = {}
        self._report = Report(quota=policy.quota)

    def run(self) -> Report:
        self._ended_leases = self._found_ended()
        self._inventory = Inventory(self._opened)
        self._users = self._inventory.layer_users()
        self._account = account(self._opened)
        self._report.before = self._account.total
        self._remove_layers()
        self._remove_trees()
        self._remove_images()
        self._remove_layers()
        self._remove_layer_records()
        self._remove_orphaned_trees()
        if self._known.is_whole():
            self._remove_references()
        self._remove_leases()
        # What was freed is what others do not use either, so it is looked at, not reckoned.
        if self._dry:
            self._report.after = self._account.total
        else:
            self._report.after = account(self._opened).total
        return self._report

    # Trees

    def _remove_trees(self) -> None:
        """Before images: they can be made again without a registry."""
        now = time.time()
        by_age = sorted(self._inventory.trees.values(), key=lambda tree: tree.used_at)
        for tree in by_age:
            too_old = self._policy.max_age is not None and now - tree.used_at >= self._policy.max_age
            if too_old or tree.is_outdated():
                self._remove_tree(tree)
        if self._policy.quota is None or self._account.total <= self._policy.quota:
            return
        for tree in by_age:
            if self._account.total <= self._policy.low_water:
                break
            if tree.name in self._inventory.trees:
                self._remove_tree(tree)

    def _remove_orphaned_trees(self) -> None:
        if self._known.is_whole():
            for tree in list(self._inventory.trees.values()):
                if tree.digest and not self._leads_somewhere(tree.digest):
                    self._remove_tree(tree)

    def _remove_tree(self, tree: StoredTree) -> None:
        with self._removable("tree", digests.PREFIX + tree.digits) as free:
            if not free or self._job_with(tree.digits) is not None:
                return
            with trees.alone(self._opened, tree.name) as alone:
                # It was used in the meantime, or made anew.
                if not alone or trees.stored_tree(self._opened, tree.name) != tree:
                    return
                if not self._dry:
                    trees.remove(self._opened, self._store.root, tree.name)
        self._account.remove([tree.usage])
        del self._inventory.trees[tree.name]
        self._report.trees += 1

    # Images

    def _remove_images(self) -> None:
        now = time.time()
        usable = []
        for image in list(self._inventory.images.values()):
            if image.image is not None:
                usable.append(image)
            elif not image.foreign:
                self._remove_image(image, "damaged", now)
        last = {image.name: self._last_use(image) for image in usable}
        usable.sort(key=lambda image: last[image.name])
        for image in usable:
            if self._policy.max_age is not None and now - last[image.name] >= self._policy.max_age:
                self._remove_image(image, "age", now)
            elif self._policy.unreachable and not image.references:
                self._remove_image(image, "unreachable", now)
        if self._policy.quota is None or self._account.total <= self._policy.quota:
            return
        for image in usable:
            if self._account.total <= self._policy.low_water:
                break
            if image.name in self._inventory.images and image.digest not in self._report.kept:
                self._remove_image(image, "quota", now)

    def _last_use(self, image: Stored) -> float:
        """Of the image or of its tree, which holds nothing of the image while it is used."""
        uses = (tree.used_at for tree in self._inventory.trees.values() if tree.digits == image.name)
        return max(image.used_at, *uses, 0.0)

    def _remove_image(self, image: Stored, reason: str, now: float) -> None:
        with self._removable("image", image.digest) as free:
            why = self._use(image) if free else "being made"
            if why is None and not self._dry:
                why = self._unlink_image(image, reason)
        if why is not None:
            if image.image is not None:
                self._report.kept[image.digest] = why
            return
        freed = self._account.remove(self._inventory.files(image, self._users))
        for layer in image.layers:
            self._users[layer].discard(image.name)
            if not self._users[layer]:
                del self._users[layer]
        del self._inventory.images[image.name]
        self._records.pop(image.name, None)
        idle = max(0.0, now - self._last_use(image))
        removed = Removed(image.digest, image.references, reason, idle, freed)
        if image.file is not None or image.image is not None:
            self._report.images.append(removed)

    def _use(self, image: Stored) -> str | None:
        """Why the image cannot go, if so."""
        if pins.is_pinned(self._store, image.digest):
            return "pinned"
        job = self._job_with(image.name)
        if job is not None:
            return f"job {job}"
        for tree in self._inventory.trees.values():
            if tree.digits == image.name:
                with trees.alone(self._opened, tree.name) as alone:
                    if not alone:
                        return "in use"
        if self._dry:
            with self._opened.alone(IMAGES, f"{image.name}.sqsh") as alone:
                return None if alone else "in use"
        return None

    def _job_with(self, digits: str) -> int | None:
        """A job that has left a lease of an image, or of a tree, and has not ended."""
        for lease in self._opened.files(leases.DIRECTORY):
            parsed = leases.parsed(lease)
            if parsed and parsed[0] == digits and not self._is_over(lease):
                return parsed[1]
        return None

    def _unlink_image(self, image: Stored, reason: str) -> str | None:
        """Remove an image whose lock is held; gives why it cannot be removed, if so."""
        with self._opened.alone(IMAGES, f"{image.name}.sqsh") as alone:
            current = stored(self._opened, image.name) if alone else image
            # It was used in the meantime, or made anew.
            changed = (current.image, current.used_at) != (image.image, image.used_at)
            # A lease of a job was left while the file was held, so it is there by now.
            if not alone or changed or self._use(image) is not None:
                return "in use"
            if reason == "unreachable" and self._is_named(image):
                return "named"
            self._opened.remove(IMAGES, f"{image.name}.json")
            self._opened.remove(IMAGES, f"{image.name}.sqsh")
            return None

    def _is_named(self, image: Stored) -> bool:
        """Whether a reference leads to the image by now: a pull records it last of all."""
        return any(resolution.digest == image.digest for _, resolution in self._opened.resolutions())

    # Layers

    def _remove_layers(self) -> None:
        for name in [name for name in self._inventory.layers if name not in self._users]:
            with self._removable("layer", digests.PREFIX + name) as free:
                if free and self._unlink_layer(name):
                    file = self._inventory.layers.pop(name)
                    self._report.layers += 1
                    if self._account.has(file):
                        self._account.remove([file])

    def _remove_layer_records(self) -> None:
        """Remove what is left of layers whose making ended before there was a file."""
        names = [name for name in self._opened.files(LAYERS) if name.endswith(".json")]
        for name in names:
            layer = name[: -len(".json")]
            if digests.is_hex(layer) and layer not in self._inventory.layers and not self._dry:
                with self._removable("layer", digests.PREFIX + layer) as free:
                    if free and self._opened.look(LAYERS, f"{layer}.sqsh") is None:
                        self._opened.remove(LAYERS, name)

    def _unlink_layer(self, name: str) -> bool:
        with self._opened.alone(LAYERS, f"{name}.sqsh") as alone:
            # A pull holds its layers until the image's record is there: who is alone sees the record.
            if not alone or (not self._dry and self._is_needed(name)):
                return False
            if not self._dry:
                self._opened.remove(LAYERS, f"{name}.sqsh")
                self._opened.remove(LAYERS, f"{name}.json")
            return True

    def _is_needed(self, layer: str) -> bool:
        """Whether an image has the layer by now."""
        for name in image_names(self._opened):
            if name not in self._records:
                image = stored(self._opened, name)
                if image.layers:
                    self._records[name] = image.layers
        return any(layer in layers for layers in self._records.values())

    # References and leases

    def _remove_references(self) -> None:
        for path, resolution in list(self._opened.resolutions()):
            if self._leads_somewhere(resolution.digest):
                continue
            if not self._dry:
                with locks.held(self._store.references_lock):
                    # Written anew in the meantime, it may lead to an image that is new as well.
                    current = self._opened.resolution(path)
                    if current is None or self._leads_somewhere(current.digest):
                        continue
                    self._opened.remove_resolution(path)
            self._report.references.append(resolution.reference)

    def _leads_somewhere(self, digest: str) -> bool:
        gone = self._dry and any(image.digest == digest for image in self._report.images)
        return not gone and self._known.image(digest) is not None

    def _found_ended(self) -> dict[str, float]:
        """The leases of jobs that have ended, and when they were left."""
        # Slurm is asked after they were listed: a job that has left one was in the queue by then.
        found = [name for name in self._opened.files(leases.DIRECTORY) if leases.parsed(name)]
        queue = self._jobs() if found and self._jobs else None
        looks = ((name, self._opened.look(leases.DIRECTORY, name)) for name in found)
        return {
            name: look[1].st_mtime for name, look in looks if look and self._has_ended(name, look[1], queue)
        }

    def _has_ended(self, lease: str, status: os.stat_result, queue: Queue | None) -> bool:
        parsed = leases.parsed(lease)
        if parsed is None:
            return False
        _, job, cluster = parsed
        shown = queue is not None and (queue.complete or status.st_uid == os.geteuid())
        if queue is not None and queue.cluster == cluster and shown:
            return job not in queue.jobs
        # One that is to come was left by a wrong clock, or by somebody who wants the image kept for ever.
        return not -leases.SKEW <= time.time() - status.st_mtime < self._policy.job_lease

    def _is_over(self, lease: str) -> bool:
        """Whether a lease is one of those, and no further step has renewed it."""
        look = self._opened.look(leases.DIRECTORY, lease)
        return look is None or self._ended_leases.get(lease) == look[1].st_mtime

    def _remove_leases(self) -> None:
        for name in filter(self._is_over, self._ended_leases):
            if self._dry or self._opened.remove(leases.DIRECTORY, name):
                self._report.job_leases += 1

    @contextmanager
    def _removable(self, kind: str, digest: str) -> Iterator[bool]:
        if self._dry:
            yield True
            return
        with _free(self._store.lock_path(kind, digest)) as free:
            yield free


@contextmanager
def _free(path: str) -> Iterator[bool]:
    """Hold the lock at ``path`` unless somebody else does; its file is gone afterwards."""
    with locks.held_if_free(path) as free:
        try:
            yield free
        finally:
            if free:
                with suppress(OSError):
                    os.unlink(path)

"""A user's own store, and further ones that are only read: a site's, a node's.

Loaded if ``additional_stores`` is set alone. What is wrong with one of them is told once and never
keeps a container from starting: the next one is looked at, and in the end the registry.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from pinnace import squashfs
from pinnace.errors import ImageError, StoreError, one_line
from pinnace.reference import Reference
from pinnace.store.images import BUILD_FORMAT, Image, Resolution
from pinnace.store.store import Catalogue, Removal, Store

TYPE_CHECKING = False  # typing itself costs milliseconds of every start
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from pinnace.layers import Format

#: Directories of a store in which a stranger's file would be taken for the store's.
_DIRECTORIES = ("", "images", "images/sha256", "layers", "layers/sha256", "references")


class StackedStore(Catalogue):
    """The store ``own`` and those at ``additional``, in their order; ``own`` alone is written to.

    ``warn`` takes what is wrong with an additional store: one line for each, on standard error by default.
    """

    def __init__(
        self, own: Store, additional: Sequence[str], warn: Callable[[str], None] | None = None
    ) -> None:
        self._own = own
        self.root = own.root
        self._basis = own.basis
        others = (Store(root, own.basis) for root in additional)
        self._others = [other for other in others if other.root != own.root]
        self._warn = warn or _say
        self._checked: dict[str, bool] = {}
        self._told: set[str] = set()

    @property
    def own(self) -> Store:
        """The store that is written to."""
        return self._own

    # Launch path

    def resolution(self, reference: Reference, platform: str) -> Resolution | None:
        """The newest of what ``reference`` means in the stores."""
        found = [self.own.resolution(reference, platform)]
        for other in self._others:
            path = other.resolution_path(reference, platform)
            self._basis.file(path)
            # Most stores do not know most tags, and so it is told at the price of one call.
            if os.path.exists(path) and self._may_use(other) and self._may_read(other, path):
                with self._forgiving(other):
                    found.append(other.resolution(reference, platform))
        now = time.time()
        # One from the future, by another machine's clock, would win for ever.
        known = [one for one in found if one is not None]
        return max(known, key=lambda one: (one.time <= now, one.time), default=None)

    def image(self, digest: str) -> Image | None:
        """The complete image with this manifest digest, from the first store that has it."""
        image = self.own.image(digest)
        if image is not None:
            return image
        for other in filter(self._may_use, self._others):
            with self._forgiving(other):
                image = other.image(digest)
                if image is not None and self._may_read(other, image.path):
                    squashfs.check(image.path)
                    return image
        return None

    # Pulls and listings

    def layer_file(self, diff_id: str, form: Format, held: ExitStack) -> str | None:
        """The file of a layer in an additional store that is written as ``form`` says.

        Until ``held`` ends a shared lock keeps off whoever removes layers there.
        """
        for other in filter(self._may_use, self._others):
            with self._forgiving(other):
                layer, path = other.layer(diff_id), other.layer_path(diff_id)
                if layer is None or not os.path.exists(path) or not self._may_read(other, path):
                    continue
                written = (layer.format, layer.compressor, layer.block_size)
                if written != (BUILD_FORMAT, form.compressor, form.block_size):
                    made = f"compressor = {layer.compressor}, block_size = {layer.block_size}"
                    self._tell(other, f"its layers are not used, they were made with {made}")
                elif squashfs.check(path) and _hold(path, layer.size, held):
                    return path
        return None

    def stores(self) -> list[Store]:
        """The stores that are looked at, in order."""
        return [self.own, *filter(self._may_use, self._others)]

    def is_whole(self) -> bool:
        """Whether all stores can be looked at: one that is not mounted has nothing."""
        return all(map(self._may_use, self._others)) and not self._told

    def has_layer(self, diff_id: str) -> bool:
        """Whether any of the stores has the layer's file."""
        return any(os.path.exists(store.layer_path(diff_id)) for store in (self.own, *self._others))

    def resolutions(self) -> Iterator[Resolution]:
        """Every recorded reference of every store: one that several know comes several times."""
        yield from self.own.resolutions()
        for other in filter(self._may_use, self._others):
            with self._forgiving(other):
                yield from other.resolutions()

    def listing(self) -> list[tuple[str, Image]]:
        """Every complete image under each of its names, one store after the other."""
        found = self.own.listing()
        for other in filter(self._may_use, self._others):
            with self._forgiving(other):
                found += other.listing()
        return found

    def remove(self, reference: Reference) -> Removal:
        """Remove ``reference`` from ``own``. Raises StoreError, also if it is in another store alone."""
        try:
            return self.own.remove(reference)
        except StoreError as error:
            for other in filter(self._may_use, self._others):
                if error.identifier == "not-in-store" and other.named(reference):
                    error.hint = f"it is in {other.root}, which is only read"
            raise

    # What may be used

    def _may_use(self, other: Store) -> bool:
        if other.root not in self._checked:
            for directory in _DIRECTORIES:
                self._basis.place(os.path.join(other.root, directory))
            problem = unusable(other.root)
            if problem:
                self._tell(other, f"it is not used: {problem}")
            self._checked[other.root] = not problem
        return self._checked[other.root]

    def _may_read(self, other: Store, path: str) -> bool:
        problem = _problem(path)
        if problem:
            self._tell(other, problem)
        return not problem

    @contextmanager
    def _forgiving(self, other: Store) -> Iterator[None]:
        try:
            yield
        except (StoreError, ImageError, OSError) as error:
            self._tell(other, str(error))

    def _tell(self, other: Store, text: str) -> None:
        if other.root not in self._told:
            self._basis.refuse("there is something to be told of a store at each start")
            self._told.add(other.root)
            self._warn(f"additional store {other.root}: {text}")


def unusable(root: str) -> str | None:
    """Why the additional store at ``root`` is not used, or None."""
    problems = (_problem(os.path.join(root, directory)) for directory in _DIRECTORIES)
    problem = next(filter(None, problems), None)
    return problem if problem or os.path.isdir(root) else "there is no such directory"


def _problem(path: str) -> str | None:
    """Why a file or directory is not to be relied on; None also if there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"cannot read {path}: {error.strerror}"
    if status.st_mode & stat.S_IWOTH:
        return f"every user may write to {path}"
    needed = os.R_OK | os.X_OK if stat.S_ISDIR(status.st_mode) else os.R_OK
    return None if os.access(path, needed) else f"cannot read {path}: permission denied"


def _hold(path: str, size: int, held: ExitStack) -> bool:
    """Take the shared lock of a layer's file. False: it is being removed, or is not whole."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    held.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks
    status = os.fstat(descriptor)
    return status.st_size == size and os.path.samestat(status, os.stat(path))


def _say(text: str) -> None:
    if sys.stderr is not None:  # None: it is closed
        with suppress(OSError, ValueError):
            sys.stderr.write(f"pinnace: {one_line(text)}\n")

"""Making objects: a private place for what is not finished, and the step into the store."""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from pinnace import __version__, documents, locks, squashfs
from pinnace import digest as digests
from pinnace.errors import PinnaceError, StoreError
from pinnace.layers import Format, assemble
from pinnace.layers.squash import storage_error, sync, sync_file_system
from pinnace.reference import Reference
from pinnace.sources import LayerBlob
from pinnace.store import leases, removal
from pinnace.store.images import BUILD_FORMAT, Image, Layer, Resolution
from pinnace.store.store import Store

_OWNER = "owner.lock"
_PREFIX = "pinnace-"
#: What is ours to remove. A store may be set to a directory that has a ``tmp`` or ``locks`` of other things.
_WORKSPACE = re.compile(r"pinnace-\w+")
_LOCK = re.compile(r"(image|layer|tree)-[0-9a-f]{64}|references|collection")
_BUILDER = f"pinnace {__version__}"
#: Called with a file's future path's temporary name; writes the file there, whole.
Make = Callable[[str], None]


class Workspace:
    """A directory of this process alone below ``tmp/``, where objects are made.

    Everything in the store appears through ``add_layer``, ``add_image`` and ``record``, each of
    which renames a complete, synced file.
    """

    def __init__(self, store: Store, directory: str, form: Format) -> None:
        self._store = store
        self._form = form
        self._directory = directory
        self._count = 0
        #: Locks of what is being made.
        self._locks: set[str] = set()
        #: Descriptors that keep layers in the store, see store.leases.
        self._leases: list[int] = []

    def add_layer(
        self, diff_id: str, make: Make, waiting: Callable[[], None], blob: LayerBlob | None = None
    ) -> str:
        """The layer's squashfs file, made by ``make`` from ``blob`` unless it is there.

        Gives a name for it in this workspace, which holds it even if the store's is removed
        meanwhile. If another process is making it, ``waiting`` is called and its result taken.
        """
        path = self._store.layer_path(diff_id)
        held = self._held(path)
        if held is not None:
            return held
        lock = self._store.lock_path("layer", diff_id)
        with locks.held(lock, waiting=waiting):
            self._locks.add(lock)
            try:
                held = self._held(path)
                if held is None:
                    temporary = self.temporary()
                    make(temporary)
                    self.put_layer(self._described(diff_id, temporary, blob), temporary)
                    held = self._held(path) or path
            finally:
                self._locks.discard(lock)
            return held

    def put_layer(self, layer: Layer, temporary: str) -> None:
        """Take a finished file of this workspace into the store; the caller holds the layer's lock."""
        self._keep(temporary)
        # The file makes the layer complete, so it comes last: there is no layer without its record.
        self._write(self._store.layer_record_path(layer.diff_id), layer.to_json())
        self._publish(temporary, self._store.layer_path(layer.diff_id))

    def _described(self, diff_id: str, temporary: str, blob: LayerBlob | None) -> Layer:
        return Layer(
            diff_id,
            os.stat(temporary).st_size,
            digests.of_file(temporary),
            self._form.compressor,
            self._form.block_size,
            blob.digest if blob else "",
            blob.media_type if blob else "",
            time.time(),
            _BUILDER,
        )

    def add_image(self, image: Image, layers: Sequence[str], form: Format) -> Image:
        """Assemble ``image`` from ``layers`` and record it; the caller holds its lock.

        Gives the image with its path, size and digest.
        """
        temporary = self.temporary()
        try:
            assemble(layers, temporary, form)
        except FileNotFoundError as error:
            raise StoreError(
                f"{error.filename} has just been removed", hint="try again", identifier="not-in-store"
            ) from None
        finished = image._replace(
            size=os.stat(temporary).st_size,
            created_at=time.time(),
            builder=_BUILDER,
        )
        return self.put_image(finished, temporary)

    def put_image(self, image: Image, temporary: str) -> Image:
        """Take a finished file of this workspace into the store; the caller holds the image's lock."""
        path = self._store.image_path(image.digest)
        self._keep(temporary)
        self._publish(temporary, path)
        # The record makes the image complete, so it comes last.
        self._write(self._store.record_path(image.digest), image.to_json())
        return image._replace(path=path)

    def put_tree(self, temporary: str, path: str) -> None:
        """Take a finished directory of this workspace into the store; the caller holds the tree's lock."""
        try:
            sync_file_system(temporary)
        except OSError as error:
            raise storage_error(path, error) from None
        self._publish(temporary, path)

    def take_away(self, path: str) -> None:
        """Have a directory of the store go with this workspace; the caller holds its lock."""
        try:
            os.rename(path, self.temporary())
        except FileNotFoundError:
            pass
        except OSError as error:
            raise storage_error(path, error) from None

    def record(self, reference: Reference, resolution: Resolution) -> None:
        """Note what ``reference`` means now."""
        with locks.held(self._store.references_lock):
            self._write(self._store.resolution_path(reference, resolution.platform), resolution.to_json())

    def put(self, path: str, content: bytes) -> None:
        """Write a small file of the store, or replace it."""
        self._write(path, content)

    def remove(self) -> None:
        """Give up what is not finished; threads that still make something cannot publish it."""
        with suppress(OSError):
            removal.remove(self._directory)
        for lock in self._locks.copy():
            with suppress(OSError):
                os.unlink(lock)
        while self._leases:
            os.close(self._leases.pop())

    def keep(self, digest: str) -> bool:
        """Have an image of the store stay there until this workspace is removed. False: it is not there."""
        image = self._store.image(digest)
        try:
            if image is not None:
                self._keep(image.path)
        except FileNotFoundError:
            return False
        return image is not None

    def layer(self, diff_id: str) -> str | None:
        """A name in this workspace for a layer of the store, if it is there."""
        return self._held(self._store.layer_path(diff_id))

    def _held(self, path: str) -> str | None:
        """A name in this workspace for the file at ``path``, if there is one."""
        own = self.temporary()
        try:
            self._keep(path)
            os.link(path, own)
        except FileNotFoundError:
            return None
        except OSError:  # a file system without links
            return path if os.path.exists(path) else None
        return own

    def _keep(self, path: str) -> None:
        """Let nobody remove the file as one that nothing uses: what leads to it is yet to come."""
        descriptor = leases.hold(path)
        if descriptor is not None:
            self._leases.append(descriptor)

    def temporary(self) -> str:
        """A new path in this workspace."""
        self._count += 1  # next() of a thread-safe counter would do the same: names need only differ
        return os.path.join(self._directory, f"{self._count}-{os.urandom(4).hex()}")

    def _write(self, path: str, content: bytes) -> None:
        temporary = self.temporary()
        try:
            with open(temporary, "wb") as stream:
                stream.write(content)
        except OSError as error:
            raise storage_error(temporary, error) from None
        self._publish(temporary, path)

    def _publish(self, temporary: str, path: str) -> None:
        directory = os.path.dirname(path)
        try:
            sync(temporary)
            os.makedirs(directory, exist_ok=True)
            os.rename(temporary, path)
            sync(directory)
        except OSError as error:
            raise storage_error(path, error) from None


@contextmanager
def workspace(store: Store, form: Format) -> Iterator[Workspace]:
    """A workspace in ``store``, which is made if it is not there; removed at the end.

    What processes that died left below ``tmp/`` is removed first. Raises StoreError if the
    store cannot be written or was made with another format.
    """
    top = os.path.join(store.root, "tmp")
    try:
        store.make()
        for part in (top, os.path.join(store.root, "locks")):
            os.makedirs(part, exist_ok=True)
            if os.path.islink(part):
                raise _no_directory(part)
    except OSError as error:
        raise storage_error(top, error) from None
    # Under this lock a directory and its owner's lock appear together, so that nobody takes
    # a workspace that is being made for one that was left.
    with locks.held(os.path.join(store.root, "locks", "tmp")):
        remove_abandoned(store.root)
        try:
            directory = os.path.join(top, _PREFIX + os.urandom(8).hex())
            os.mkdir(directory, 0o700)
        except OSError as error:
            raise storage_error(os.path.join(top, "x"), error) from None
        owner = locks.held(os.path.join(directory, _OWNER))
        owner.__enter__()
    place = Workspace(store, directory, form)
    try:
        _check_format(place, store, form)
        yield place
    finally:
        place.remove()
        owner.__exit__(None, None, None)


def form_of(store: Store, form: Format) -> Format:
    """How the store is written: as it says, else as its layers are, else as ``form`` says."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        with open(os.path.join(store.root, "store.json"), "rb") as stream:
            found = documents.parse(stream.read())
        return replace(form, compressor=found["compressor"], block_size=found["block_size"])
    directory = os.path.join(store.root, "layers", "sha256")
    with suppress(OSError, StopIteration):
        for name in sorted(os.listdir(directory)):
            with suppress(PinnaceError):
                summary = squashfs.check(os.path.join(directory, name))
                return replace(form, compressor=summary.compressor, block_size=summary.block_size)
    return form


def remove_abandoned(root: str) -> None:
    """Remove workspaces and locks of processes that died; the caller holds the lock ``tmp``.

    Raises StoreError if ``tmp`` or ``locks`` is no directory: no link is followed.
    """
    with _ours(os.path.join(root, "tmp"), _WORKSPACE) as directories:
        for directory in filter(_is_directory, directories):
            with suppress(OSError, StoreError), locks.held_if_free(os.path.join(directory, _OWNER)) as free:
                if free:
                    removal.remove(directory)
    with _ours(os.path.join(root, "locks"), _LOCK) as files:
        for lock in files:
            with suppress(OSError, StoreError), locks.held_if_free(lock) as free:
                if free:
                    os.unlink(lock)


def is_workspace(name: str) -> bool:
    """Whether a directory of this name below ``tmp/`` is a workspace."""
    return _WORKSPACE.fullmatch(name) is not None


@contextmanager
def _ours(directory: str, names: re.Pattern[str]) -> Iterator[list[str]]:
    """Paths of what is so called in ``directory``, which lead there whatever is put in its place."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(directory, flags)
    except NotADirectoryError:
        raise _no_directory(directory) from None
    except OSError as error:
        raise StoreError(f"cannot read {directory}: {error.strerror}") from None
    try:
        found = [name for name in os.listdir(descriptor) if names.fullmatch(name)]
        yield [f"/proc/self/fd/{descriptor}/{name}" for name in found]
    finally:
        os.close(descriptor)


def _no_directory(path: str) -> StoreError:
    return StoreError(f"{path} is no directory", hint="nothing was touched", identifier="not-a-store")


def _is_directory(path: str) -> bool:
    with suppress(OSError):
        return stat.S_ISDIR(os.lstat(path).st_mode)
    return False


def _check_format(place: Workspace, store: Store, form: Format) -> None:
    """One store holds one format: layers of different block sizes cannot be put together."""
    path = os.path.join(store.root, "store.json")
    wanted = {"format": BUILD_FORMAT, "compressor": form.compressor, "block_size": form.block_size}
    try:
        with open(path, "rb") as stream:
            found = documents.parse(stream.read())
    except FileNotFoundError:
        place._write(path, json.dumps(wanted, indent=1).encode())
        return
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {path}: {error}", hint="remove the store, or use another") from None
    if found != wanted:
        settings = found.items() if isinstance(found, dict) else ()
        raise StoreError(
            f"the store {store.root} was made with other settings",
            context=", ".join(f"{key} = {value}" for key, value in settings) or None,
            hint="set them so again, or set `store` to another directory",
            identifier="store-format",
        )

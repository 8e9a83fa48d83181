"""Whether what lies in a store is what its records say.

Nothing is locked and nothing written: an object that a pull makes, or a removal takes away, while it
is looked at is looked at again, and is no finding.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from pinnace import digest as digests
from pinnace import documents, squashfs
from pinnace.errors import PinnaceError
from pinnace.layers import Format, digest_of
from pinnace.squashfs import format as layout
from pinnace.squashfs.reader import SquashFile
from pinnace.store.build import is_workspace
from pinnace.store.directories import UNPACKED
from pinnace.store.images import BUILD_FORMAT, Image, Layer, Resolution
from pinnace.store.store import Catalogue, Store, names_in
from pinnace.store.trees import is_name
from pinnace.store.unpacked import RECORD

STORE, IMAGE, LAYER, REFERENCE, LEFTOVER = "store", "image", "layer", "reference", "leftover"
#: Files that are read at the same time: disks and processors have more to do.
_READERS = 4
#: Seconds after which a directory without an owner is what somebody left.
_SETTLED = 60.0
_UNREADABLE = "it cannot be read"


@dataclass(frozen=True)
class Finding:
    """Something that is not as it has to be.

    ``kind`` is one of the words above, ``name`` the digest of an object or the path of a file below the
    store. A finding without ``damage`` harms nobody: what a process left that was killed, or what is
    not there any more and will be fetched when it is wanted.
    """

    kind: str
    name: str
    problem: str
    damage: bool = True


def verify(
    known: Catalogue, images: Sequence[Image] | None = None, *, quick: bool = False
) -> Iterator[Finding]:
    """What is wrong with the store that ``known`` writes to; with ``images``: with those and their layers.

    ``quick`` leaves out what reads whole files: their SHA-256 and their trees.
    """
    store = known.own
    if images is None:
        yield from store_description(store)
        layers, digest_list = _complete(store, "layers"), _stems(store, "images", ".json")
    else:
        digest_list = [image.digest for image in images]
        layers = sorted({layer for image in images for layer in image.layers if store.has_layer(layer)})
    readers = ThreadPoolExecutor(_READERS)
    try:
        sound = set(layers)
        for layer, problem in zip(layers, readers.map(lambda layer: _layer(store, layer, quick), layers)):
            if problem:
                sound.discard(layer)
                yield Finding(LAYER, layer, problem)
        for findings in readers.map(lambda digest: list(_image(known, digest, sound, quick)), digest_list):
            yield from findings
    finally:  # also if nobody wants to know any more
        readers.shutdown(cancel_futures=True)
    if images is None:
        yield from references(known)
        yield from leftovers(store)


# Objects


def layer_problem(store: Store, diff_id: str, *, quick: bool = False) -> str | None:
    """What is wrong with a layer, or None; also if it is not there."""
    path = store.layer_path(diff_id)
    content = _content(store.layer_record_path(diff_id))
    if not os.path.exists(path):
        return None
    if content is None:  # of a version before there were records
        return _file_problem(path, None, None, quick)
    try:
        layer = Layer.from_json(content)
    except (ValueError, KeyError, TypeError):
        return "its record cannot be read"
    if layer.diff_id != diff_id:
        return "its record is another's"
    return _file_problem(path, layer.size, layer.sha256, quick)


def image_problem(known: Catalogue, digest: str, sound: Container[str], *, quick: bool = False) -> str | None:
    """What is wrong with an image, or None; also if it is not there.

    ``sound`` are those of the store's layers with which nothing is wrong: a file that was spliced has to
    be what its layers give. Where they are not there, or not good, it has to be readable.
    """
    store = known.own
    content = _content(store.record_path(digest))
    if content is None:
        return None
    path = store.image_path(digest)
    try:
        image = Image.from_json(content, path)
    except (ValueError, KeyError, TypeError):
        return "its record cannot be read"
    if image.digest != digest:
        return "its record is another's"
    if image.format != BUILD_FORMAT:
        return None  # another version's; nobody uses it
    if not os.path.exists(path):
        return "its file is missing"
    expected = image.sha256 or None
    if expected is None and image.layers and not quick:
        expected = _spliced_digest(known, image, sound)
    return _file_problem(path, image.size, expected, quick)


def sound_layers(store: Store, image: Image) -> set[str]:
    """Those of an image's layers that are in the store and good."""
    return {layer for layer in image.layers if store.has_layer(layer) and layer_problem(store, layer) is None}


def _spliced_digest(known: Catalogue, image: Image, sound: Container[str]) -> str | None:
    """The digest of what the image's layers give; None if not all are there and good."""
    files = []
    for layer in image.layers:
        place = next((store for store in known.stores() if store.has_layer(layer)), None)
        if place is None:
            return None
        if layer not in sound if place is known.own else layer_problem(place, layer) is not None:
            return None
        files.append(place.layer_path(layer))
    try:
        return digest_of(files, Format())  # the layers say how they are compressed
    except (OSError, PinnaceError):
        return None


def _layer(store: Store, diff_id: str, quick: bool) -> str | None:
    return _twice(lambda: layer_problem(store, diff_id, quick=quick))


def _image(known: Catalogue, digest: str, sound: Container[str], quick: bool) -> Iterator[Finding]:
    problem = _twice(lambda: image_problem(known, digest, sound, quick=quick))
    image = known.own.image(digest)
    if problem:
        yield Finding(IMAGE, digest, problem)
    elif image is not None:
        missing = [layer for layer in image.layers if not known.has_layer(layer)]
        if missing:
            named = ", ".join(map(digests.short, missing))
            yield Finding(IMAGE, digest, f"layers of it are gone: {named}", damage=False)


def _twice(problem: Callable[[], str | None]) -> str | None:
    """A problem that stays: files that are being replaced are not as their record says for a moment."""
    return problem() and problem()


def _file_problem(path: str, size: int | None, sha256: str | None, quick: bool) -> str | None:
    try:
        length = os.stat(path).st_size
        if size is not None and length != size:
            return f"it has {length} of {size} bytes"
        squashfs.check(path)
        if quick:
            return None
        if sha256 is not None and digests.of_file(path) != sha256:
            return "its bytes are not those that were written"
        _read_tree(path)
    except FileNotFoundError:
        return None  # removed meanwhile
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    except PinnaceError as error:
        return error.message
    return None


def _read_tree(path: str) -> None:
    """Read all metadata of a squashfs file. Raises ImageError."""
    with SquashFile(path) as squash:
        todo, seen = [squash.root()], set()
        while todo:
            position = todo.pop()
            if position in seen:
                raise squash.damaged("a directory has two names")
            seen.add(position)
            for _, kind, child in squash.listing(squash.inode(position)):
                if kind == layout.DIRECTORY:
                    todo.append(child)
                else:
                    squash.inode(child)


# What is not an object


def store_description(store: Store) -> Iterator[Finding]:
    """What is wrong with the description of a store that has objects."""
    content = _content(os.path.join(store.root, "store.json"))
    with suppress(ValueError, TypeError):
        if content is not None and {"format", "compressor", "block_size"} <= set(documents.parse(content)):
            return
    if content is not None:
        yield Finding(STORE, "store.json", "it cannot be read")
    elif _complete(store, "layers") or _complete(store, "images"):
        yield Finding(STORE, "store.json", "it is missing")


def references(known: Catalogue) -> Iterator[Finding]:
    """References that lead to no image."""
    store = known.own
    for path in store.resolution_files():
        problem = _twice(lambda path=path: reference_problem(known, path))  # type: ignore[misc]
        if problem:
            # What leads nowhere is what a collection left that was killed: the next pull writes it anew.
            unreadable = problem == _UNREADABLE
            yield Finding(REFERENCE, os.path.relpath(path, store.root), problem, damage=unreadable)


def reference_problem(known: Catalogue, path: str) -> str | None:
    """What is wrong with the resolution at ``path``, or None; also if it is not there."""
    content = _content(path)
    if content is None:
        return None
    try:
        resolution = Resolution.from_json(content)
    except (ValueError, KeyError, TypeError):
        return _UNREADABLE
    if known.image(resolution.digest) is None and known.is_whole():
        return f"{resolution.reference} leads to no image"
    return None


def leftovers(store: Store) -> Iterator[Finding]:
    """What killed processes left: files without their other half, and workspaces."""
    for kind, mine, other, what in (
        ("images", ".sqsh", ".json", "an image without a record"),
        ("layers", ".json", ".sqsh", "a record without a layer"),
    ):
        for digest in _stems(store, kind, mine):
            path = os.path.join(store.root, kind, "sha256", digests.hex_of(digest))
            # While an object is made one of its halves is there before the other.
            made = _is_locked(store.lock_path(kind[:-1], digest))
            if not made and not os.path.exists(path + other) and os.path.exists(path + mine):
                yield Finding(LEFTOVER, os.path.relpath(path + mine, store.root), what, damage=False)
    trees = os.path.join(store.root, UNPACKED)
    for name in filter(is_name, names_in(trees)):
        tree = os.path.join(trees, name)
        if (
            os.path.isdir(tree)
            and os.access(tree, os.X_OK)
            and not os.path.exists(os.path.join(tree, RECORD))
        ):
            yield Finding(LEFTOVER, f"{UNPACKED}/{name}", "a tree without a record", damage=False)
    top = os.path.join(store.root, "tmp")
    for name in filter(is_workspace, names_in(top)):
        directory = os.path.join(top, name)
        if not _is_locked(os.path.join(directory, "owner.lock")) and _is_old(directory):
            yield Finding(LEFTOVER, f"tmp/{name}", "an unfinished pull's", damage=False)


def _is_old(directory: str) -> bool:
    """Whether nothing came or went for a while: a workspace appears before its lock, and goes after it."""
    with suppress(OSError):
        return time.time() - os.stat(directory).st_mtime > _SETTLED
    return False


def _is_locked(path: str) -> bool:
    """Whether somebody holds a lock file; without writing, so that a store may be another's."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False


def _stems(store: Store, kind: str, suffix: str) -> list[str]:
    """Digests by the names of files."""
    stems = (
        name[: -len(suffix)]
        for name in names_in(os.path.join(store.root, kind, "sha256"))
        if name.endswith(suffix)
    )
    return [digests.PREFIX + stem for stem in stems if digests.is_hex(stem)]


def _complete(store: Store, kind: str) -> list[str]:
    return _stems(store, kind, ".sqsh")


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return b""

"""Finding, recording and removing images."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

from pinnace import digest as digests
from pinnace.basis import Basis
from pinnace.errors import StoreError
from pinnace.reference import Reference, parse
from pinnace.store import leases
from pinnace.store.images import BUILD_FORMAT, Image, Layer, Resolution
from pinnace.tuples import NamedTuple

TYPE_CHECKING = False  # typing itself costs milliseconds of every start
if TYPE_CHECKING:
    from pinnace.layers import Format


class Removal(NamedTuple):
    """What ``Store.remove`` did: whether an image went with its reference, and the bytes that were freed."""

    image: str | None
    freed: int


class Catalogue:
    """What is looked up in one store or several."""

    root: str

    def lookup(self, reference: Reference, platform: str, ttl: float) -> Image | None:
        """The image if it can be used without asking a registry, else None.

        That is: it is complete here, and ``reference`` has a digest, or was imported from a file, or
        its tag was resolved less than ``ttl`` seconds ago.
        """
        resolution = self.resolution(reference, platform)
        if resolution is None:
            if reference.digest is None:
                return None
            image = self.image(reference.digest)
            return image if image is not None and image.platform == platform else None
        expires = reference.digest is None and not resolution.origin and ttl != float("inf")
        # A clock that was set back must not make a tag valid for years.
        if expires and not 0 <= time.time() - resolution.time < ttl:
            return None
        if expires:
            self.own.basis.expires(resolution.time + ttl)
        return self.image(resolution.digest)

    def resolution(self, reference: Reference, platform: str) -> Resolution | None:
        """What ``reference`` meant when it was last resolved for ``platform``."""
        raise NotImplementedError

    def image(self, digest: str) -> Image | None:
        """The complete image with this manifest digest."""
        raise NotImplementedError

    def resolutions(self) -> Iterator[Resolution]:
        """Every recorded reference."""
        raise NotImplementedError

    def listing(self) -> list[tuple[str, Image]]:
        """Every complete image under each of its names, the newest first."""
        raise NotImplementedError

    @property
    def own(self) -> Store:
        """The store that is written to."""
        raise NotImplementedError

    def remove(self, reference: Reference) -> Removal:
        """Remove ``reference`` from ``own``, see ``Store.remove``."""
        raise NotImplementedError

    def stores(self) -> list[Store]:
        """The stores that are looked at, in order."""
        return [self.own]

    def is_whole(self) -> bool:
        """Whether all stores can be looked at: what is missing in them is missing."""
        return True

    def has_layer(self, diff_id: str) -> bool:
        """Whether a layer's file is there."""
        return os.path.exists(self.own.layer_path(diff_id))

    def layer_file(self, diff_id: str, form: Format, held: ExitStack) -> str | None:
        """The file of a layer that another store than ``own`` has, kept there until ``held`` ends."""
        return None


class Store(Catalogue):
    """The image store whose directory is ``root``. Nothing is read or made before it is needed."""

    def __init__(self, root: str, basis: Basis | None = None) -> None:
        """``basis`` takes what is looked at on the launch path."""
        self.root = os.path.abspath(root)
        self.basis = basis or Basis()

    @property
    def own(self) -> Store:
        """The store that is written to: this one."""
        return self

    def make(self) -> None:
        """Make the store's directory if it is not there, for its owner alone: private images lie in it.

        One that others made keeps its mode. Raises OSError.
        """
        os.makedirs(self.root, mode=0o700, exist_ok=True)

    # Where things lie

    def layer_path(self, diff_id: str) -> str:
        return os.path.join(self.root, "layers", "sha256", digests.hex_of(diff_id) + ".sqsh")

    def image_path(self, digest: str) -> str:
        return os.path.join(self.root, "images", "sha256", digests.hex_of(digest) + ".sqsh")

    def record_path(self, digest: str) -> str:
        return os.path.join(self.root, "images", "sha256", digests.hex_of(digest) + ".json")

    def layer_record_path(self, diff_id: str) -> str:
        return os.path.join(self.root, "layers", "sha256", digests.hex_of(diff_id) + ".json")

    def lock_path(self, kind: str, digest: str) -> str:
        return os.path.join(self.root, "locks", f"{kind}-{digests.hex_of(digest)}")

    @property
    def references_lock(self) -> str:
        """Path of the lock under which references are written and removed."""
        return os.path.join(self.root, "locks", "references")

    def _resolutions_of(self, reference: Reference) -> str:
        # "_" cannot start a part of a repository's name, so that tag c of a/b and the
        # repository a/b/c do not meet.
        kind, name = ("_digests", reference.digest) if reference.digest else ("_tags", reference.tag)
        repository = os.path.join(self.root, "references", reference.registry, reference.repository)
        return os.path.join(repository, kind, name or "latest")

    def resolution_path(self, reference: Reference, platform: str) -> str:
        return os.path.join(self._resolutions_of(reference), platform.replace("/", "-") + ".json")

    # Launch path

    def resolution(self, reference: Reference, platform: str) -> Resolution | None:
        """What ``reference`` meant when it was last resolved for ``platform``."""
        path = self.resolution_path(reference, platform)
        self.basis.file(path)
        content = _read(path)
        if content is None:
            return None
        try:
            return Resolution.from_json(content)
        except (ValueError, KeyError, TypeError):
            return None  # written by another version: resolve again

    def image(self, digest: str) -> Image | None:
        """The complete image with this manifest digest."""
        self.basis.file(self.record_path(digest))
        self.basis.image(self.image_path(digest))
        image = self.recorded_image(digest)
        try:
            if (
                image is not None
                and image.format == BUILD_FORMAT
                and os.stat(image.path).st_size == image.size
            ):
                return image
        except OSError:
            pass
        return None

    def recorded_image(self, digest: str) -> Image | None:
        """What is recorded of an image, whatever its file is like."""
        content = _read(self.record_path(digest))
        try:
            image = Image.from_json(content, self.image_path(digest)) if content is not None else None
        except (ValueError, KeyError, TypeError):
            return None
        return image if image is not None and image.digest == digest else None

    def layer(self, diff_id: str) -> Layer | None:
        """What is recorded of the layer with this diff ID; the record comes before the file."""
        content = _read(self.layer_record_path(diff_id))
        try:
            layer = Layer.from_json(content) if content is not None else None
        except (ValueError, KeyError, TypeError):
            return None
        return layer if layer is not None and layer.diff_id == diff_id else None

    # Listing

    def images(self) -> list[Image]:
        """Every complete image, the newest first."""
        directory = os.path.join(self.root, "images", "sha256")
        found = (
            self.image(digests.PREFIX + name[: -len(".json")])
            for name in names_in(directory)
            if name.endswith(".json") and digests.is_hex(name[: -len(".json")])
        )
        return sorted((image for image in found if image), key=lambda image: -image.created_at)

    def listing(self) -> list[tuple[str, Image]]:
        """Every complete image under each of its names, the newest first."""
        names: dict[str, list[str]] = {}
        for resolution in self.resolutions():
            names.setdefault(resolution.digest, []).append(resolution.reference)
        return [
            (name, image)
            for image in self.images()
            for name in names.get(image.digest, [f"{parse(image.reference).name}@{image.digest}"])
        ]

    def resolutions(self) -> Iterator[Resolution]:
        """Every recorded reference, in the order of their paths."""
        for path in self.resolution_files():
            content = _read(path)
            if content is not None:
                with suppress(ValueError, KeyError, TypeError):
                    yield Resolution.from_json(content)

    def resolution_files(self) -> list[str]:
        """The files of all recorded references."""
        return sorted(self._resolution_files(os.path.join(self.root, "references")))

    def _resolution_files(self, directory: str) -> Iterator[str]:
        for base, _, names in os.walk(directory):
            yield from (os.path.join(base, name) for name in names if name.endswith(".json"))

    # Removing

    def remove(self, reference: Reference) -> Removal:
        """Remove ``reference``, the images that only it leads to and the layers that no other uses.

        Containers that run from such an image keep the file until they end. Raises StoreError
        if ``reference`` is not in the store.
        """
        from pinnace import locks

        found = self.named(reference)
        if not found:
            raise StoreError(
                f"{reference} is not in the store",
                context=self.root,
                hint="`pinnace images` lists what is",
                identifier="not-in-store",
            )
        places = os.path.join(self.root, "locks")
        try:
            self.make()
            os.makedirs(places, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make {places}: {error.strerror}") from None
        removed, freed = None, 0
        for path, digest in found:
            with locks.held(self.lock_path("image", digest)):
                if path is not None:
                    with locks.held(self.references_lock):
                        self.remove_resolution(path)
                if path is None or all(other.digest != digest for other in self.resolutions()):
                    removed = digest
                    freed += self._remove_image(digest)
        return Removal(removed, freed)

    def named(self, reference: Reference) -> list[tuple[str | None, str]]:
        """The resolution files of ``reference`` with the image of each; no file: the image itself."""
        found: list[tuple[str | None, str]] = []
        for path in sorted(self._resolution_files(self._resolutions_of(reference))):
            with suppress(ValueError, KeyError, TypeError):
                found.append((path, Resolution.from_json(_read(path) or b"").digest))
        if not found and reference.digest and self.image(reference.digest):
            for path in self.resolution_files():
                with suppress(ValueError, KeyError, TypeError):
                    if Resolution.from_json(_read(path) or b"").digest == reference.digest:
                        found.append((path, reference.digest))
            found.append((None, reference.digest))
        return found

    def _remove_image(self, digest: str) -> int:
        """Remove one image; the caller holds its lock. Gives the bytes that were freed."""
        image = self.image(digest)
        freed = self.remove_image(digest)
        with ExitStack() as stack:
            # A pull in progress holds its layers until the image's record is there, see store.build.
            layers = set(image.layers if image else ())
            free = [one for one in layers if stack.enter_context(leases.alone(self.layer_path(one)))]
            used = {layer for other in self.images() for layer in other.layers}
            for layer in free:
                if layer not in used:
                    freed += self.remove_layer(layer)
        from pinnace.store import trees  # imports what makes them

        return freed + trees.remove_unused(self, digests.hex_of(digest))

    def remove_image(self, digest: str) -> int:
        """Remove an image's record and file, whose lock the caller holds; gives the bytes that were freed."""
        # The record first: without it the image is not there.
        _unlink(self.record_path(digest))
        return _unlink(self.image_path(digest))

    def remove_resolution(self, path: str) -> None:
        """Remove a recorded reference by its file; the caller holds ``references_lock``."""
        _unlink(path)
        self._prune(os.path.dirname(path))

    def remove_layer(self, diff_id: str) -> int:
        """Remove a layer's file, and then its record; gives the bytes that were freed."""
        freed = _unlink(self.layer_path(diff_id))
        _unlink(self.layer_record_path(diff_id))
        return freed

    def _prune(self, directory: str) -> None:
        """Remove the directories that became empty, up to ``references``."""
        top = os.path.join(self.root, "references")
        while directory != top:
            try:
                os.rmdir(directory)
            except OSError:
                return
            directory = os.path.dirname(directory)


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ESTALE:  # removed by another host meanwhile
            return None
        raise StoreError(
            f"cannot read {path}: {error.strerror}", hint="check the store's owner and mode"
        ) from None


def names_in(directory: str) -> list[str]:
    """The names in a directory, sorted; none if it is not there. Raises StoreError."""
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"cannot read {directory}: {error.strerror}") from None


def _unlink(path: str) -> int:
    """Remove a file if it is there; gives its size in bytes."""
    try:
        size = os.stat(path).st_size
        os.unlink(path)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise StoreError(f"cannot remove {path}: {error.strerror}") from None
    return size

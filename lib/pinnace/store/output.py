"""An image's squashfs file written where the user wants it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pinnace import digest as digests
from pinnace.errors import StoreError
from pinnace.layers.squash import sync
from pinnace.reference import Reference
from pinnace.store import leases

_CHUNK = 16 << 20
#: What the names of files begin with that are not finished.
_UNFINISHED = ".pinnace-"


def file_name(reference: Reference) -> str:
    """What enroot calls the file of an image: ``IMAGE+TAG.sqsh``, with ``/`` as ``+``."""
    name = reference.repository.removeprefix("library/").replace("/", "+")
    return f"{name}+{reference.tag or digests.short(reference.digest or '')}.sqsh"


def is_directory(path: str) -> bool:
    """Whether ``path`` is to hold files under names of their own."""
    return path.endswith("/") or os.path.isdir(path)


def target(path: str, reference: Reference) -> str:
    """The file that ``path`` means for the image ``reference``."""
    return os.path.join(path, file_name(reference)) if is_directory(path) else path


def check(path: str, *, force: bool) -> None:
    """Raises StoreError if no file can be written at ``path``: to be known before an image is pulled."""
    if is_directory(path):
        path = os.path.join(path, "")
    elif os.path.lexists(path) and not force:
        raise _exists(path)
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        raise StoreError(
            f"cannot write {path}: there is no directory {directory}", hint="make it", identifier="output"
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise StoreError(f"cannot write {path}: {directory} is not yours to write to", identifier="output")


def write(make: Callable[[str], None], path: str, *, force: bool) -> None:
    """Have ``make`` write a file beside ``path``, which then appears complete or not at all.

    Raises StoreError, and what ``make`` raises.
    """
    try:
        with unfinished(os.path.dirname(os.path.abspath(path))) as temporary:
            make(temporary)
            os.chmod(temporary, 0o666 & ~_umask())
            sync(temporary)
            _publish(temporary, path, force)
            sync(os.path.dirname(temporary))
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror}",
            hint="write elsewhere, or make room",
            identifier="output",
        ) from None


@contextmanager
def unfinished(directory: str) -> Iterator[str]:
    """The path of a new file in ``directory``, which is removed at the end if it is still there.

    What processes that died left there is removed first. Raises OSError.
    """
    _remove_abandoned(directory)
    temporary, descriptor = _held(directory)
    try:
        yield temporary
    finally:
        with suppress(OSError):
            os.unlink(temporary)
        if descriptor is not None:
            os.close(descriptor)


def _held(directory: str) -> tuple[str, int | None]:
    """A new file, and the descriptor that tells others that it is somebody's."""
    import tempfile  # few pulls write a file as well

    while True:
        descriptor, temporary = tempfile.mkstemp(prefix=_UNFINISHED, dir=directory)
        os.close(descriptor)
        with suppress(FileNotFoundError):  # somebody took it for abandoned before it was held
            return temporary, leases.hold(temporary)


def _remove_abandoned(directory: str) -> None:
    with suppress(OSError):
        for name in os.listdir(directory):
            if name.startswith(_UNFINISHED):
                path = os.path.join(directory, name)
                with leases.alone(path) as alone, suppress(OSError):
                    if alone:
                        os.unlink(path)


def _publish(temporary: str, path: str, force: bool) -> None:
    if force:
        os.rename(temporary, path)
        return
    try:
        os.link(temporary, path)  # unlike a rename it replaces nothing that appeared meanwhile
    except FileExistsError:
        raise _exists(path) from None
    except OSError:  # a file system without links
        if os.path.lexists(path):
            raise _exists(path) from None
        os.rename(temporary, path)


def copy(source: str, target: str) -> None:
    """Copy a file's bytes into a file that is there. Raises OSError."""
    with open(source, "rb", buffering=0) as origin, open(target, "wb", buffering=0) as copied:
        left = os.fstat(origin.fileno()).st_size
        while left:
            left -= _copied(origin.fileno(), copied.fileno(), min(left, _CHUNK))


def _copied(origin: int, descriptor: int, count: int) -> int:
    """Copy up to ``count`` bytes: within the kernel, shared where the file system can."""
    with suppress(OSError):
        copied = os.copy_file_range(origin, descriptor, count)
        if copied:
            return copied
    piece = os.read(origin, count)
    if not piece:
        raise OSError(5, "the image became shorter")
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]
    return len(piece)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _exists(path: str) -> StoreError:
    return StoreError(f"{path} exists", hint="--force replaces it", identifier="file-exists")

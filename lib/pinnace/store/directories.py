"""The directories of a store, opened one below the other: no link in it is followed.

So nothing outside of the store is ever looked at, or removed, as if it were in it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, suppress

from pinnace import documents
from pinnace.errors import StoreError
from pinnace.store import leases, unpacked, usage
from pinnace.store.images import BUILD_FORMAT, Resolution
from pinnace.store.store import Store
from pinnace.store.usage import Usage

IMAGES, LAYERS, REFERENCES, PINS = "images/sha256", "layers/sha256", "references", "pins"
UNPACKED = unpacked.DIRECTORY
PARTS = (IMAGES, LAYERS, REFERENCES, leases.DIRECTORY, PINS, UNPACKED, "tmp", "locks")
#: What may be in a store that is being made, before its description.
_UNDESCRIBED = frozenset(("tmp", "locks", "probes"))
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: Directories in one another; those of other parts have files alone. Users may write to ``leases``.
_DEPTH = {REFERENCES: 140, "tmp": 8}
_RECORD_SIZE = 16 << 20


class Opened:
    """A store's directories, by descriptors. A context.

    Raises StoreError if something else than a directory is in the place of one.
    """

    def __init__(self, store: Store) -> None:
        self._root = store.root
        self._stack = ExitStack()
        self._parts: dict[str, int] = {}

    def __enter__(self) -> Opened:
        with ExitStack() as stack:
            # The path of the store itself may lead over links, as its owner likes.
            self._top = _directory(self._root, None, stack)
            self._stack = stack
            for part in PARTS:
                self.part(part)
            stack = stack.pop_all()
        self._stack = stack
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def part(self, name: str) -> int | None:
        """The descriptor of a part, None if there is none as yet."""
        if name not in self._parts:
            descriptor = self._top
            try:
                for component in name.split("/"):
                    descriptor = _directory(component, descriptor, self._stack)
            except FileNotFoundError:
                return None
            self._parts[name] = descriptor
        return self._parts[name]

    def files(self, part: str) -> list[str]:
        """The names of the plain files in a part, in order."""
        directory = self.part(part)
        if directory is None:
            return []
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))

    def names(self, part: str) -> list[str]:
        """All names in a part, in order."""
        directory = self.part(part)
        return [] if directory is None else sorted(os.listdir(directory))

    def read(self, part: str, name: str) -> bytes | None:
        """A small file's content, None if it is not there."""
        directory = self.part(part)
        return None if directory is None else _content(name, directory)

    def look(self, part: str, name: str) -> tuple[Usage, os.stat_result] | None:
        """What a file takes, and its times; None if it is not there."""
        try:
            descriptor = os.open(name, _FLAGS, dir_fd=self.part(part))
        except OSError:
            return None
        try:
            return usage.of(descriptor), os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, part: str, name: str) -> bool:
        """Remove a file. False: it was not there."""
        try:
            os.unlink(name, dir_fd=self.part(part))
        except FileNotFoundError:
            return False
        except OSError as error:
            path = os.path.join(self._root, part, name)
            raise StoreError(f"cannot remove {path}: {error.strerror}") from None
        return True

    def alone(self, part: str, name: str) -> AbstractContextManager[bool]:
        """Lock a file as one may who removes it, see ``leases.alone``."""
        return leases.alone(name, self.part(part))

    def usages(self) -> Iterator[tuple[str, Usage]]:
        """What all plain files of the store take, with the name of the part that each is in.

        Trees, of which their records tell that, are not entered.
        """
        for part in PARTS:
            for _, name, directory in self._walk(part):
                with suppress(OSError):
                    descriptor = os.open(name, _FLAGS, dir_fd=directory)
                    try:
                        if stat.S_ISREG(os.fstat(descriptor).st_mode):
                            yield part, usage.of(descriptor)
                    finally:
                        os.close(descriptor)

    def resolutions(self) -> Iterator[tuple[str, Resolution]]:
        """What each file below ``references`` says, with its path from there."""
        for base, name, directory in self._walk(REFERENCES):
            if name.endswith(".json"):
                with suppress(ValueError, KeyError, TypeError):
                    resolution = Resolution.from_json(_content(name, directory) or b"")
                    yield os.path.normpath(os.path.join(base, name)), resolution

    def resolution(self, path: str) -> Resolution | None:
        """What the file at ``path`` below ``references`` says; None if it is not there."""
        with ExitStack() as stack, suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            name, directory = self._steps(path, stack)[-1]
            return Resolution.from_json(_content(name, directory) or b"")
        return None

    def remove_resolution(self, path: str) -> None:
        """Remove the file at ``path`` below ``references``, and directories that became empty.

        The caller holds the store's ``references_lock``.
        """
        with ExitStack() as stack, suppress(FileNotFoundError):
            *above, (name, directory) = self._steps(path, stack)
            try:
                os.unlink(name, dir_fd=directory)
            except PermissionError as error:
                raise StoreError(f"cannot remove {path}: {error.strerror}") from None
            with suppress(OSError):  # one of them is not empty
                for name, directory in reversed(above):
                    os.rmdir(name, dir_fd=directory)

    def _steps(self, path: str, stack: ExitStack) -> list[tuple[str, int | None]]:
        """Each component of a path below ``references``, with the descriptor of the directory it is in."""
        directory = self.part(REFERENCES)
        steps = []
        *above, name = path.split("/")
        for component in above:
            steps.append((component, directory))
            directory = _directory(component, directory, stack)
        return [*steps, (name, directory)]

    def _walk(self, part: str) -> Iterator[tuple[str, str, int]]:
        """Directory, name and the directory's descriptor of all that lies in a part."""
        top = self.part(part)
        if top is not None:
            depth = _DEPTH.get(part, 0)
            for base, below, names, directory in os.fwalk(".", dir_fd=top, follow_symlinks=False):
                if base.count("/") >= depth:
                    below.clear()
                yield from ((base, name, directory) for name in sorted(names))


def is_store(root: str) -> bool:
    """Whether ``root`` is a store of this version's format; False: there is nothing in it as yet.

    Raises StoreError if it is something else.
    """
    try:
        if _UNDESCRIBED.issuperset(os.listdir(root)):
            return False
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(
            f"cannot read the store {root}: {error.strerror}", hint="set `store` to a directory of yours"
        ) from None
    content = _content(os.path.join(root, "store.json"), None)
    with suppress(ValueError, TypeError, AttributeError):
        if content is not None and documents.parse(content).get("format") == BUILD_FORMAT:
            return True
    raise StoreError(
        f"{root} is not a store of this version of Pinnace",
        hint="nothing was touched; set `store` to the directory that is one",
        identifier="not-a-store",
    )


def _directory(name: str, parent: int | None, stack: ExitStack) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if parent is None else os.O_NOFOLLOW)
    try:
        descriptor = os.open(name, flags, dir_fd=parent)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise StoreError(
                f"{name} in the store is no directory", hint="nothing was touched", identifier="not-a-store"
            ) from None
        raise StoreError(
            f"cannot open {name}: {error.strerror}", hint="run it as the store's owner"
        ) from None
    stack.callback(os.close, descriptor)
    return descriptor


def _content(name: str, directory: int | None) -> bytes | None:
    try:
        descriptor = os.open(name, _FLAGS, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"cannot read {name}: {error.strerror}") from None
    with open(descriptor, "rb") as stream:
        return stream.read(_RECORD_SIZE)

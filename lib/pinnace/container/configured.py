"""What a site and its users configure of every container: ``mounts.d``, ``environ.d``. On the launch path."""

from __future__ import annotations

import os
from collections.abc import Iterator

from pinnace.basis import ABSENT
from pinnace.config import Settings
from pinnace.container.mounts import Mount
from pinnace.errors import ConfigurationError
from pinnace.tuples import NamedTuple


class Configured(NamedTuple):
    """Mounts, those that come first apart, and variables; ``${NAME}`` in them is not replaced yet."""

    early: tuple[Mount, ...] = ()
    mounts: tuple[Mount, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


def load(settings: Settings) -> Configured:
    """Read the files of all directories. Raises ConfigurationError."""
    early: list[Mount] = []
    late: list[Mount] = []
    variables: list[tuple[str, str]] = []
    for path, text in _files(settings, "mounts_dir", ".fstab"):
        from pinnace.container import fstab

        for mount, comes_first in fstab.parse(text, path):
            (early if comes_first else late).append(mount)
    for path, text in _files(settings, "environ_dir", ".env"):
        from pinnace.container import environ

        variables += environ.parse(text, path)
    return Configured(tuple(early), tuple(late), tuple(variables))


def _files(settings: Settings, key: str, suffix: str) -> Iterator[tuple[str, str]]:
    """Path and content of each file, directory by directory, in the order of their names."""
    basis = settings.basis
    for directory in settings[key]:
        directory = os.path.abspath(directory)
        basis.file(directory)
        if basis.files.get(directory) == ABSENT:
            continue
        try:
            for name in sorted(os.listdir(directory)):
                path = os.path.join(directory, name)
                if name.endswith(suffix) and not name.startswith("."):
                    basis.file(path)
                    if os.path.isfile(path):
                        yield path, _read(path)
        except NotADirectoryError:
            raise ConfigurationError(f"{key}: {directory} is not a directory") from None
        except OSError as error:
            raise ConfigurationError(f"cannot read {error.filename}: {error.strerror}", context=key) from None


def _read(path: str) -> str:
    # Names of files may be any bytes, as in the rest of a plan.
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return stream.read()

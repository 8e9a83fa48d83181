"""What a site and its users configure of every container: ``mounts.d`` and so on. On the launch path."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from pinnace.config import Settings
from pinnace.container.mounts import Mount
from pinnace.errors import ConfigurationError
from pinnace.tuples import NamedTuple


class Configured(NamedTuple):
    """Mounts, those that come first apart, and variables; ``${NAME}`` in them is not replaced yet.

    ``hooks`` are programs that are executed while the container is made.
    """

    early: tuple[Mount, ...] = ()
    mounts: tuple[Mount, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    hooks: tuple[str, ...] = ()


def load(settings: Settings) -> Configured:
    """Read the files of all directories. Raises ConfigurationError."""
    early: list[Mount] = []
    late: list[Mount] = []
    variables: list[tuple[str, str]] = []
    for path in _files(settings, "mounts_dir", ".fstab"):
        from pinnace.container import fstab

        for mount, comes_first in fstab.parse(_read(path), path):
            (early if comes_first else late).append(mount)
    for path in _files(settings, "environ_dir", ".env"):
        from pinnace.container import environ

        variables += environ.parse(_read(path), path)
    hooks = tuple(path for path in _files(settings, "hooks_dir", ".sh") if os.access(path, os.X_OK))
    if hooks:
        settings.basis.file(sys.executable)  # it reads what they ask for
    return Configured(tuple(early), tuple(late), tuple(variables), hooks)


def _files(settings: Settings, key: str, suffix: str) -> Iterator[str]:
    """The files of each directory in turn, in the order of their names."""
    basis = settings.basis
    for directory in settings[key]:
        directory = os.path.abspath(directory)
        basis.file(directory)
        if not os.path.exists(directory):  # nor is there any in a home that is closed to the user
            continue
        try:
            names = sorted(os.listdir(directory))
        except NotADirectoryError:
            raise ConfigurationError(f"{key}: {directory} is not a directory") from None
        except OSError as error:
            raise ConfigurationError(
                f"cannot read {directory}: {error.strerror}", context=key, hint="check its owner and mode"
            ) from None
        for name in names:
            path = os.path.join(directory, name)
            if name.endswith(suffix) and not name.startswith("."):
                basis.file(path)
                if os.path.isfile(path):
                    yield path


def _read(path: str) -> str:
    # Names of files may be any bytes, as in the rest of a plan.
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
            return stream.read()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None

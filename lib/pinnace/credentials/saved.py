"""Pinnace's own credentials file: ``~/.config/pinnace/auth.json``, in Docker's format.

Only its owner reads it. A change replaces the file at once, so that a reader sees the old or
the new; two changes at the same time follow one another where the file system has locks.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pinnace.credentials import docker, names
from pinnace.credentials.files import Surroundings, read
from pinnace.errors import CredentialError
from pinnace.secret import Secret


def path(surroundings: Surroundings) -> str:
    """Where ``pinnace login`` keeps credentials."""
    return surroundings.configuration("pinnace", "auth.json")


def save(surroundings: Surroundings, host: str, username: str, password: Secret) -> None:
    """Remember a user's password. Raises CredentialError if that is not possible safely."""
    encoded = base64.b64encode(f"{username}:{password.reveal()}".encode()).decode()

    def change(auths: dict[str, Any]) -> bool:
        _drop(auths, host)
        auths[names.stored(host)] = {"auth": encoded}
        return True

    _change(surroundings, change)


def remove(surroundings: Surroundings, host: str) -> bool:
    """Forget what is known for ``host``; whether there was anything."""
    if not os.path.lexists(path(surroundings)):
        return False
    return _change(surroundings, lambda auths: _drop(auths, host))


def _drop(auths: dict[str, Any], host: str) -> bool:
    same = [key for key in auths if names.of_key(key) == names.canonical(host)]
    for key in same:
        del auths[key]
    return bool(same)


def _change(surroundings: Surroundings, change: Callable[[dict[str, Any]], bool]) -> bool:
    target = path(surroundings)
    try:
        target = _own(target)
        directory = _open_directory(os.path.dirname(target))
    except OSError as error:
        raise _cannot(surroundings.shown(target), error.strerror or "unknown error") from None
    try:
        # Networks file systems without locks have the replacement alone.
        with suppress(OSError):
            fcntl.flock(directory, fcntl.LOCK_EX)
        shown = surroundings.shown(target)
        document = docker.parse(read(target, surroundings) or "", shown)
        auths = document.setdefault("auths", {})
        if not isinstance(auths, dict):
            raise _cannot(shown, "auths is no object")
        changed = change(auths)
        if changed:
            _replace(directory, os.path.basename(target), json.dumps(document, indent="\t") + "\n")
        return changed
    except OSError as error:
        raise _cannot(surroundings.shown(target), error.strerror or "unknown error") from None
    finally:
        os.close(directory)


def _own(target: str) -> str:
    """``target`` itself, or what it links to if the link is the user's own. Raises OSError."""
    try:
        status = os.lstat(target)
    except FileNotFoundError:
        return target
    if not stat.S_ISLNK(status.st_mode):
        return target
    if status.st_uid != os.geteuid():
        raise OSError(0, "it is another user's symbolic link")
    return os.path.realpath(target)


def _open_directory(directory: str) -> int:
    """The directory of the file, made if need be, where only the user can put files. Raises OSError."""
    os.makedirs(os.path.dirname(directory), exist_ok=True)
    with suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        os.close(descriptor)
        raise OSError(0, f"others may change {directory}; make it yours, mode 700")
    return descriptor


def _replace(directory: int, name: str, text: str) -> None:
    """Put ``text`` where ``name`` was, in one step and readable by its owner alone. Raises OSError."""
    partial = f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(partial, flags, 0o600, dir_fd=directory)
    try:
        with open(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(descriptor, 0o600)  # whatever the umask is
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
        os.replace(partial, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial, dir_fd=directory)
        raise
    os.fsync(directory)


def _cannot(shown: str, reason: str) -> CredentialError:
    return CredentialError(
        f"cannot change {shown}: {reason}", hint="check owner and mode", identifier="credentials-unwritable"
    )

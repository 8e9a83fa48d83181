"""Plans kept for the next start that is like this one: ``libexec/front.c`` uses them without Python.

An entry (docs/protocol.md, "Kept plans") says what was asked, by whom and where, then what the plan rests
on, then the plan with its gaps. It is written for the user's own next start alone. Nothing here may keep a
container from starting: where it cannot be written, it is not. On the launch path.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress

from pinnace import __version__, fields, paths
from pinnace.basis import Basis
from pinnace.config import Settings
from pinnace.container import probe
from pinnace.container.plan import Plan
from pinnace.errors import PinnaceError, one_line
from pinnace.phases import Phases

DIRECTORY = "plans"

_OPERATIONS = """
    version failure-status timings lifeline lease keeper user-namespace mount-namespace unshare
    fuse-server fuse-mount lower-directory upper-directory scratch base overlay root
    bind tmpfs sysfs unmount file optional-file prepend
    directory read-only pivot entrypoint entrypoint-script hand-over
    clear-environment environment environment-file unset default
    pass-default requested-environment working-directory working-directory-file drop-capabilities
    no-new-privileges seccomp script command expand remount hooks-begin hook hooks-end
    hook-variables volume volumes-file
"""
#: Operations that do the same each time. A plan that has others is for one start.
_REPEATABLE = frozenset(_OPERATIONS.split())
#: Bytes of an entry, and entries of a user on a host.
_LARGEST, _MOST = 1 << 20, 64
#: Seconds after which what another boot, or a start that was killed, has left is removed.
_ABANDONED = 30 * 86400


def offer(
    template: Plan, asked: Iterable[tuple[str, bytes]], settings: Settings, lease: int | None, phases: Phases
) -> None:
    """``keep`` the plan if the settings want it. Where timings are told it is told as well why it was not."""
    if not settings["plan_cache"]:
        return
    reason = keep(template, asked, settings.basis, lease)
    phases.end("keeping the plan")
    if reason and settings["timings"] and sys.stderr is not None:  # None: it is closed
        sys.stderr.write(f"pinnace: the plan is not kept: {one_line(reason)}\n")


def keep(template: Plan, asked: Iterable[tuple[str, bytes]], basis: Basis, lease: int | None) -> str:
    """Write the entry of a start, if it may be repeated: ``asked`` says what it was (see ``of_run``).

    Returns why it was not written, or an empty string.
    """
    if not paths.FRONT:
        return "this installation has no compiled command"
    if os.getuid() != os.geteuid() or os.getgid() != os.getegid():
        return "the user's identity is unusual"
    basis.file(paths.EXECUTOR)
    basis.file(paths.__file__)  # `make install` writes it each time
    now = int(time.time())
    reason = basis.obstacle or _unrepeatable(template)
    if not reason and (lease is None) != (basis.lock is None):
        reason = "the image is held in a way that is not known"
    if not reason and basis.until <= now:
        reason = "what it rests on is to be asked again at once"
    if reason:
        return reason
    try:
        key = fields.encode([*_origin(), *asked])
        _write(f"{_hash(key):016x}", key + fields.encode(_checks(basis, now)) + template.encode())
    except (OSError, PinnaceError) as error:
        return str(error)
    return ""


def _unrepeatable(template: Plan) -> str:
    unknown = {operation.name for operation in template.operations} - _REPEATABLE
    return f"its operation {min(unknown)} is for one start" if unknown else ""


def of_run(options: Iterable[tuple[str, str]], image: str) -> list[tuple[str, bytes]]:
    """What ``pinnace run`` was asked, but for the variables and the command, which fill gaps."""
    given = [_terminated(name, value) for name, value in options if name not in ("-e", "--env")]
    return [("kind", b"run"), *(("option", option) for option in given), ("image", os.fsencode(image))]


def of_step(request: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """What the fields of a step's request ask for, but for what every step has of its own."""
    own = ("protocol", "job-id", "step-id", "node-tasks", "working-directory", "environment")
    return [("kind", b"step"), *((key, value) for key, value in request if key not in own)]


def _origin() -> list[tuple[str, bytes]]:
    """Whose start it is, by which installation, on which boot of which machine."""
    ids = (os.getuid(), os.getgid(), *os.getgroups())
    return [
        ("pinnace", __version__.encode()),
        ("executor", os.fsencode(os.path.realpath(paths.EXECUTOR))),
        ("host", _terminated(probe.boot_id(), os.uname().machine)),
        ("user", " ".join(map(str, ids)).encode()),
    ]


def _checks(basis: Basis, now: int) -> Iterable[tuple[str, bytes]]:
    yield "written", str(now).encode()
    if basis.until != float("inf"):
        yield "until", str(int(basis.until)).encode()
    for name, value in basis.variables.items():
        yield "variable", _terminated(name) if value is None else _terminated(name, value)
    if basis.directory is not None:
        yield "directory", os.fsencode(basis.directory)
    if basis.lock is not None:
        yield "lock", _terminated(basis.lock.path, basis.lock.witness, basis.lock.job)
    for path, state in basis.files.items():
        yield "file", _terminated(path, state)
    yield "plan", b""


def _terminated(*texts: str) -> bytes:
    return b"".join(os.fsencode(text) + b"\0" for text in texts)


def _hash(content: bytes) -> int:
    """FNV-1a with 64 bits: it only names an entry, which says itself what it is for."""
    state = 0xCBF29CE484222325
    for byte in content:
        state = (state ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return state


def _write(name: str, entry: bytes) -> None:
    """Put the entry in its place, whole or not at all. Raises OSError or PinnaceError."""
    if len(entry) > _LARGEST:
        raise PinnaceError(f"it takes {len(entry)} bytes")
    directory = _directory()
    temporary = f".{name}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
        try:
            if os.write(descriptor, entry) != len(entry):
                raise PinnaceError("there is no room for it")
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        finally:
            os.close(descriptor)
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)
        _prune(directory)
    finally:
        os.close(directory)


def _directory() -> int:
    """The directory of this boot's entries, made if need be.

    Raises OSError, or PinnaceError if it is not the user's alone.
    """
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not cache.startswith("/"):
        home = os.environ.get("HOME", "")
        if not home.startswith("/"):
            raise PinnaceError("the user has no home")
        cache = os.path.join(home, ".cache")
    plans = os.path.join(cache, "pinnace", DIRECTORY)
    path = os.path.join(plans, probe.boot_id())
    if not os.path.isdir(path):
        for place in (cache, os.path.dirname(plans), plans, path):
            _make(place)
        _forget_boots(plans)
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(directory)
    if status.st_uid == os.geteuid() and not status.st_mode & 0o077:
        return directory
    os.close(directory)
    raise PinnaceError(f"{path} is not the user's alone")


def _make(directory: str) -> None:
    """Make a directory in one of the user's own: root with the HOME of another is to leave nothing there."""
    if os.path.isdir(directory):
        return
    parent = os.path.dirname(directory)
    if os.stat(parent).st_uid != os.geteuid():
        raise PinnaceError(f"{parent} is not the user's")
    with suppress(FileExistsError):
        os.mkdir(directory, mode=0o700)


def _prune(directory: int) -> None:
    """Keep the newest entries; temporary files are somebody's who is about to rename them."""
    now = time.time()
    written = []
    for name in os.listdir(directory):
        with suppress(FileNotFoundError):
            written.append((os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime, name))
    written.sort(reverse=True)
    for number, (when, name) in enumerate(written):
        if when < now - _ABANDONED or (number >= _MOST and not name.startswith(".")):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)


def _forget_boots(plans: str) -> None:
    """Remove what hosts that share the directory have not written to for long."""
    from shutil import rmtree

    for name in os.listdir(plans):
        path = os.path.join(plans, name)
        with suppress(OSError):
            if os.lstat(path).st_mtime < time.time() - _ABANDONED:
                rmtree(path)

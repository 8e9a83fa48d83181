"""Mounts: what a user asks for, what every container gets, and how a plan says it."""

from __future__ import annotations

import os
from collections.abc import Iterable

from pinnace.basis import Basis
from pinnace.container.plan import Plan
from pinnace.errors import ContainerError, UsageError
from pinnace.tuples import NamedTuple

#: fstab(5) and enroot flags, and the plan's option for each; None: the default, nothing to say.
FLAGS: dict[str, str | None] = {
    "ro": "read-only",
    "rw": None,
    "nosuid": "nosuid",
    "nodev": "nodev",
    "noexec": "noexec",
    "exec": None,
    "rbind": "recursive",
    "private": "private",
    "rprivate": "private",
    "slave": "slave",
    "rslave": "slave",
    "nofail": "optional",
    "silent": None,
    "loud": None,
    "x-create=auto": "create=auto",
    "x-create=file": "create=file",
    "x-create=dir": "create=directory",
}
_BIND_DEFAULTS = ("create=auto", "recursive")


class Mount(NamedTuple):
    """One mount of a container.

    ``kind`` is ``bind``, ``tmpfs``, ``sysfs``, ``remount`` or ``unmount``; ``options`` are the plan's;
    ``data`` are a tmpfs's own options (``size=1G``). With ``variables`` each ``${NAME}`` is the
    caller's variable.
    """

    kind: str
    target: str
    source: str = ""
    options: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    variables: bool = False


def parse(text: str, directory: str) -> list[Mount]:
    """The mounts of a ``SRC:DST[:FLAGS][,…]`` option; relative sources count from ``directory``.

    Flags are separated by ``+``. ``SRC`` alone means ``SRC:SRC``; ``tmpfs:DST`` and
    ``umount:DST`` mount an empty tmpfs and take a mount away. Raises UsageError.
    """
    return [_parse_one(item, directory) for item in text.split(",")]


def _parse_one(item: str, directory: str) -> Mount:
    source, _, rest = item.partition(":")
    target, _, flags = rest.partition(":")
    if ":" not in item:
        target = source
    if not source or not target:
        raise _invalid(item, "SRC:DST[:FLAGS] is expected")
    if source not in ("tmpfs", "umount") and source[0] not in "./":
        raise _invalid(item, "the source must begin with / or ., or be tmpfs or umount")
    if target[0] not in "./":
        raise _invalid(item, "the target must begin with / or .")
    if not os.path.normpath(target).strip("/."):
        raise _invalid(item, "the target is the container's root: choose a directory below it")
    words = [flag for flag in flags.replace(",", "+").split("+") if flag]
    if source == "umount":
        return Mount("unmount", target)
    if source == "tmpfs":
        options, data = _tmpfs_flags(words)
        return Mount("tmpfs", target, options=("create=directory", *options), data=data)
    return Mount("bind", target, os.path.join(directory, source), _bind_options(words, item))


def _bind_options(words: Iterable[str], item: str) -> tuple[str, ...]:
    options = list(_BIND_DEFAULTS)
    for word in words:
        if word == "bind":
            options = [option for option in options if option != "recursive"]
        elif word not in FLAGS:
            raise _invalid(item, f"unknown flag {word}: the flags are bind, {', '.join(FLAGS)}")
        else:
            option = FLAGS[word]
            if option is not None:
                options.append(option)
    return tuple(dict.fromkeys(options))


def _tmpfs_flags(words: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Mount flags, and what tmpfs itself understands (size, mode …)."""
    options, data = [], []
    for word in words:
        if word not in FLAGS:
            data.append(word)
        elif (option := FLAGS[word]) is not None and option != "recursive":
            options.append(option)
    return tuple(options), tuple(data)


def _invalid(item: str, why: str) -> UsageError:
    return UsageError(f"invalid mount `{item}`: {why}", identifier="mount-syntax")


def are_relative(text: str) -> bool:
    """Whether what ``parse`` makes of ``text`` depends on the directory."""
    return any(item.startswith(".") for item in text.split(","))


def check_sources(mounts: Iterable[Mount], basis: Basis | None = None) -> None:
    """Raise ContainerError for the first source that is not there; ``basis`` notes the others."""
    for mount in mounts:
        if mount.kind != "bind" or "optional" in mount.options:
            continue
        if basis is not None:
            basis.existing(mount.source)
        try:
            os.stat(mount.source)
        except (FileNotFoundError, NotADirectoryError):
            raise ContainerError(
                f"mount source path does not exist: {mount.source}",
                hint="create it on every node of the job or leave the mount out",
                identifier="mount-source-missing",
            ) from None
        except OSError:
            continue  # the kernel gives its own reason


#: /proc, /sys, /dev and the directories that every program may write (as enroot has them).
SYSTEM = (
    Mount("bind", "/proc", "/proc", ("create=directory", "recursive", "nosuid", "nodev", "noexec", "slave")),
    Mount(
        "bind",
        "/sys",
        "/sys",
        ("create=directory", "recursive", "read-only", "nosuid", "nodev", "noexec", "slave"),
    ),
    Mount("bind", "/dev", "/dev", ("create=directory", "recursive", "nosuid", "noexec", "slave")),
    Mount("tmpfs", "/tmp", options=("create=directory", "nosuid", "nodev"), data=("mode=1777",)),
    Mount("tmpfs", "/var/run", options=("create=directory", "nosuid", "nodev"), data=("mode=755",)),
    Mount("tmpfs", "/var/lock", options=("create=directory", "nosuid", "nodev"), data=("mode=755",)),
)

#: Files of the host that a container shares, read-only.
FILES = tuple(
    Mount("bind", path, path, ("create=file", "read-only", "nosuid", "nodev", "noexec", "optional"))
    for path in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/machine-id")
)


def home(source: str, target: str) -> Mount:
    """The user's home directory inside the container."""
    return Mount("bind", target, source, ("create=directory", "recursive", "nosuid"))


def of_namespaces(names: Iterable[str]) -> list[Mount]:
    """What tells of the namespaces that a container has for itself, in the place of the node's.

    POSIX's shared memory is files, which an IPC namespace alone would leave shared. A kernel that does not
    show all of /sys to its own users refuses another: then it stays the node's.
    """
    mounts = []
    if "net" in names:
        new = ("optional", "read-only", "nosuid", "nodev", "noexec")
        mounts.append(Mount("sysfs", "/sys", options=new))
        mounts.append(Mount("bind", "/sys/fs/cgroup", "/sys/fs/cgroup", (*new, "recursive", "slave")))
    if "ipc" in names:
        memory = ("create=directory", "nosuid", "nodev")
        mounts.append(Mount("tmpfs", "/dev/shm", options=memory, data=("mode=1777",)))
    return mounts


def built_in(mounts: Iterable[Mount], configured: Iterable[Mount]) -> list[Mount]:
    """Those of ``mounts`` that a site has not configured itself: enroot's directories have most of them."""
    taken = {(mount.source, mount.target) for mount in configured if mount.kind != "unmount"}
    return [mount for mount in mounts if (mount.source, mount.target) not in taken]


def add(plan: Plan, mounts: Iterable[Mount]) -> None:
    """Say each mount in the plan's words."""
    for mount in mounts:
        options = ",".join(mount.options)
        operation: tuple[str, ...]
        if mount.kind == "bind":
            operation = ("bind", mount.source, mount.target, options)
        elif mount.kind == "tmpfs":
            operation = ("tmpfs", mount.target, options, ",".join(mount.data))
        else:
            operation = (mount.kind, mount.target, options)
        plan.add(*(("expand", *operation) if mount.variables else operation))

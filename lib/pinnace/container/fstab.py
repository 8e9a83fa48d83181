"""``mounts.d/*.fstab``: mounts that every container has, in the form of fstab(5) that enroot reads.

A line has source, target, type, options and, sixth, the order, with what enroot lets out of it: ``/src``,
``/src /dst``, ``/src options``, ``tmpfs /dst``. On the launch path.
"""

from __future__ import annotations

from pinnace.container.mounts import FLAGS, Mount
from pinnace.errors import ConfigurationError
from pinnace.tuples import NamedTuple

#: What the plan has an option for, besides FLAGS.
_SETS: dict[str, str | None] = FLAGS | {
    "shared": "shared",
    "rshared": "shared",
    "unbindable": "unbindable",
    "runbindable": "unbindable",
    "bind": None,
    "x-move": "move",
    "x-detach": None,
    "remount": None,
}
#: What takes back an option that stands before it.
_CLEARS = {"rw": "read-only", "suid": "nosuid", "dev": "nodev", "exec": "noexec"}
_PROPAGATIONS = frozenset(("private", "slave", "shared", "unbindable"))
_CREATES = ("create=auto", "create=file", "create=directory")
#: What has no meaning for a container, or is the kernel's to know.
_NEGLIGIBLE = """
    async atime auto defaults diratime dirsync group iversion lazytime mand noatime noauto nodiratime nogroup
    noiversion nolazytime nomand noowner norelatime nostrictatime nouser nousers owner relatime strictatime
    sync user users
"""
_WITHOUT_EFFECT = frozenset(_NEGLIGIBLE.split())
_DEFAULTS = "rbind,x-create=auto"
#: The container's root, for hooks and images of enroot's.
ROOT = "${ENROOT_ROOTFS}"
_ESCAPES = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))


class Entry(NamedTuple):
    """A mount, and whether it comes before anything else is put into the container (order -1)."""

    mount: Mount
    early: bool


def parse(text: str, path: str) -> list[Entry]:
    """The mounts of a file, in their order. Raises ConfigurationError naming file and line.

    ``${NAME}`` stands for the caller's variable and is left to ``template.complete``. As with enroot, lines
    of another order than 0 and -1 are not mounted.
    """
    entries = []
    for number, line in enumerate(text.split("\n"), 1):
        fields = _fields(line)
        if not fields:
            continue
        try:
            if "\0" in line:
                raise ValueError("it holds a NUL byte")
            order = _order(fields[4:])
            mount = _mount(*_completed(fields[:4]))
        except ValueError as error:
            raise ConfigurationError(
                f"invalid mount `{line.strip()}`: {error}",
                context=f"{path}, line {number}",
                hint="SOURCE TARGET TYPE OPTIONS 0 ORDER is expected, as in fstab(5)",
                identifier="fstab-syntax",
            ) from None
        if mount is not None and order in (0, -1):
            entries.append(Entry(mount, order == -1))
    return entries


def _fields(line: str) -> list[str]:
    """The words of a line, up to a comment."""
    words = [word for word in line.strip("\r").replace("\t", " ").split(" ") if word]
    for position, word in enumerate(words):
        if word.startswith("#"):
            return words[:position]
    return words


def _order(fields: list[str]) -> int:
    """The sixth field, or the fifth where that is 0 or missing, as enroot has it."""
    try:
        frequency, order, *_ = [*map(int, fields), 0, 0]
    except ValueError:
        raise ValueError("the fields behind the options must be numbers") from None
    return order or frequency


def _completed(fields: list[str]) -> tuple[str, str, str, str]:
    """Source, target, type and options of a line that may lack some of them."""
    source, target, kind, options = (*fields, "", "", "", "")[:4]
    if target and not kind and _are_options(target):
        target, kind, options = "", "none", target
    if kind and not options and _are_options(kind):
        target, kind, options = "" if target == "none" else target, "none", kind
    kind = "" if kind == "none" else kind
    if source == "tmpfs":
        return source, _decoded(target), kind or "tmpfs", options
    return _decoded(source), _decoded(target or source), kind, options or ("" if kind else _DEFAULTS)


def _are_options(word: str) -> bool:
    return "," in word or word in _SETS or word in _CLEARS or word in _WITHOUT_EFFECT


def _decoded(word: str) -> str:
    for escape, character in _ESCAPES:
        word = word.replace(escape, character)
    return word


def _mount(source: str, target: str, kind: str, options: str) -> Mount | None:
    """The mount, or None for one that may fail and cannot be made. Raises ValueError."""
    words = {word for word in options.split(",") if word}
    given, data = _sorted(options)
    if not target or ("${" not in target and not target.strip("/.")):
        raise ValueError("the target must be a path below the container's root")
    inside = source.startswith(ROOT)
    if inside:
        source = source[len(ROOT) :] or "/"
    variables = "${" in source + target + options
    if "x-detach" in words:
        return Mount("unmount", target, "", ("optional",) if "optional" in given else (), (), variables)
    if kind == "tmpfs":
        return Mount("tmpfs", target, "", _but(given, "recursive"), data, variables)
    if kind:
        if "nofail" in words:
            return None
        raise ValueError(f"type {kind} cannot be mounted, only tmpfs, or none for what is there already")
    if data:
        raise ValueError(f"unknown option {data[0]}")
    binds = not words.isdisjoint(("bind", "rbind", "x-move"))
    if "remount" in words or (not binds and not _PROPAGATIONS.isdisjoint(given)):
        return Mount("remount", target, "", _but(given, "recursive", *_CREATES), (), variables)
    if not binds:
        raise ValueError("its options lack bind, rbind, x-move, x-detach or remount")
    if "x-move" in words and not inside:
        raise ValueError(f"what is moved must lie in the container: {ROOT}/PATH is expected")
    if not source.startswith(("/", "${")):
        raise ValueError("the source must be an absolute path")
    return Mount("bind", target, source, (*given, *(["inside"] if inside else [])), (), variables)


def _sorted(options: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The plan's options, later ones overriding, and what only a file system itself understands."""
    given: dict[str, None] = {}
    data = []
    for word in filter(None, options.split(",")):
        if word in _CLEARS:
            given.pop(_CLEARS[word], None)
        elif word in _SETS:
            option = _SETS[word]
            if option is not None:
                given[option] = None
        elif word not in _WITHOUT_EFFECT and not word.startswith(("x-", "_netdev")):
            data.append(word)
    return tuple(given), tuple(data)


def _but(given: tuple[str, ...], *without: str) -> tuple[str, ...]:
    return tuple(option for option in given if option not in without)

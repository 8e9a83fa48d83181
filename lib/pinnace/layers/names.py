"""Names in layers: which are hostile, and which are whiteouts (OCI image specification, layers)."""

from __future__ import annotations

from pinnace.layers import tar
from pinnace.layers.tar import printable

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
#: Other names of this kind are aufs's own and mean nothing to us; no layer can bring one of them
#: into its squashfs file, so that one can serve for what a squashfs cannot say.
META = b".wh..wh."
SIDE = b".wh..wh.pinnace"
INDEX = b"index"

#: Bytes in one part of a path (squashfs, and Linux's NAME_MAX) and in a path or a symbolic link's
#: target (Linux's PATH_MAX): what is longer could not be used.
MAX_PART = 255
MAX_PATH = 4095


def split(path: bytes, layer: str) -> tuple[bytes, ...]:
    """The parts of an entry's name; none for the root. Raises ImageError if the name is hostile."""
    if path.startswith(b"/"):
        raise tar.malformed(layer, f"the name {printable(path)} is absolute")
    return _parts(path, layer)


def split_target(path: bytes, layer: str) -> tuple[bytes, ...]:
    """The parts of a hard link's target; some builders write them from the root with a slash."""
    parts = _parts(path, layer)
    if not parts:
        raise tar.malformed(layer, "a hard link has no target")
    return parts


def _parts(path: bytes, layer: str) -> tuple[bytes, ...]:
    parts = path.split(b"/")
    if b"" in parts or b"." in parts:
        parts = [part for part in parts if part not in (b"", b".")]
    if b".." in parts:
        raise tar.malformed(layer, f"the name {printable(path)} holds '..'")
    if len(path) > MAX_PATH or (parts and max(map(len, parts)) > MAX_PART):
        raise tar.malformed(layer, f"the name {printable(path[:60])}… is too long")
    if b"\0" in path:
        raise tar.malformed(layer, f"the name {printable(path)} holds a null byte")
    return tuple(parts)


def check_symlink(target: bytes, path: bytes, layer: str) -> None:
    """Raises ImageError if no symbolic link can have this target."""
    if not target or len(target) > MAX_PATH or b"\0" in target:
        raise tar.malformed(layer, f"the symbolic link {printable(path)} has no valid target")


def to_text(path: bytes) -> str:
    """A name for the index of a layer, whatever the locale is; ``from_text`` gives it back."""
    return path.decode("utf-8", "surrogateescape")


def from_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def reserved(parts: tuple[bytes, ...]) -> bool:
    """Whether one of ``parts`` is a name that only whiteouts have."""
    return any(part.startswith(WHITEOUT) for part in parts)


def whiteout_of(name: bytes, layer: str) -> bytes | None:
    """The name that ``name`` removes from lower layers; None if it is no such marker."""
    if not name.startswith(WHITEOUT) or name.startswith(META):
        return None
    removed = name[len(WHITEOUT) :]
    if removed in (b"", b".", b".."):
        raise tar.malformed(layer, f"{printable(name)} removes nothing that can be")
    return removed

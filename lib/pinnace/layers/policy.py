"""What a layer keeps of a file's attributes, whatever it comes from."""

from __future__ import annotations

from pinnace.errors import ImageError
from pinnace.layers.tar import printable

#: A container's user is never the owner that the other bits would change to, and nosuid hides them.
KEPT_MODE = 0o1777

_USER = b"user."
#: overlayfs in a user namespace keeps its own marks there; an image must not forge them.
_OVERLAY = b"user.overlay."
#: Bytes of an extended attribute's name (Linux's XATTR_NAME_MAX).
_MAX_XATTR_NAME = 255


def keeps_xattr(name: bytes) -> bool:
    """Whether an extended attribute of a file or a directory is kept: one that a user can set."""
    possible = name.startswith(_USER) and len(_USER) < len(name) <= _MAX_XATTR_NAME and b"\0" not in name
    return possible and not name.startswith(_OVERLAY)


def device_node(layer: str, path: bytes) -> ImageError:
    """The error for a device node that is not in /dev."""
    return ImageError(
        f"layer {layer} holds the device node {printable(path)}",
        hint="build the image without it: only those in /dev can be left out",
        identifier="device-node",
    )

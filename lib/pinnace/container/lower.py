"""Backends: how the files of an image become the lower layer of a container's root.

A backend says whether this machine has what it needs, and adds its operations to a plan in the three
places where it may have some. Whatever the backend, overlayfs is laid over ``/tmp/lower``.
"""

from __future__ import annotations

from pinnace.container.plan import Plan
from pinnace.tuples import NamedTuple


class Image(NamedTuple):
    """What a container is made of.

    ``path`` is a squashfs file, ``tree`` the directory that it was unpacked to, for the backend that
    needs one. ``foreign_ids``: files of it belong to others than root, and are to be the user's all the same.
    """

    path: str
    tree: str | None = None
    foreign_ids: bool = False


class Backend:
    """One way to mount an image. It changes nothing of the plan unless it has something to do."""

    name = ""
    #: Whether it takes an image that was unpacked.
    unpacked = False

    def in_host(self, plan: Plan, image: Image) -> None:
        """Operations while the plan is still in the mount namespace of the host."""

    def in_holder(self, plan: Plan, image: Image) -> None:
        """Operations in the first mount namespace of its own, where the host's tree is seen as it is."""

    def on_scratch(self, plan: Plan, image: Image) -> None:
        """Operations that need the scratch."""


class Squashfuse(Backend):
    """squashfuse, one server for each container.

    squashfuse_ll tells the kernel to keep what it has seen for ever, and takes no options for it; of
    squashfuse, which also shows foreign owners' files as the user's, that has to be asked for.
    """

    name = "squashfuse"
    #: Images never change. Seconds.
    _KEPT = "entry_timeout=31536000,attr_timeout=31536000,negative_timeout=31536000,kernel_cache"

    def __init__(self, program: str, whole: str = "") -> None:
        """``whole`` is the program for images with foreign owners; empty: there is none."""
        self._program = program
        self._whole = whole

    def in_host(self, plan: Plan, image: Image) -> None:
        if image.foreign_ids and self._whole:
            server = [self._whole, "-o", f"uid=0,gid=0,{self._KEPT}"]
        else:
            server = [self._program]
        plan.add("fuse-server", "image", *server, "-f", image.path, "@")

    def on_scratch(self, plan: Plan, image: Image) -> None:
        plan.add("fuse-mount", "image", "/tmp/lower", "read-only")


class Unpack(Backend):
    """A directory that the image was unpacked to, shared by all containers of it."""

    name = "unpack"
    unpacked = True

    def in_holder(self, plan: Plan, image: Image) -> None:
        plan.add("lower-directory", image.tree or "")

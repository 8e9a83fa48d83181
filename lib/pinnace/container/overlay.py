"""Overlays: what lays a writable layer over the files of an image, and where that layer lies."""

from __future__ import annotations

from pinnace.container.plan import Plan
from pinnace.tuples import NamedTuple


class Layer(NamedTuple):
    """The writable layer.

    In memory, of ``size`` bytes (0: half of what the container may use), or in ``directory``: a new one
    made in it for the container alone, or, with ``persistent``, itself, which stays.
    """

    size: int = 0
    directory: str = ""
    persistent: bool = False

    def add(self, plan: Plan) -> None:
        """Open the directory, while the host's tree is still seen as it is."""
        if self.directory:
            plan.add("upper-directory", self.directory, "persistent" if self.persistent else "temporary")


class Overlay:
    """One way to lay an overlay of ``/tmp/lower`` and ``/tmp/writable`` on ``/tmp/root``."""

    name = ""

    def on_scratch(self, plan: Plan) -> None:
        """Operations in the holder's mount namespace, when both layers are there."""

    def in_container(self, plan: Plan) -> None:
        """Operations in the container's own namespaces, on the scratch as their root."""


class KernelOverlay(Overlay):
    """overlayfs of the kernel, from 5.11 on for users."""

    name = "kernel"

    def in_container(self, plan: Plan) -> None:
        plan.add("overlay")


class FuseOverlayfs(Overlay):
    """fuse-overlayfs, in the holder's mount namespace: it has to see the layers and not its own mount."""

    name = "fuse-overlayfs"

    def __init__(self, program: str) -> None:
        self._program = program

    def on_scratch(self, plan: Plan) -> None:
        layers = "lowerdir=/tmp/lower,upperdir=/tmp/writable/upper,workdir=/tmp/writable/work"
        plan.add("fuse-server", "overlay", self._program, "-f", "-o", layers, "@")
        plan.add("mount-namespace")
        plan.add("fuse-mount", "overlay", "/tmp/root", "writable")

"""From an image to a root file system: the operations of a plan for it.

The image is mounted in a first user namespace, the holder, which maps 0 to the user: only there do
the files of an all-root squashfs file belong to the user, so that overlayfs may copy them up. The
container's own namespace is a child of the holder (user_namespaces(7)).
"""

from __future__ import annotations

from pinnace.container.identity import Identity
from pinnace.container.lower import Backend, Image
from pinnace.container.overlay import KernelOverlay, Layer, Overlay
from pinnace.container.plan import VERSION, Plan
from pinnace.tuples import NamedTuple


class Tools(NamedTuple):
    """What a root file system is made with; see ``backends.choose``."""

    backend: Backend
    overlay: Overlay = KernelOverlay()
    layer: Layer = Layer()


def add(plan: Plan, image: Image, identity: Identity, remap_root: bool, tools: Tools) -> None:
    """The operations from nothing to a writable root, seen from inside the container's namespaces."""
    plan.add("user-namespace", 0, 0)
    plan.add("keeper")
    tools.backend.in_host(plan, image)
    plan.add("mount-namespace")
    tools.backend.in_holder(plan, image)
    tools.layer.add(plan)
    plan.add("scratch", tools.layer.size)
    tools.backend.on_scratch(plan, image)
    tools.overlay.on_scratch(plan)
    plan.add("base")
    if remap_root:
        plan.add("user-namespace", 0, 0)
    else:
        plan.add("user-namespace", identity.uid, identity.gid)
    plan.add("mount-namespace")
    tools.overlay.in_container(plan)
    plan.add("root")


def overlay_probe(layer: Layer) -> Plan:
    """A plan that does nothing but lay an overlay over an empty directory: its success is the answer."""
    plan = Plan()
    plan.add("version", VERSION)
    plan.add("user-namespace", 0, 0)
    plan.add("keeper")
    plan.add("mount-namespace")
    layer.add(plan)
    plan.add("scratch", layer.size)
    plan.add("base")
    plan.add("user-namespace", 0, 0)
    plan.add("mount-namespace")
    plan.add("overlay")
    return plan


def fuse_probe(program: str) -> Plan:
    """A plan that does nothing but mount a FUSE file system, with ``program`` in the place of its server."""
    plan = Plan()
    plan.add("version", VERSION)
    plan.add("user-namespace", 0, 0)
    plan.add("keeper")
    plan.add("fuse-server", "image", program, "@")
    plan.add("mount-namespace")
    plan.add("scratch", 0)
    plan.add("fuse-mount", "image", "/tmp/lower", "read-only")
    return plan

"""From an image file to a root file system: the operations of a plan for it.

The image is mounted by squashfuse in a first user namespace, the holder, which maps 0 to the
user: only there do the files of an all-root image belong to the user, so that overlayfs may copy
them up. The container's own namespace is a child of the holder (user_namespaces(7)).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from pinnace.container.identity import Identity
from pinnace.container.plan import VERSION, Plan
from pinnace.errors import HostError


@dataclass(frozen=True)
class Tools:
    """The programs and the overlay that a root file system is made with.

    ``overlay`` is ``kernel`` or ``fuse-overlayfs``; ``writable_size`` is in bytes, 0 for half of
    the memory.
    """

    squashfuse: str
    overlay: str = "kernel"
    fuse_overlayfs: str = ""
    writable_size: int = 0


def add(
    plan: Plan, image: str, identity: Identity, remap_root: bool, tools: Tools, *, foreign_ids: bool = False
) -> None:
    """The operations from nothing to a writable root, seen from inside the container's namespaces.

    ``foreign_ids``: files of the image belong to others than root, and are to be the user's all the same.
    """
    plan.add("user-namespace", 0, 0)
    plan.add("keeper")
    plan.add("fuse-server", "image", *_server(tools, foreign_ids), "-f", image, "@")
    plan.add("mount-namespace")
    plan.add("scratch", tools.writable_size)
    plan.add("fuse-mount", "image", "/tmp/lower", "read-only")
    if tools.overlay == "fuse-overlayfs":
        layers = "lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work"
        plan.add("fuse-server", "overlay", tools.fuse_overlayfs, "-f", "-o", layers, "@")
        plan.add("mount-namespace")
        plan.add("fuse-mount", "overlay", "/tmp/root", "writable")
    plan.add("base")
    if remap_root:
        plan.add("user-namespace", 0, 0)
    else:
        plan.add("user-namespace", identity.uid, identity.gid)
    plan.add("mount-namespace")
    if tools.overlay == "kernel":
        plan.add("overlay")
    plan.add("root")


def _server(tools: Tools, foreign_ids: bool) -> list[str]:
    """The server with its options. Of squashfuse_ll only versions from 2023 on have these options."""
    whole = _find("squashfuse") if foreign_ids else ""
    return [whole, "-o", "uid=0,gid=0"] if whole else [tools.squashfuse]


def overlay_probe(tools: Tools) -> Plan:
    """A plan that does nothing but lay an overlay over an empty directory: its success is the answer."""
    plan = Plan()
    plan.add("version", VERSION)
    plan.add("user-namespace", 0, 0)
    plan.add("mount-namespace")
    plan.add("scratch", 0)
    plan.add("base")
    plan.add("user-namespace", 0, 0)
    plan.add("mount-namespace")
    plan.add("overlay")
    return plan


def choose(
    squashfuse: str, fuse_overlayfs: str, overlay: str, writable_size: int, probe: Callable[[Tools], bool]
) -> Tools:
    """The tools that the configuration's words mean on this machine.

    ``probe`` says whether the kernel lays overlays for this user; it is asked only for ``auto``.
    Raises HostError naming the program that is missing.
    """
    server = squashfuse or "squashfuse_ll"
    program = _find(server) or ("" if squashfuse else _find("squashfuse"))
    if not program:
        raise HostError(
            f"{server} is not installed",
            hint="install the package squashfuse, or set `squashfuse` in pinnace.toml",
            identifier="squashfuse-missing",
        )
    tools = Tools(program, "kernel", _find(fuse_overlayfs or "fuse-overlayfs"), writable_size)
    if overlay == "kernel" or (overlay == "auto" and probe(tools)):
        return tools
    if not tools.fuse_overlayfs:
        reason = "this kernel lays no overlays for users" if overlay == "auto" else f"overlay = {overlay!r}"
        raise HostError(
            f"{reason} and {fuse_overlayfs or 'fuse-overlayfs'} is not installed",
            hint="install the package fuse-overlayfs, or a kernel of at least 5.11 (tmpfs: 6.6)",
            identifier="overlay-missing",
        )
    return Tools(program, "fuse-overlayfs", tools.fuse_overlayfs, writable_size)


def _find(program: str) -> str:
    """The absolute path of a program, or an empty string. Never one named by a job's own PATH."""
    for directory in SYSTEM_PATH.split(":"):
        path = os.path.join(directory, program)  # an absolute program stays as it is
        if os.access(path, os.X_OK):
            return path
    return ""


SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

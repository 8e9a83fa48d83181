"""The choice of backend and overlay: what this machine can, what was asked for, and why it is what it is.

What has to be tried out is tried once per boot (``probe``). Everything that was looked at is noted as
what the plan rests on. On the launch path.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from pinnace.basis import Basis
from pinnace.config import Settings
from pinnace.container.lower import Backend, Squashfuse, Unpack
from pinnace.container.overlay import FuseOverlayfs, KernelOverlay, Layer, Overlay
from pinnace.container.rootfs import Tools
from pinnace.errors import HostError
from pinnace.tuples import NamedTuple

FUSE = "/dev/fuse"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Obstacle(NamedTuple):
    """Why something cannot be used here, and what mends it."""

    reason: str
    cure: str


class Machine(NamedTuple):
    """What is asked of this machine: each says what is in the way, or nothing.

    ``fuse`` is given a program to start, ``overlay`` the writable layer that is meant.
    """

    fuse: Callable[[str], str]
    overlay: Callable[[Layer], str]


class Choice(NamedTuple):
    """What was chosen, and a sentence on each of backend and overlay that says why."""

    tools: Tools
    backend_reason: str
    overlay_reason: str

    def explain(self) -> list[str]:
        """The choice in words, a line each."""
        backend, overlay, layer = self.tools
        if layer.directory:
            place = (
                f"{layer.directory}, which keeps it"
                if layer.persistent
                else f"a directory in {layer.directory}"
            )
        else:
            place = (
                f"{layer.size} bytes of memory" if layer.size else "half of the memory that the job may use"
            )
        return [
            f"backend {backend.name}: {self.backend_reason}",
            f"overlay {overlay.name}: {self.overlay_reason}",
            f"writable layer: {place}",
        ]


def choose(settings: Settings, layer: Layer, machine: Machine) -> Choice:
    """The tools that the configuration's words mean on this machine.

    Raises HostError: what was asked for cannot work, why, and what to do.
    """
    backend, backend_reason = _backend(settings, machine)
    overlay, overlay_reason = _overlay(settings, layer, machine)
    return Choice(Tools(backend, overlay, layer), backend_reason, overlay_reason)


def squashfuse(settings: Settings) -> str:
    """The program; empty if it is not installed."""
    if settings["squashfuse"]:
        return find(settings["squashfuse"], settings.basis)
    return find("squashfuse_ll", settings.basis) or find("squashfuse", settings.basis)


def squashfuse_obstacle(program: str, settings: Settings, machine: Machine) -> Obstacle | None:
    """Why squashfuse, installed as ``program``, cannot be used here."""
    if not program:
        asked = settings["squashfuse"]
        return Obstacle(
            f"{asked or 'squashfuse'} is not installed",
            "install the package squashfuse" + (", or mend `squashfuse` in pinnace.toml" if asked else ""),
        )
    settings.basis.place(FUSE)
    if not os.path.exists(FUSE):
        return Obstacle(f"{FUSE} is missing", "the administrator can load the kernel module: `modprobe fuse`")
    if not os.access(FUSE, os.R_OK | os.W_OK):
        return Obstacle(
            f"{FUSE} may not be opened",
            "the administrator can allow it: `chmod 0666 /dev/fuse`, and in the jobs' control groups",
        )
    refused = machine.fuse(program)
    return (
        Obstacle(f"FUSE cannot be used here ({refused})", "`pinnace doctor` says more") if refused else None
    )


def _backend(settings: Settings, machine: Machine) -> tuple[Backend, str]:
    asked = settings["backend"]
    forced = f"backend = {asked} ({settings.origins['backend']})"
    if asked == Unpack.name:
        return Unpack(), forced
    program = squashfuse(settings)
    obstacle = squashfuse_obstacle(program, settings, machine)
    if obstacle is None:
        reason = forced if asked == Squashfuse.name else "FUSE can be used here"
        return Squashfuse(program, find("squashfuse", settings.basis)), reason
    if asked == Squashfuse.name:
        raise HostError(
            f"the backend squashfuse cannot be used: {obstacle.reason}",
            context=settings.origins["backend"],
            hint=f"{obstacle.cure}; or use the backend unpack",
            identifier="backend",
        )
    return Unpack(), f"squashfuse cannot be used: {obstacle.reason}"


def _overlay(settings: Settings, layer: Layer, machine: Machine) -> tuple[Overlay, str]:
    asked = settings["overlay"]
    forced = f"overlay = {asked} ({settings.origins['overlay']})"
    if asked == KernelOverlay.name:
        return KernelOverlay(), forced
    refused = machine.overlay(layer) if asked == "auto" else ""
    if asked == "auto" and not refused:
        return KernelOverlay(), "the kernel lays overlays for users"
    program = find(settings["fuse_overlayfs"] or "fuse-overlayfs", settings.basis)
    reason = f"the kernel refuses: {refused}" if refused else forced
    if not program:
        raise HostError(
            f"no overlay can be laid: {reason}, and fuse-overlayfs is not installed",
            hint="install the package fuse-overlayfs, or a kernel of at least 5.11 (tmpfs: 6.6)",
            identifier="overlay-missing",
        )
    return FuseOverlayfs(program), reason


def find(program: str, basis: Basis) -> str:
    """The absolute path of a program, or an empty string. Never one named by a job's own PATH."""
    for directory in SYSTEM_PATH.split(":"):
        path = os.path.join(directory, program)  # an absolute program stays as it is
        basis.file(path)
        if os.access(path, os.X_OK):
            return path
    return ""

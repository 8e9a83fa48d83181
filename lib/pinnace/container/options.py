"""What is asked of a container, whoever asks: the command line or a Slurm step."""

from __future__ import annotations

from collections.abc import Mapping

from pinnace.container.configured import Configured
from pinnace.container.mounts import Mount
from pinnace.tuples import NamedTuple


class Options(NamedTuple):
    """A container, before anything is decided about how it is made.

    ``image`` is the squashfs file. ``config`` is the ``config`` object of the OCI image
    configuration, or None for a squashfs file of unknown origin, whose variables are then read
    from its own ``/etc/environment``.
    """

    image: str
    config: Mapping[str, object] | None = None
    digest: str | None = None
    #: The directory that the image was unpacked to, for a backend that needs one.
    tree: str | None = None
    #: Files of the image belong to others than root.
    foreign_ids: bool = False
    #: What every container has here.
    configured: Configured = Configured()
    mounts: tuple[Mount, ...] = ()
    workdir: str | None = None
    remap_root: bool = False
    mount_home: bool = False
    writable: bool = False
    #: Namespaces that the container has for itself: ``net``, ``ipc``, ``uts``.
    unshare: tuple[str, ...] = ()
    #: Execute the image's entry point before the tasks of a step, and tell what it prints.
    entrypoint: bool = False
    entrypoint_log: bool = False
    #: Variables that the entry point gets besides those of the image.
    preserved: tuple[tuple[str, str], ...] = ()
    #: Descriptor that keeps the image in its store for as long as it is held.
    lease: int | None = None
    #: Tell what each phase of the start has taken.
    timings: bool = False

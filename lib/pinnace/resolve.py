"""From what a user named to an image that can be mounted. On the launch path."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pinnace import digest as digests
from pinnace import reference, squashfs, supply
from pinnace.config import Settings
from pinnace.errors import PinnaceError
from pinnace.store import Image, Store, leases
from pinnace.store.leases import Lease
from pinnace.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pinnace.progress import Progress
    from pinnace.store.retention import Jobs


class Found(NamedTuple):
    """A squashfs file and what is known of it; a user's own file has neither configuration nor digest.

    ``lease`` is a descriptor that keeps the file, or the ``tree`` that it was unpacked to, there for as long
    as it is open.
    """

    path: str
    config: Mapping[str, object] | None = None
    digest: str | None = None
    lease: int | None = None
    foreign_ids: bool = False
    tree: str | None = None


def find(
    text: str,
    *,
    settings: Settings,
    directory: str,
    platform: str | None = None,
    progress: Callable[[], Progress] | None = None,
    job: str = "",
    jobs: Jobs | None = None,
    unpack: bool = False,
) -> Found:
    """The image named by ``text``: a path (``./image.sqsh``, relative to ``directory``) or a reference.

    A reference that is not in the store is pulled first, shown by what ``progress`` gives. ``job``
    (see ``leases.job_name``) is the job whose further steps may want it; ``jobs`` asks Slurm which
    there are. With ``unpack`` it is given as a tree of plain directories. Raises what parsing, pulling
    and unpacking raise.
    """
    store = Store(settings["store"], settings.basis)
    lease = Lease(job, settings.basis)
    if reference.is_path(text):
        path = os.path.join(directory, text)
        if not os.path.isabs(text):
            settings.basis.directory = directory
        settings.basis.file(path)
        squashfs.check(path)
        if not unpack:
            path = _near(path, settings, lease, progress)
            return Found(path, lease=lease.descriptor, foreign_ids=not squashfs.is_all_root(path))
        made = _tree(path, store, settings, lease, progress, jobs)
        return Found(path, lease=lease.descriptor, tree=made)
    image = supply.ensure(
        reference.parse(text),
        store=store,
        settings=settings,
        platform=platform,
        progress=progress,
        hold=lease.take,
        jobs=jobs,
    )
    # The image is held until its tree, or its copy, is.
    path, tree = image.path, None
    if unpack:
        tree = _tree(image, store, settings, lease, progress, jobs)
    else:
        job_leases = leases.job_leases(image.store, digests.hex_of(image.digest))
        path = _near(path, settings, lease, progress, job_leases)
    return Found(path, image.config, image.digest, lease.descriptor, tree=tree)


def _near(
    path: str,
    settings: Settings,
    lease: Lease,
    progress: Callable[[], Progress] | None,
    job_leases: str = "",
) -> str:
    """The copy on this node of the file at ``path``, made if need be; ``path`` if there is to be none.

    Jobs' leases of an image of a store are at ``job_leases``.
    """
    if not settings["node_store"]:
        return path
    from pinnace.store import copies

    copy = copies.wanted(path, settings, leased=bool(job_leases))
    if copy is None:
        return path
    found = copies.take(copy, lease, settings.basis, job_leases)
    if found is not None:
        return found
    supply.load_site_packages()
    from pinnace.progress import Progress
    from pinnace.store import copying

    with (progress or Progress)() as display:
        try:
            return copying.make(copy, settings, lease, settings.basis, display, job_leases)
        except (PinnaceError, OSError) as error:
            settings.basis.refuse("the image could not be copied")
            display.message(f"{path} is used where it is: {error}")
            return path


def _tree(
    what: Image | str,
    store: Store,
    settings: Settings,
    lease: Lease,
    progress: Callable[[], Progress] | None,
    jobs: Jobs | None,
) -> str:
    """The user's tree of an image, or of the file at a path, unpacked if need be, held by ``lease``."""
    from pinnace.store import unpacked
    from pinnace.store.unpacked import Source

    source = Source.of_file(what) if isinstance(what, str) else Source.of_image(what)
    found = unpacked.take(store, source, lease)
    if found is not None:
        return found
    supply.load_site_packages()
    from pinnace.progress import Progress
    from pinnace.store import collection, trees

    with (progress or Progress)() as display:
        made = trees.make(source, store, settings, lease, display)
        if settings["gc_quota"]:
            report = collection.keep_quota(store, settings, jobs, supply.catalogue(store, settings))
            if report is not None and report.is_over:
                display.message(report.complaint())
    return made

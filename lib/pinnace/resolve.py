"""From what a user named to an image that can be mounted. On the launch path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from pinnace import reference, squashfs, supply
from pinnace.config import Settings
from pinnace.store import Store
from pinnace.store.leases import Lease

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pinnace.progress import Progress
    from pinnace.store.collection import Jobs


class Found(NamedTuple):
    """A squashfs file and what is known of it; a user's own file has neither configuration nor digest.

    ``lease`` is a descriptor that keeps an image of the store there for as long as it is open.
    """

    path: str
    config: Mapping[str, object] | None = None
    digest: str | None = None
    lease: int | None = None
    foreign_ids: bool = False


def find(
    text: str,
    *,
    settings: Settings,
    directory: str,
    platform: str | None = None,
    progress: Callable[[], Progress] | None = None,
    job: str = "",
    jobs: Jobs | None = None,
) -> Found:
    """The image named by ``text``: a path (``./image.sqsh``, relative to ``directory``) or a reference.

    A reference that is not in the store is pulled first, shown by what ``progress`` gives. ``job``
    (see ``leases.job_name``) is the job whose further steps may want it; ``jobs`` asks Slurm which
    there are. Raises what parsing and pulling raise.
    """
    if reference.is_path(text):
        path = os.path.join(directory, text)
        if not os.path.isabs(text):
            settings.basis.directory = directory
        settings.basis.file(path)
        squashfs.check(path)
        return Found(path, foreign_ids=not squashfs.is_all_root(path))
    lease = Lease(job, settings.basis)
    image = supply.ensure(
        reference.parse(text),
        store=Store(settings["store"], settings.basis),
        settings=settings,
        platform=platform,
        progress=progress,
        hold=lease.take,
        jobs=jobs,
    )
    return Found(image.path, image.config, image.digest, lease.descriptor)

"""From what a user names, a file or an image in a registry, to an image in the store."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from pinnace import pulls, supply
from pinnace import reference as references
from pinnace.config import Settings
from pinnace.errors import UsageError
from pinnace.layers import Format
from pinnace.progress import Progress
from pinnace.reference import Reference
from pinnace.sources import local, locations, platforms
from pinnace.store import Image, Store
from pinnace.store.leases import Lease

if TYPE_CHECKING:
    from pinnace.store.retention import Jobs


def fetch(
    text: str,
    *,
    store: Store,
    settings: Settings,
    progress: Callable[[], Progress],
    hold: Callable[[Image], bool] = bool,
    jobs: Jobs | None = None,
    name: str | None = None,
    platform: str | None = None,
) -> tuple[Reference, Image]:
    """The image that ``text`` means, made anew if it changed, and what it is called in the store.

    That is ``name`` if given, else what the file calls it, else ``localhost/FILE``. ``hold`` and
    ``jobs`` are those of ``supply.ensure``. Raises ReferenceError, RegistryError, ImageError, StoreError
    or HostError; the store is sound in each case.
    """
    location = locations.parse(text)
    if location is None:
        if name:
            raise UsageError(f"{text} has a name already", hint="--name is for images from files")
        parsed = references.parse(text)
        image = supply.ensure(
            parsed,
            store=store,
            settings=settings,
            hold=hold,
            jobs=jobs,
            platform=platform,
            progress=progress,
            refresh=True,
        )
        return parsed, image
    called = _checked(name) if name else None
    platform = platforms.parse(platform) if platform else platforms.host()
    supply.load_site_packages()
    with progress() as display:
        source = local.open_source(location, store.root, display.message, Format.of(settings))
        reference = called or local.reference_of(location, source)
        what = "standard input" if location.path == locations.STDIN else text
        pull = pulls.Pull(
            supply.catalogue(store, settings), settings, display, hold, source, _origin(location), what, jobs
        )
        return reference, pull.run(reference, platform)


def take(
    text: str,
    name: str | None,
    *,
    store: Store,
    settings: Settings,
    progress: Callable[[], Progress],
) -> list[tuple[Reference, Image]]:
    """The images of the file ``text``: an archive of a store, or what ``fetch`` takes.

    ``-`` is such an archive on standard input, and ``name`` what the only image is to be called. Raises
    what ``fetch`` raises.
    """
    from pinnace.store import archive  # most images come from elsewhere

    called = _checked(name) if name else None
    known = supply.catalogue(store, settings)
    form = Format.of(settings, streams=1)
    if text == locations.STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError("standard input is a terminal", hint="pipe an archive into the command")
        return archive.read(sys.stdin.buffer, "standard input", known, form, rename=called)
    if archive.is_archive(text):
        with open(text, "rb", buffering=0) as stream:
            return archive.read(stream, os.path.abspath(text), known, form, rename=called)
    # What has no transport is a file here, whatever it looks like.
    file = text if locations.parse(text) else os.path.join(".", text)
    with Lease() as lease:  # until its name is recorded
        return [fetch(file, store=store, settings=settings, progress=progress, name=name, hold=lease.take)]


def _checked(name: str) -> Reference:
    parsed = references.parse(name)
    if parsed.digest:
        raise UsageError(
            f"{name} holds a digest, which is not to be chosen", hint="write --name NAME or --name NAME:TAG"
        )
    return parsed


def _origin(location: locations.Location) -> str:
    if location.path == locations.STDIN:
        return "standard input"
    path = os.path.abspath(location.path)
    return str(locations.Location(location.transport or "file", path, location.image))

"""From an image reference to a finished squashfs file in the store. On the launch path.

look up in the store ─► if it is not there: pull (see ``pull``), or use what policy allows
"""

from __future__ import annotations

from pinnace import policies
from pinnace.config import Settings
from pinnace.errors import RegistryError, StoreError
from pinnace.reference import Reference
from pinnace.store import Image, Store

TYPE_CHECKING = False  # typing itself costs milliseconds of every start
if TYPE_CHECKING:  # all of it imported when something must be pulled
    from collections.abc import Callable
    from typing import Any

    from pinnace.progress import Progress
    from pinnace.sources import ImageSource
    from pinnace.store.retention import Jobs
    from pinnace.store.store import Catalogue


def ensure(
    reference: Reference,
    *,
    store: Store,
    settings: Settings,
    hold: Callable[[Image], bool] = bool,
    jobs: Jobs | None = None,
    platform: str | None = None,
    progress: Callable[[], Progress] | None = None,
    refresh: bool = False,
    source: ImageSource | None = None,
) -> Image:
    """The image that ``reference`` means for ``platform`` (this machine's unless given), pulled if need be.

    ``hold`` is called with the image before anybody could remove it, and tells whether it is still
    there (see ``store.leases``). ``jobs`` asks Slurm, should the quota make a collection necessary.
    The setting ``pull`` (see ``policies``) says when the registry is asked; it always is if
    ``refresh`` is set. If the digest is as before nothing more is fetched. ``progress`` is called
    once a registry has to be asked, and closed at the end; nothing is said without it. Raises
    RegistryError, ImageError, StoreError or HostError; the store is sound in each case.
    """
    from pinnace.sources import platforms

    platform = platforms.parse(platform) if platform else platforms.host()
    known = catalogue(store, settings)
    if not refresh:
        image = known.lookup(reference, platform, policies.lifetime(settings))
        if image is not None and hold(image):
            return image
        if settings["pull"] == policies.NEVER:
            raise policies.not_cached(reference, platform, known)
    settings.basis.refuse("the image has just been pulled")
    load_site_packages()
    from pinnace.credentials import dumps
    from pinnace.progress import Progress
    from pinnace.pulls import Pull

    with (progress or Progress)() as display, dumps.forbidden():
        try:
            return Pull(known, settings, display, hold, source, jobs=jobs).run(reference, platform)
        except RegistryError as error:
            if refresh:
                raise policies.suggesting(error, reference) from None
            return policies.instead(error, reference, platform, known, settings, display, hold)


def catalogue(store: Catalogue, settings: Settings) -> Catalogue:
    """``store`` and the additional ones of the settings, to look things up in."""
    additional = settings["additional_stores"]
    if not additional or store.own is not store:
        return store
    from pinnace.store.stack import StackedStore

    return StackedStore(store.own, additional)


def describe(text: str, settings: Settings, platform: str | None = None) -> dict[str, Any]:
    """What is known of an image in the store or of a squashfs file, as data.

    Raises StoreError if the image is not in the store, ImageError if the file is none.
    """
    from pinnace import squashfs
    from pinnace.reference import is_path, parse

    if is_path(text):
        return {"path": text, **squashfs.check(text)._asdict()}
    store = catalogue(Store(settings["store"]), settings)
    image = recorded(store, parse(text), platform)
    return {**image.as_dict(), "store": image.store}


def recorded(store: Catalogue, reference: Reference, platform: str | None = None) -> Image:
    """The image that ``reference`` meant last. Raises StoreError if it is not in the store."""
    from pinnace.sources import platforms

    platform = platforms.parse(platform) if platform else platforms.host()
    image = store.lookup(reference, platform, float("inf"))
    if image is None:
        raise StoreError(
            f"{reference} is not in the store",
            context=store.root,
            hint=f"`pinnace pull {reference}` gets it",
            identifier="not-in-store",
        )
    return image


def load_site_packages() -> None:
    """The launch path starts Python with -S, for speed; what pulls needs third-party packages."""
    import sys

    if sys.flags.no_site:
        import site

        site.main()

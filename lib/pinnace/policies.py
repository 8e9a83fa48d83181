"""Pull policies: which images are used without asking a registry, and what is said when none can be asked.

``always`` asks the registry each time, ``if-missing`` if the tag was resolved longer ago than
``tag_ttl``, ``never`` not at all. An image given by its digest, or imported from a file, is never asked for.
"""

from __future__ import annotations

from pinnace.errors import PinnaceError, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pinnace.config import Settings
    from pinnace.progress import Progress
    from pinnace.reference import Reference
    from pinnace.store import Image
    from pinnace.store.store import Catalogue

_FOREVER = float("inf")
ALWAYS, IF_MISSING, NEVER = "always", "if-missing", "never"

#: A registry that fails so says nothing of the image: what is cached is as good as it was.
_PASSING = frozenset(("registry-unreachable", "registry-unavailable", "registry-rate-limit"))


def lifetime(settings: Settings) -> float:
    """Seconds for which a tag's digest is taken without asking."""
    if settings["pull"] == ALWAYS:
        return 0.0
    return _FOREVER if settings["pull"] == NEVER else float(settings["tag_ttl"])


def not_cached(reference: Reference, platform: str, store: Catalogue) -> StoreError:
    """The error for an image that is not in the store while nothing may be pulled."""
    import difflib

    names = [resolution.reference for resolution in store.resolutions() if resolution.platform == platform]
    own = [name for name in names if name.startswith((f"{reference.name}:", f"{reference.name}@"))]
    near = own or difflib.get_close_matches(str(reference), names, 3, 0.4) or names[:3]
    have = f"it has {', '.join(near[:3])}" if near else "it is empty"
    return StoreError(
        f"{reference} is not in the store and nothing is to be pulled (pull = {NEVER})",
        context=f"{store.root}; {have}",
        hint=f"`pinnace pull {reference}` gets it",
        identifier="not-in-store",
    )


def instead(
    error: PinnaceError,
    reference: Reference,
    platform: str,
    store: Catalogue,
    settings: Settings,
    display: Progress,
    hold: Callable[[Image], bool],
) -> Image:
    """The image to use after ``error``, held, with a word about it. Raises ``error`` if there is none."""
    image = store.lookup(reference, platform, _FOREVER)
    usable = image is not None and settings["pull"] == IF_MISSING and error.identifier in _PASSING
    if image is None or not usable or not hold(image):
        raise suggesting(error, reference) from None
    import time

    known = store.resolution(reference, platform)
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(known.time if known else image.created_at))
    display.message(f"{error.message}: using {reference} as it was on {when}")
    return image


def suggesting(error: PinnaceError, reference: Reference) -> PinnaceError:
    """``error`` with what the user may have meant instead of ``reference``."""
    from pinnace import mistakes
    from pinnace.reference import DOCKER_HUB

    if reference.registry == "localhost":
        error.hint = "`pinnace images` lists what was imported"
    elif reference.registry == DOCKER_HUB and error.identifier != "registry-login-rejected":
        hint = mistakes.at_docker_hub(reference.repository, reference.tag)
        keep = error.hint if error.identifier in _PASSING else None
        error.hint = "; ".join(filter(None, (hint, keep))) or error.hint
    return error

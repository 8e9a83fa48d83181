"""Images that are kept whatever their age: ``pins/<manifest digest>``, who pinned one and when.

A pin is the digest's, not the file's: it stays when the image is removed, and holds when it is pulled again.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass

from pinnace import digest as digests
from pinnace import documents, locks
from pinnace.errors import StoreError
from pinnace.layers import Format
from pinnace.reference import parse
from pinnace.sources import platforms
from pinnace.store.build import workspace
from pinnace.store.directories import PINS
from pinnace.store.images import Origin
from pinnace.store.store import Store

#: As many digits as `pinnace images` shows are enough to name an image.
_DIGITS = 12


@dataclass(frozen=True)
class Pin:
    """``reference`` is what was asked to be pinned, ``time`` in seconds since 1970."""

    digest: str
    reference: str = ""
    user: str = ""
    time: float = 0.0

    @classmethod
    def from_json(cls, content: bytes, digest: str) -> Pin:
        """A pin is one by its name alone: what cannot be read of it is left out."""
        try:
            facts = documents.parse(content)
            return cls(digest, str(facts["reference"]), str(facts["user"]), float(facts["time"]))
        except (ValueError, KeyError, TypeError, OverflowError):
            return cls(digest)


def named(store: Store, text: str) -> str:
    """The digest that ``text`` means: a digest, its first digits, or a reference.

    Raises ReferenceError or StoreError.
    """
    digits = text.removeprefix(digests.PREFIX)
    if digests.is_hex(digits):
        return digests.PREFIX + digits
    known = {image.digest for image in store.images()} | {digests.PREFIX + name for name in _names(store)}
    found = [digest for digest in known if digests.hex_of(digest).startswith(digits)]
    if len(digits) >= _DIGITS and len(found) == 1:
        return found[0]
    reference = parse(text)
    resolution = store.resolution(reference, platforms.host())
    digest = resolution.digest if resolution else reference.digest
    if digest is None:
        raise _not_there(store, str(reference))
    return digest


def path(store: Store, digest: str) -> str:
    """Where the pin of an image lies."""
    return os.path.join(store.root, PINS, digests.hex_of(digest))


def is_pinned(store: Store, digest: str) -> bool:
    """Whether nobody may remove the image as an unused one."""
    return os.path.lexists(path(store, digest))


def pin(store: Store, digest: str, reference: str, form: Format) -> Pin:
    """Keep the image with this manifest digest. Raises StoreError if it is not in the store."""
    made = Pin(digest, reference, Origin.here("", "").user, time.time())
    # Whoever removes the image has this lock, so that it is kept from now on or gone already.
    with workspace(store, form) as place, locks.held(store.lock_path("image", digest)):
        if store.image(digest) is None:
            raise _not_there(store, reference)
        place.put(path(store, digest), json.dumps(asdict(made), indent=1, sort_keys=True).encode())
    return made


def unpin(store: Store, digest: str) -> bool:
    """Let the image go when it is not used any more. False: it was not pinned."""
    try:
        os.unlink(path(store, digest))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"cannot remove {path(store, digest)}: {error.strerror}") from None
    return True


def _names(store: Store) -> list[str]:
    try:
        return [name for name in os.listdir(os.path.join(store.root, PINS)) if digests.is_hex(name)]
    except OSError:
        return []


def _not_there(store: Store, what: str) -> StoreError:
    return StoreError(
        f"{what} is not in the store",
        context=store.root,
        hint=f"`pinnace pull {what}` gets it",
        identifier="not-in-store",
    )

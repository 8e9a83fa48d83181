"""What lies in a store, and what each part of it takes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from pinnace import digest as digests
from pinnace import documents
from pinnace.store import leases
from pinnace.store.directories import IMAGES, LAYERS, PINS, Opened
from pinnace.store.images import BUILD_FORMAT, Image
from pinnace.store.pins import Pin
from pinnace.store.trees import stored_trees
from pinnace.store.usage import Account, Usage


@dataclass
class Stored:
    """An image file, its record, or both. ``image`` is None if they do not make an image.

    ``foreign``: the record is of another version's format; it is not ours to judge. ``used_at`` is
    the time of the last use in seconds since 1970, ``layers`` the digits of what it was made from.
    """

    name: str
    image: Image | None = None
    file: Usage | None = None
    used_at: float = 0.0
    layers: tuple[str, ...] = ()
    foreign: bool = False
    references: list[str] = field(default_factory=list)
    pin: Pin | None = None

    @property
    def digest(self) -> str:
        return digests.PREFIX + self.name


class Inventory:
    """The images, layers and trees of a store as they are now.

    ``layers`` are files by the digits of their names.
    """

    def __init__(self, opened: Opened) -> None:
        self.images: dict[str, Stored] = {}
        self.layers: dict[str, Usage] = {}
        self.trees = {tree.name: tree for tree in stored_trees(opened)}
        for name in _digits(opened.files(LAYERS), ".sqsh"):
            found = opened.look(LAYERS, f"{name}.sqsh")
            if found is not None:
                self.layers[name] = found[0]
        for name in image_names(opened):
            self.images[name] = stored(opened, name)
        for name in opened.files(PINS):
            if name in self.images:
                content = opened.read(PINS, name) or b""
                self.images[name].pin = Pin.from_json(content, digests.PREFIX + name)
        for _, resolution in opened.resolutions():
            image = self.images.get(digests.hex_of(resolution.digest))
            if image is not None:
                image.references.append(resolution.reference)

    def layer_users(self) -> dict[str, set[str]]:
        """The images that each layer belongs to."""
        users: dict[str, set[str]] = {}
        for name, image in self.images.items():
            for layer in image.layers:
                users.setdefault(layer, set()).add(name)
        return users

    def files(self, image: Stored, without: dict[str, set[str]]) -> list[Usage]:
        """The files that go with an image: its own, and layers whose users, in ``without``, it alone is."""
        layers = [name for name in image.layers if without.get(name) == {image.name}]
        own = [image.file] if image.file is not None else []
        return own + [self.layers[name] for name in layers if name in self.layers]


def account(opened: Opened) -> Account:
    """The bytes that all of the store takes. Leases take none; others' files there are not counted."""
    files = [file for part, file in opened.usages() if part != leases.DIRECTORY]
    return Account([*files, *(tree.usage for tree in stored_trees(opened))])


def stored(opened: Opened, name: str) -> Stored:
    """The image of these digits as it is now."""
    found = Stored(name)
    file = opened.look(IMAGES, f"{name}.sqsh")
    if file is not None:
        found.file, status = file
        found.used_at = _last(status.st_atime, status.st_mtime)
    content = opened.read(IMAGES, f"{name}.json")
    if content is None:
        return found
    try:
        facts = documents.parse(content)
        found.foreign = facts["format"] != BUILD_FORMAT
        layers = facts["layers"]
        found.layers = tuple(
            dict.fromkeys(digests.hex_of(layer) for layer in layers if digests.is_digest(layer))
        )
        if not found.foreign:
            image = Image.from_json(content, "")
            if image.digest == found.digest and found.file is not None and image.size == found.file.size:
                found.image = image
                found.used_at = _last(found.used_at, image.created_at)
    except (ValueError, KeyError, TypeError):
        pass
    return found


def _last(*times: float) -> float:
    """The last of some times. One that is to come is a clock's that was wrong, and would never be over."""
    now = time.time() + leases.SKEW
    return max((moment for moment in times if moment <= now), default=min(times))


def image_names(opened: Opened) -> list[str]:
    """The digits of every image of which there is a file or a record."""
    files = opened.files(IMAGES)
    return sorted({*_digits(files, ".sqsh"), *_digits(files, ".json")})


def _digits(names: Iterable[str], suffix: str) -> list[str]:
    return [
        name[: -len(suffix)]
        for name in names
        if name.endswith(suffix) and digests.is_hex(name[: -len(suffix)])
    ]

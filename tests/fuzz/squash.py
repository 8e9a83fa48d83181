"""Changes of squashfs files, of which an input holds one or a few: each after its length in four bytes.

Metadata that is compressed hides behind its compression what follows from a change. So most seeds
have theirs uncompressed, and it is the metadata that is changed.
"""

from __future__ import annotations

import re
import struct
from random import Random

from fuzz.mutations import Plain, json_text, number

_SUPERBLOCK = 96
#: Where the superblock's fields are, and their bytes.
_FIELDS = (
    *((4 * index, 4) for index in range(5)),
    *((20 + 2 * index, 2) for index in range(6)),
    *((32 + 8 * index, 8) for index in range(8)),
)
#: A layer's index, with room.
_ACTIONS = re.compile(rb'\[\["[^\n]*')
_WORDS = ("put", "link", "0", "1", "2", "a", "a/b", "a/b/c", ".", "..", "", "/", "a//b", "l/x", ".wh.a", "\0")


def split(data: bytes) -> list[bytes]:
    """The images of an input; what is left over is the last one."""
    images: list[bytes] = []
    while len(data) >= 4 and len(images) < 4:
        length = int.from_bytes(data[:4], "little")
        images.append(data[4 : 4 + length])
        data = data[4 + length :]
    return images or [data]


def joined(images: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(image)) + image for image in images)


def mutated(data: bytes, rng: Random, change: Plain) -> bytes:
    """``data`` with one of its images changed."""
    images = split(data)
    place = rng.randrange(len(images))
    what = rng.randrange(12)
    if what == 0:
        images.insert(rng.randrange(len(images) + 1), images[place])
        del images[4:]
    elif what == 1 and len(images) > 1:
        images.append(images.pop(place))
    elif what == 2:
        images[place] = change(images[place])
    elif what < 6 and _ACTIONS.search(images[place]):
        images[place] = _ACTIONS.sub(lambda found: _actions(found[0], rng, change), images[place])
    else:
        images[place] = _changed(images[place], rng, change)
    return joined(images)


def crossed(one: bytes, other: bytes, rng: Random) -> bytes:
    """Some images of each."""
    first, second = split(one), split(other)
    first[rng.randrange(len(first) + 1) :] = second[rng.randrange(len(second)) :]
    return joined(first[:4])


def _actions(text: bytes, rng: Random, change: Plain) -> bytes:
    """The index of a layer, as long as it was."""
    changed = json_text(text, rng, change, _WORDS)
    return changed.ljust(len(text)) if len(changed) <= len(text) else text


def _changed(image: bytes, rng: Random, change: Plain) -> bytes:
    found = bytearray(image)
    if len(found) < _SUPERBLOCK:
        return change(image)
    start = int.from_bytes(found[64:72], "little")
    if not _SUPERBLOCK <= start < len(found):
        start = _SUPERBLOCK
    if start >= len(found):
        return change(image)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        what = rng.randrange(10)
        place = rng.randrange(start, len(found))
        width = rng.choice((1, 2, 2, 4, 4, 8))
        if what == 0:
            place, width = rng.choice(_FIELDS)
            _put(found, place, width, number(rng, width))
        elif what == 1:  # a table where another one is
            place, width = rng.choice(_FIELDS[11:])
            other, _ = rng.choice(_FIELDS[11:])
            shift = rng.choice((0, 0, -2, 2, -8, 8, 16))
            value = int.from_bytes(found[other : other + 8], "little") + shift
            _put(found, place, width, value % (1 << 64))
        elif what in (2, 3):
            other = rng.randrange(start, len(found))
            found[place : place + width] = found[other : other + width]
        elif what in (4, 5, 6):
            _put(found, place, width, number(rng, width))
        elif what == 7:
            value = int.from_bytes(found[place : place + width], "little") + rng.choice(
                (-16, -4, -1, 1, 4, 16)
            )
            _put(found, place, width, value % (1 << 8 * width))
        elif what == 8:
            length = rng.choice((4, 16, 32, 64))
            found[place : place + length] = change(bytes(found[place : place + length]))
        else:
            del found[rng.randrange(len(found)) :]
            if len(found) <= start:
                break
    return bytes(found)


def _put(found: bytearray, place: int, width: int, value: int) -> None:
    found[place : place + width] = value.to_bytes(width, "little")[: len(found) - place]

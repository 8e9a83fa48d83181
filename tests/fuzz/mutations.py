"""Changes of bytes, numbers and JSON. All of it is a function of the random generator."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

#: Changes some bytes without knowing what they mean: atheris's, which learns from coverage, or ``plain``.
Plain = Callable[[bytes], bytes]

_EDGES = (0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF)


def plain(rng: Random) -> Plain:
    """A ``Plain`` that learns nothing."""

    def change(data: bytes) -> bytes:
        found = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            place = rng.randrange(len(found) + 1)
            length = rng.choice((1, 1, 2, 4, 8, 32))
            what = rng.randrange(5)
            if what == 0:
                found[place : place + length] = rng.randbytes(length)
            elif what == 1:
                del found[place : place + length]
            elif what == 2:
                found[place:place] = bytes([rng.choice(_EDGES)]) * length
            elif what == 3 and found:
                other = rng.randrange(len(found))
                found[place : place + length] = found[other : other + length]
            elif place < len(found):
                found[place] ^= 1 << rng.randrange(8)
        return bytes(found)

    return change


def number(rng: Random, width: int) -> int:
    """A number of ``width`` bytes, most often near an edge."""
    top = 1 << 8 * width
    near = rng.choice((0, 1 << rng.randrange(8 * width), top))
    return (near + rng.choice((-1, 0, 0, 1, rng.randrange(-300, 300)))) % top


def json_value(document: Any, rng: Random, change: Plain, words: tuple[str, ...]) -> Any:
    """``document`` with one or a few of its values changed; ``words`` are strings worth trying."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        places: list[tuple[Any, Any]] = [(box := [document], 0)]
        for container, key in places:
            value = container[key]
            if isinstance(value, dict):
                places += [(value, name) for name in value]
            elif isinstance(value, list):
                places += [(value, index) for index in range(len(value))]
            if len(places) > 500:
                break
        container, key = rng.choice(places)
        what = rng.randrange(6)
        if what == 0 and container is not box:
            del container[key]
        elif what == 1 and isinstance(container[key], dict):
            container[key][rng.choice(words)] = _copy(rng.choice(places))
        elif what == 2 and isinstance(container[key], list):
            container[key] += [_copy(rng.choice(places))] * rng.choice((1, 2, 100))
        elif what == 3 and isinstance(container[key], str):
            container[key] = change(container[key].encode("utf-8", "surrogatepass")).decode(
                "utf-8", rng.choice(("replace", "surrogateescape"))
            )
        elif what == 4:
            container[key] = _copy(rng.choice(places))
        else:
            container[key] = _odd(rng, words)
        document = box[0]
    return document


def _copy(place: tuple[Any, Any]) -> Any:
    container, key = place
    return json.loads(json.dumps(container[key]))


def _odd(rng: Random, words: tuple[str, ...]) -> Any:
    nested: Any = []
    for _ in range(rng.choice((1, 50, 900, 3000)) if rng.random() < 0.1 else 1):
        nested = [nested] if rng.random() < 0.5 else {"a": nested}
    odd = [None, True, 0, -1, 1 << 63, 1e999, -0.5, "", "\0", "\ud800", "\udcff", "\n", [], {}, nested]
    return rng.choice((rng.choice(odd), rng.choice(words)))


def json_text(data: bytes, rng: Random, change: Plain, words: tuple[str, ...]) -> bytes:
    """The JSON text ``data`` with values changed; with bytes changed if it is none."""
    try:
        document = json_value(json.loads(data), rng, change, words)
        return json.dumps(document, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return change(data)

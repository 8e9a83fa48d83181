"""Each stage of a pull by itself, over all layers.

One layer after the other, as a stage of a pipeline has them; tar2sqfs has all processors for each.

Run by the user, with the Python and the library of the installed Pinnace:
    alone.py LIBRARY REFERENCE DIRECTORY STAGE
``prepare`` has to come first: it leaves in DIRECTORY what each stage begins with, taken from the
store where the image is, and prints facts of it as JSON. What a stage makes is written below
DIRECTORY/made, which is to be empty.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_PIECE = 256 << 10


def main() -> None:
    library, reference, directory, stage = sys.argv[1:]
    sys.path.insert(0, library)
    place = Path(directory)
    if stage == "prepare":
        facts = prepare(reference, place)
        (place / "facts.json").write_text(json.dumps(facts))
        print(json.dumps(facts))
        return
    facts = json.loads((place / "facts.json").read_text())
    STAGES[stage](facts, place)


def prepare(text: str, place: Path) -> dict[str, Any]:
    from pinnace import config, reference, squashfs
    from pinnace.layers.decompression import decompressed
    from pinnace.sources import platforms
    from pinnace.sources.registry import RegistrySource
    from pinnace.store import Store

    settings = config.load()
    named = reference.parse(text)
    source = RegistrySource.of(named, settings)
    image = source.resolve(named, platforms.host())
    stored = Store(settings["store"]).lookup(named, platforms.host(), float("inf"))
    assert stored is not None, "the image has to be pulled first"

    def layer(number: int) -> dict[str, Any]:
        blob = image.layers[number]
        packed, plain = _packed(place, number), _plain(place, number)
        _write(packed, source.open(image, blob))
        _write(plain, decompressed(_pieces(packed), ""))
        own = Path(settings["store"], "layers", *blob.diff_id.split(":")).with_suffix(".sqsh")
        os.link(own, _squashed(place, number))
        return {
            "packed": blob.size,
            "plain": plain.stat().st_size,
            "url": f"/v2/{named.repository}/blobs/{blob.digest}",
        }

    workers = min(len(image.layers), settings["connections"])
    with ThreadPoolExecutor(workers) as pool:
        layers = list(pool.map(layer, range(len(image.layers))))
    return {
        "host": named.registry,
        "layers": layers,
        "workers": workers,
        "inodes": squashfs.check(stored.path).inodes,
        "inflate": "isal" if "isal" in sys.modules else "zlib",
    }


def _download(facts: dict[str, Any], place: Path) -> None:
    def one(number: int) -> None:
        connection = http.client.HTTPConnection(facts["host"])
        connection.request("GET", facts["layers"][number]["url"])
        response = connection.getresponse()
        buffer = bytearray(_PIECE)
        while response.readinto(buffer):
            pass
        connection.close()

    _each(facts, one)


def _verify(facts: dict[str, Any], place: Path) -> None:
    _each(facts, lambda number: _hash(_packed(place, number)))


def _decompress(facts: dict[str, Any], place: Path) -> None:
    from pinnace.layers.decompression import decompressed

    _each(facts, lambda number: deque(decompressed(_pieces(_packed(place, number)), ""), 0))


def _identify(facts: dict[str, Any], place: Path) -> None:
    _each(facts, lambda number: _hash(_plain(place, number)))


def _check(facts: dict[str, Any], place: Path) -> None:
    from pinnace.layers import tar
    from pinnace.layers.filter import Filter
    from pinnace.layers.stream import ByteStream

    def one(number: int) -> None:
        stream = ByteStream(_pieces(_plain(place, number)))
        layer_filter = Filter("")
        for entry in tar.entries(stream, ""):
            layer_filter.admit(entry)
            stream.skip(entry.size + tar.padding(entry.size))

    _each(facts, one)


def _squash(facts: dict[str, Any], place: Path) -> None:
    from pinnace import config
    from pinnace.layers import Format

    form = Format.of(config.load(), streams=1)

    def one(number: int) -> None:
        target = place / "made" / f"{number}.sqsh"
        command = ["tar2sqfs", "--quiet", "--force", "--no-skip", *form.options(), str(target)]
        with _plain(place, number).open("rb") as stream:
            subprocess.run(command, stdin=stream, check=True, stderr=subprocess.DEVNULL)
        with target.open("rb") as stream:
            os.fsync(stream.fileno())  # as a pull does

    _each(facts, one)


def _assemble(facts: dict[str, Any], place: Path) -> None:
    from pinnace import config
    from pinnace.layers import Format, assemble

    files = [str(_squashed(place, number)) for number in range(len(facts["layers"]))]
    target = place / "made" / "image.sqsh"
    assemble(files, str(target), Format.of(config.load(), streams=1))
    with target.open("rb") as stream:
        os.fsync(stream.fileno())


STAGES: dict[str, Callable[[dict[str, Any], Path], None]] = {
    "download": _download,
    "verify": _verify,
    "decompress": _decompress,
    "diff-ID": _identify,
    "check": _check,
    "tar2sqfs": _squash,
    "assembly": _assemble,
}


def _each(facts: dict[str, Any], one: Callable[[int], Any]) -> None:
    """Do ``one`` for the number of each layer."""
    for number in range(len(facts["layers"])):
        one(number)


def _packed(place: Path, number: int) -> Path:
    return place / f"{number}.packed"


def _plain(place: Path, number: int) -> Path:
    return place / f"{number}.tar"


def _squashed(place: Path, number: int) -> Path:
    return place / f"{number}.sqsh"


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            yield piece


def _hash(path: Path) -> None:
    state = hashlib.sha256()
    for piece in _pieces(path):
        state.update(piece)


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    with path.open("wb") as stream:
        for piece in pieces:
            stream.write(piece)


if __name__ == "__main__":
    main()

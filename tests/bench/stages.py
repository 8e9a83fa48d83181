"""The stages of a pull, each with those before it, layer by layer; and single ones on data at hand.

Run by the user, with the Python and the library of the installed Pinnace:
    stages.py LIBRARY REFERENCE DIRECTORY
Prints {"layers": [[compressed bytes, tar bytes], …], "stages": {NAME: [seconds of each layer]}}.
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

_PIECE = 256 << 10


def main() -> None:
    library, reference, directory = sys.argv[1:]
    sys.path.insert(0, library)
    print(json.dumps(measure(reference, Path(directory))))


def measure(text: str, directory: Path) -> dict[str, Any]:
    from pinnace import config, reference
    from pinnace.layers import Format, Limits, assemble, conversion
    from pinnace.layers.decompression import decompressed
    from pinnace.sources import platforms
    from pinnace.sources.registry import RegistrySource

    settings = config.load()
    named = reference.parse(text)
    source = RegistrySource.of(named, settings)
    image = source.resolve(named, platforms.host())
    form = Format.of(settings, streams=1)
    limits = Limits(settings["max_layer_size"])
    stages: dict[str, list[float]] = {}
    sizes = []
    files = []

    def timed(name: str, action: Callable[[], Any]) -> None:
        begin = time.perf_counter()
        action()
        stages.setdefault(name, []).append(time.perf_counter() - begin)

    for number, layer in enumerate(image.layers):
        blob = functools.partial(source.open, image, layer)
        convert = functools.partial(conversion.convert, diff_id=layer.diff_id, form=form, limits=limits)
        target = str(directory / f"{number}.sqsh")
        url = f"/v2/{named.repository}/blobs/{layer.digest}"
        timed("download", lambda: deque(_download(named.registry, url), 0))  # noqa: B023
        timed("download, verify", lambda: deque(blob(), 0))  # noqa: B023
        timed("download, verify, decompress", lambda: deque(decompressed(blob(), ""), 0))  # noqa: B023
        with mock.patch.object(conversion, "SquashWriter", _Nowhere):
            timed("download … check of entries", lambda: convert(blob(), target=target))  # noqa: B023
        timed("download … tar2sqfs", lambda: convert(blob(), target=target))  # noqa: B023
        files.append(target)

        packed, plain = directory / "layer.packed", directory / "layer.tar"
        _write(packed, blob())
        timed("verify alone", lambda: _hash(packed))  # noqa: B023
        timed("decompress alone", lambda: deque(decompressed(_pieces(packed), ""), 0))  # noqa: B023
        _write(plain, decompressed(_pieces(packed), ""))
        sizes.append([layer.size, plain.stat().st_size])
        timed("tar2sqfs alone", lambda: _tar2sqfs(plain, form.options(), target + ".alone"))  # noqa: B023
        for path in (packed, plain, Path(target + ".alone")):
            path.unlink()
    timed("assembly", lambda: assemble(files, str(directory / "image.sqsh"), form))
    return {"layers": sizes, "stages": stages}


class _Nowhere:
    """Takes what a SquashWriter takes."""

    def __init__(self, target: str, form: object) -> None:
        pass

    def __enter__(self) -> _Nowhere:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, data: bytes) -> None:
        pass

    def add(self, entry: object, body: bytes = b"") -> None:
        pass


def _download(host: str, url: str) -> Iterator[bytes]:
    connection = http.client.HTTPConnection(host)
    connection.request("GET", url)
    response = connection.getresponse()
    while piece := response.read(_PIECE):
        yield piece
    connection.close()


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


def _tar2sqfs(source: Path, options: list[str], target: str) -> None:
    command = ["tar2sqfs", "--quiet", "--force", "--no-skip", *options, target]
    with source.open("rb") as stream:
        subprocess.run(command, stdin=stream, check=True, stderr=subprocess.DEVNULL)
    with Path(target).open("rb") as stream:
        os.fsync(stream.fileno())  # as a pull does


if __name__ == "__main__":
    main()

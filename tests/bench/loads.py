"""What programs ask of the files of a container, timed inside: run by the image's own Python.

    python3 -I -c TEXT LOAD
prints the seconds that LOAD took, without what had to be found out before.
Standard library alone, but for PyTorch, which is to be imported.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
import time
from collections.abc import Callable, Iterator

_TOP = "/usr"
_STATS = 20_000
_SMALL, _SMALL_FILES = 16 << 10, 5_000
_PIECE = 1 << 20
_PAGE, _READS = 4096, 1_000


def main() -> None:
    act = LOADS[sys.argv[1]]()
    begin = time.perf_counter()
    act()
    print(time.perf_counter() - begin)


def _stat() -> Callable[[], object]:
    return lambda: sum(1 for _ in itertools.islice(_files(_TOP), _STATS))


def _small() -> Callable[[], object]:
    small = (path for path, status in _regular() if 0 < status.st_size <= _SMALL)
    paths = list(itertools.islice(small, _SMALL_FILES))

    def read() -> None:
        for path in paths:
            with open(path, "rb") as stream:
                stream.read()

    return read


def _sequential() -> Callable[[], object]:
    path = _largest()

    def read() -> None:
        buffer = bytearray(_PIECE)
        with open(path, "rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass

    return read


def _random() -> Callable[[], object]:
    path, rng = _largest(), random.Random(0)
    pages = os.stat(path).st_size // _PAGE
    places = [rng.randrange(pages) * _PAGE for _ in range(_READS)]

    def read() -> None:
        with open(path, "rb", buffering=0) as stream:
            for place in places:
                os.pread(stream.fileno(), _PAGE, place)

    return read


def _import() -> Callable[[], object]:
    return lambda: __import__("torch")


LOADS: dict[str, Callable[[], Callable[[], object]]] = {
    "stat": _stat,
    "small": _small,
    "sequential": _sequential,
    "random": _random,
    "torch": _import,
}


def _files(top: str) -> Iterator[tuple[str, os.stat_result]]:
    """What is below ``top``, each directory before what is in it, in the order of their names."""
    directories = [top]
    while directories:
        path = directories.pop()
        for name in sorted(os.listdir(path)):
            inner = f"{path}/{name}"
            status = os.lstat(inner)
            if status.st_mode & 0o170000 == 0o040000:
                directories.append(inner)
            yield inner, status


def _regular() -> Iterator[tuple[str, os.stat_result]]:
    return ((path, status) for path, status in _files(_TOP) if status.st_mode & 0o170000 == 0o100000)


def _largest() -> str:
    return max(_regular(), key=lambda entry: entry[1].st_size)[0]


if __name__ == "__main__":
    main()

"""A squashfs file's tree as the kernel, squashfuse and unsquashfs show it. The kernel's needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from integration.registry import run


@contextmanager
def kernel(image: Path, place: Path) -> Iterator[Path]:
    place.mkdir()
    run("mount", "-t", "squashfs", "-o", "loop,ro", str(image), str(place))
    try:
        yield place
    finally:
        run("umount", str(place))


@contextmanager
def squashfuse_ll(image: Path, place: Path) -> Iterator[Path]:
    with _served("squashfuse_ll", image, place):
        yield place


@contextmanager
def squashfuse(image: Path, place: Path) -> Iterator[Path]:
    with _served("squashfuse", image, place):
        yield place


@contextmanager
def unsquashfs(image: Path, place: Path) -> Iterator[Path]:
    run("unsquashfs", "-q", "-n", "-d", str(place), str(image))
    yield place


@contextmanager
def _served(program: str, image: Path, place: Path) -> Iterator[None]:
    place.mkdir()
    with subprocess.Popen([program, "-f", str(image), str(place)], stderr=subprocess.PIPE) as server:
        while not os.path.ismount(place) and server.poll() is None:
            os.sched_yield()
        try:
            yield
        finally:
            run("umount", str(place))
            server.wait()


View = Callable[[Path, Path], AbstractContextManager[Path]]
#: ``squashfuse``, unlike the others, shows hard links as files of their own.
VIEWS: tuple[View, ...] = (kernel, squashfuse_ll, unsquashfs)

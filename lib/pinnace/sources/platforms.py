"""Platforms: ``OS/ARCHITECTURE[/VARIANT]`` with Go's names, as in image indexes."""

from __future__ import annotations

import os
import re

from pinnace.errors import HostError, UsageError

_MACHINES = {
    "x86_64": "amd64",
    "amd64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}
_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9]+(/[a-z0-9.]+)?")


def host() -> str:
    """This machine's platform. Raises HostError if images have no name for its processor."""
    machine = os.uname().machine
    if machine not in _MACHINES:
        raise HostError(f"there are no images for {machine} machines", identifier="unknown-architecture")
    return f"linux/{_MACHINES[machine]}"


def parse(text: str) -> str:
    """The platform that a user means by ``text``: ``arm64`` or ``linux/arm64``. Raises UsageError."""
    platform = text if "/" in text else f"linux/{_MACHINES.get(text, text)}"
    if not _PLATFORM.fullmatch(platform):
        raise UsageError(f"{text!r} is no platform", hint="write linux/amd64 or linux/arm64")
    return platform


def matches(offered: str, wanted: str) -> bool:
    """Whether an image for ``offered`` may stand for ``wanted``."""
    return _split(offered)[:2] == _split(wanted)[:2] and rank(offered, wanted) < _NEVER


_NEVER = 9


def rank(offered: str, wanted: str) -> int:
    """How well two platforms of the same architecture agree: 0 is best, 9 not at all."""
    variant, want = _split(offered)[2], _split(wanted)[2]
    if variant == want:
        return 0
    if not want:
        # arm64 has one variant in practice; of amd64's levels only the first runs everywhere.
        return {"v8": 1, "v1": 1}.get(variant, _NEVER)
    return _NEVER if variant else 2


def _split(platform: str) -> tuple[str, str, str]:
    os_name, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    return os_name, architecture, variant

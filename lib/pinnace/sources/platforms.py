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
#: Other names that users know.
_SHORT = {
    **_MACHINES,
    "armv8": "arm64",
    "armhf": "arm/v7",
    "armv7l": "arm/v7",
    "armel": "arm/v6",
    "i386": "386",
}
_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9]+(/[a-z0-9.]+)?")

#: The variant that no variant means, where variants are levels of which each runs what is for lower ones
#: (image-spec, image-index.md; containerd takes arm for arm/v7). amd64: the psABI's levels.
_BASE_LEVELS = {"amd64": 1, "arm64": 8, "arm": 7}
_LEVEL = re.compile(r"v([0-9]{1,2})")


def host() -> str:
    """This machine's platform. Raises HostError if images have no name for its processor.

    It has no variant: the nodes of a cluster that differ in this use the same image.
    """
    machine = os.uname().machine
    if machine not in _MACHINES:
        raise HostError(f"there are no images for {machine} machines", identifier="unknown-architecture")
    return f"linux/{_MACHINES[machine]}"


def parse(text: str) -> str:
    """The platform that a user means by ``text``: ``arm64``, ``arm/v7`` or ``linux/arm64``.

    A variant that is implied is left out: ``linux/arm64/v8`` is ``linux/arm64``. Raises UsageError.
    """
    first, separator, rest = text.partition("/")
    if not separator or first in _SHORT or first in _BASE_LEVELS:
        text = f"linux/{_SHORT.get(first, first)}{separator}{rest}"
    else:
        architecture, separator, variant = rest.partition("/")
        text = f"{first}/{_SHORT.get(architecture, architecture)}{separator}{variant}"
    if not _PLATFORM.fullmatch(text):
        raise UsageError(f"{text!r} is no platform", hint="write linux/amd64 or linux/arm64")
    os_name, architecture, variant = _split(text)
    if architecture == "arm" and not variant:
        return f"{text}/v7"  # as everybody writes it
    implied = architecture in ("amd64", "arm64") and variant == f"v{_BASE_LEVELS[architecture]}"
    return f"{os_name}/{architecture}" if implied else text


def matches(offered: str, wanted: str) -> bool:
    """Whether an image for ``offered`` may stand for ``wanted``."""
    return _split(offered)[:2] == _split(wanted)[:2] and rank(offered, wanted) < _NEVER


_NEVER = 999


def rank(offered: str, wanted: str) -> int:
    """How well two platforms of the same architecture agree: 0 is best, 999 not at all.

    Of levels that the wanted one includes the highest is best: for amd64/v3 that is v3, v2, v1.
    """
    _, architecture, variant = _split(offered)
    want = _split(wanted)[2]
    if variant == want:
        return 0
    has, needs = _level(architecture, variant), _level(architecture, want)
    if has is None or needs is None:
        return 998 if want and not variant else _NEVER
    return _NEVER if has > needs else 1 + needs - has


def _level(architecture: str, variant: str) -> int | None:
    base = _BASE_LEVELS.get(architecture)
    if base is None or not variant:
        return base
    match = _LEVEL.fullmatch(variant)
    return int(match[1]) if match else None


def _split(platform: str) -> tuple[str, str, str]:
    os_name, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    return os_name, architecture, variant

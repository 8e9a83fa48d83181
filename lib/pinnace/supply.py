"""From an image reference to a finished squashfs file in the store."""

from __future__ import annotations

from typing import Any

from pinnace.reference import Reference
from pinnace.store import Image, Store


def ensure(
    reference: Reference, *, store: Store, settings: Any, platform: str | None = None,
    progress: Any = None, refresh: bool = False,
) -> Image:
    raise NotImplementedError

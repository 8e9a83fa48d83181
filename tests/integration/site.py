"""A store of a test's own, and what a user of it would have read."""

from __future__ import annotations

from pathlib import Path

from integration.registry import Registry
from pinnace import config
from pinnace.progress import Progress
from pinnace.store import Store


class Lines(Progress):
    """Keeps the messages."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


class StoreSite:
    """A store below ``base``, its settings and a registry."""

    def __init__(self, base: Path, registry: Registry) -> None:
        self.base = base
        self.registry = registry
        self.root = base / "store"
        self.store = Store(str(self.root))
        self.environment = {"HOME": str(base), "XDG_CONFIG_HOME": str(base), "PINNACE_STORE": str(self.root)}
        self.settings = config.load(self.environment, directory=str(base))
        self.progress = Lines()

    def leftovers(self) -> list[str]:
        """Temporary files and locks."""
        return [path.name for part in ("tmp", "locks") for path in (self.root / part).glob("*")]

"""What the store knows of an image and of a reference, and how that is written down."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

TYPE_CHECKING = False  # typing itself costs milliseconds of every start
if TYPE_CHECKING:
    from typing import Any

#: Version of what lies in an image file and of how layers are merged. Another number is another store.
BUILD_FORMAT = 1


@dataclass(frozen=True)
class Image:
    """An image that is complete in the store.

    ``digest`` is its platform manifest's, ``path`` its squashfs file, ``config`` the "config"
    object of the OCI image configuration (Env, Entrypoint, Cmd, WorkingDir, User, Labels…),
    ``size`` the file's bytes, ``sha256`` the file's own digest, ``layers`` the diff IDs from the
    bottom up, ``created_at`` the time of the build in seconds since 1970.
    """

    digest: str
    path: str
    config: dict[str, Any]
    platform: str
    size: int
    layers: tuple[str, ...]
    reference: str
    created_at: float
    sha256: str = ""
    format: int = BUILD_FORMAT

    def to_json(self) -> bytes:
        """The image's record. The path is left out: it follows from the store's place."""
        facts = asdict(self)
        del facts["path"]
        return json.dumps(facts, indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, content: bytes, path: str) -> Image:
        """Raises ValueError, KeyError or TypeError if ``content`` is no image record."""
        facts = json.loads(content)
        facts["layers"] = tuple(facts["layers"])
        return cls(path=path, **facts)


@dataclass(frozen=True)
class Resolution:
    """What a reference meant on one platform when a registry was asked.

    ``digest`` is the platform manifest's, ``source`` that of what the registry answered with,
    which is another one if that was an index. ``time`` is in seconds since 1970. ``origin`` is what
    the image was imported from if that was no registry: then there is nobody to ask again.
    """

    digest: str
    source: str
    time: float
    platform: str
    reference: str = field(default="")
    origin: str = ""

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Resolution:
        """Raises ValueError, KeyError or TypeError if ``content`` is no such record."""
        return cls(**json.loads(content))

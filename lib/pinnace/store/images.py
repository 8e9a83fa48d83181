"""What the store knows of an image, a layer and a reference, and how that is written down.

A record may have fields that this version does not know: they are passed over.
"""

from __future__ import annotations

import json
import os

from pinnace import digest as digests
from pinnace import documents
from pinnace.tuples import NamedTuple

TYPE_CHECKING = False  # typing itself costs milliseconds of every start
if TYPE_CHECKING:
    from typing import Any

#: Version of what lies in an image file and of how layers are merged. Another number is another store.
BUILD_FORMAT = 1
#: No file has so many bytes, and no time so many seconds.
_ENDLESS = 1 << 63


class Origin(NamedTuple):
    """Where an image came from, and who had it made.

    ``source`` is ``registry`` or what file it was imported from, ``digest`` that of what the source
    answered with: an index perhaps. ``user``, ``uid`` and ``host`` are those of the process.
    """

    source: str = ""
    digest: str = ""
    user: str = ""
    uid: int = -1
    host: str = ""

    @classmethod
    def here(cls, source: str, digest: str) -> Origin:
        """The origin of what this process makes."""
        import pwd

        uid = os.getuid()
        try:
            user = pwd.getpwuid(uid).pw_name
        except KeyError:
            user = ""
        return cls(source, digest, user, uid, os.uname().nodename)


class Image(NamedTuple):
    """An image that is complete in the store.

    ``digest`` is its platform manifest's, ``path`` its squashfs file, ``config`` the "config"
    object of the OCI image configuration (Env, Entrypoint, Cmd, WorkingDir, User, Labels…),
    ``size`` the file's bytes, ``layers`` the diff IDs from the bottom up, ``created_at`` the time of
    the build in seconds since 1970, ``builder`` what built it.

    ``sha256`` is the file's own digest, or empty: a file that was spliced is what its layers give, and
    theirs are known. To hash it as well would take longer than to make it.
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
    origin: Origin = Origin()
    builder: str = ""

    @property
    def store(self) -> str:
        """The directory of the store that the image lies in."""
        return os.path.dirname(os.path.dirname(os.path.dirname(self.path)))

    def as_dict(self) -> dict[str, Any]:
        """All that is known of it, as data."""
        return {**self._asdict(), "origin": self.origin._asdict()}

    def to_json(self) -> bytes:
        """The image's record. The path is left out: it follows from the store's place."""
        facts = self.as_dict()
        del facts["path"]
        return _encoded(facts)

    @classmethod
    def from_json(cls, content: bytes, path: str) -> Image:
        """Raises ValueError, KeyError or TypeError if ``content`` is no image record."""
        facts = _facts(cls, documents.parse(content))
        facts["layers"] = tuple(facts["layers"])
        if "origin" in facts:
            facts["origin"] = Origin(**_facts(Origin, facts["origin"]))
        image = cls(**{**facts, "path": path})
        # Another's record, in a store that is shared, may hold anything.
        if not all(map(digests.is_digest, (image.digest, *image.layers))):
            raise ValueError("a record with a wrong digest")
        _check(image, dict, "config")
        _check(image, str, "platform", "reference", "sha256", "builder")
        _check(image, (int, float), "size", "created_at")
        return image


class Layer(NamedTuple):
    """A layer that is complete in the store.

    ``size`` and ``sha256`` are those of its squashfs file, of which ``compressor`` and ``block_size``
    (bytes) say how it is written. ``source`` and ``media_type`` are those of the blob it was made from.
    """

    diff_id: str
    size: int
    sha256: str
    compressor: str
    block_size: int
    source: str = ""
    media_type: str = ""
    created_at: float = 0.0
    builder: str = ""
    format: int = BUILD_FORMAT

    def to_json(self) -> bytes:
        return _encoded(self._asdict())

    @classmethod
    def from_json(cls, content: bytes) -> Layer:
        """Raises ValueError, KeyError or TypeError if ``content`` is no layer record."""
        layer = cls(**_facts(cls, documents.parse(content)))
        if not (digests.is_digest(layer.diff_id) and digests.is_digest(layer.sha256)):
            raise ValueError("a record with a wrong digest")
        _check(layer, int, "size", "block_size")
        _check(layer, str, "compressor")
        return layer


class Resolution(NamedTuple):
    """What a reference meant on one platform when a registry was asked.

    ``digest`` is the platform manifest's, ``source`` that of what the registry answered with,
    which is another one if that was an index. ``time`` is in seconds since 1970. ``origin`` is what
    the image was imported from if that was no registry: then there is nobody to ask again.
    """

    digest: str
    source: str
    time: float
    platform: str
    reference: str = ""
    origin: str = ""

    def to_json(self) -> bytes:
        return _encoded(self._asdict())

    @classmethod
    def from_json(cls, content: bytes) -> Resolution:
        """Raises ValueError, KeyError or TypeError if ``content`` is no such record."""
        resolution = cls(**_facts(cls, documents.parse(content)))
        if not digests.is_digest(resolution.digest):
            raise ValueError("a record with a wrong digest")
        _check(resolution, str, "source", "platform", "reference", "origin")
        _check(resolution, (int, float), "time")
        return resolution


def _check(record: object, kind: Any, *names: str) -> None:
    for name in names:
        value = getattr(record, name)
        if not isinstance(value, kind):
            raise TypeError(f"{name} is of a wrong type")
        # Also no NaN; what is reckoned with it is to stay in the range of a float.
        if isinstance(value, (int, float)) and not 0 <= value < _ENDLESS:
            raise ValueError(f"{name} is out of range")


def _facts(record: Any, document: Any) -> dict[str, Any]:
    """Those values of a document that ``record`` has fields for."""
    if not isinstance(document, dict):
        raise TypeError("a record is an object")
    return {name: value for name, value in document.items() if name in record._fields}


def _encoded(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts, indent=1, sort_keys=True).encode()

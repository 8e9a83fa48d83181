"""A squashfs file that is compressed as the store's are: an image of one layer, not compressed again.

The layer is called after the digest of the file itself, for want of a tar stream.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from pinnace import digest as digests
from pinnace.errors import ImageError
from pinnace.layers import foreign
from pinnace.layers.foreign import ForeignFile
from pinnace.reference import Reference
from pinnace.sources import LayerBlob, LocalSource, SourceImage, enroot, synthetic

#: The bytes that are read of a file that tells the configuration.
_MAX_FILE = 1 << 20
_FILES = frozenset((enroot.ENVIRONMENT, enroot.SCRIPT, enroot.LOCAL))
MEDIA_TYPE = "application/vnd.pinnace.image.layer.v1.squashfs"


class SquashFileSource(LocalSource):
    """An ``ImageSource`` for a file that ``foreign.fits`` the store."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._before: os.stat_result | None = None

    def name(self) -> str | None:
        """None: enroot's files don't tell."""
        return None

    def current_digest(self, reference: Reference) -> str | None:
        """Unknown before all of it is read."""
        return None

    def resolve(self, reference: Reference, platform: str) -> SourceImage:
        """Hash the file and describe it as an image for ``platform``. Raises ImageError."""
        self._before = os.stat(self._path)
        digest, size = digests.of_file(self._path), self._before.st_size
        file = ForeignFile(self._path)
        with file:
            config = enroot.config_of(file.files(_FILES, _MAX_FILE))
        configuration = synthetic.configuration(platform, config, [digest])
        manifest = synthetic.manifest_digest(configuration, [(digest, size)])
        layers = (LayerBlob(digest, size, digest, MEDIA_TYPE),)
        return SourceImage(reference, manifest, manifest, platform, config, layers)

    def open(self, image: SourceImage, layer: LayerBlob) -> Iterator[bytes]:
        """The file's bytes."""
        with open(self._path, "rb") as stream:
            while piece := stream.read(1 << 20):
                yield piece

    def make(self, image: SourceImage, layer: LayerBlob, target: str) -> bool:
        """Write the layer's file. Raises ImageError if this file was changed since it was hashed."""
        foreign.adopt(self._path, target)
        before, after = self._before, os.stat(self._path)
        if before is None or _version(before) != _version(after):
            os.unlink(target)
            raise ImageError(
                f"{self._path} was changed while it was read", hint="try again", identifier="source-changed"
            )
        return True


def _version(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
